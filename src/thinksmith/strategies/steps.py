"""A turn made step by step: what search over steps of the thinking asks for.

A step ends at a line's end, a paragraph's or a sentence's. What follows it is sampled behind it: token for token where
the engine takes token ids (`continuing`), else behind the text, where an endpoint goes on with a turn that has begun.
Once the thinking is closed, its answer is one piece. A model that does not think apart has steps of its answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from thinksmith.engines.contract import Engine, Reads
from thinksmith.errors import UserError
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.continuing import extend, has_ended
from thinksmith.thinking import detect_tags, split

Step = Literal["line", "paragraph", "sentence"]
ENDS: dict[Step, str] = {"line": "\n", "paragraph": "\n\n", "sentence": ". "}
"""The text that ends a step."""


@dataclass(frozen=True, slots=True)
class Path:
    """A turn up to the end of some step, as one `trace`. `start`: how many of its tokens stood before the last step.

    `ended`: nothing comes behind it. `blanks`: so many of its last pieces were empty. `scores` has one for each step.
    """

    trace: Trace
    start: int = 0
    ended: bool = False
    blanks: int = 0
    scores: tuple[float, ...] = ()

    @property
    def thought(self) -> bool:
        """Is the thinking over, and only the answer to come?"""
        return self.trace.thinking_status == "closed"

    @property
    def key(self) -> tuple[str, bool]:
        """Of two paths with the same key one is enough."""
        return self.trace.completion, self.ended


@dataclass(frozen=True, slots=True)
class Walk:
    """How paths of one problem begin and go on. `sampling` bounds each path as a whole, `end` ends its steps.

    UserError for an engine that can go on neither from tokens nor from a text.
    """

    problem: Problem
    engine: Engine
    sampling: Sampling
    end: str

    def __post_init__(self) -> None:
        if not (self._by_token or self.engine.info.prefill):
            raise UserError(
                f"{self.engine.info.name} cannot go on with a turn that has begun, and search over steps needs that: "
                "name a model that runs in this process, or an endpoint that takes a prefill"
            )
        if self.sampling.stop and not self._by_token:
            raise UserError(
                f"{self.engine.info.name} does not tell which stop text ended a step: leave the sampling's own out"
            )

    @property
    def _by_token(self) -> bool:
        return self.engine.info.token_ids and isinstance(self.engine, Reads)

    async def begin(self, seed: int, *, whole: bool = False) -> Path:
        """A path of one step, or with `whole` of the whole turn."""
        sampling = replace(self._bounds(self.sampling, whole), seed=seed)
        (trace,) = await self.engine.sample(Request(messages=self.problem.messages, sampling=sampling))
        return self._path(trace, trace, Path(trace))

    async def go_on(self, path: Path, seed: int, *, whole: bool = False) -> Path:
        """The path and one step more, or with `whole` all that is left; `seed` is that of this piece."""
        trace, most = path.trace, self.sampling.max_thinking_tokens
        if path.ended:
            return path
        closing = most is not None and trace.thinking_tokens >= most  # the end is forced, line ends and all
        bounds = self._bounds(self.sampling, whole or closing)
        left = replace(bounds, max_tokens=self.sampling.max_tokens - trace.tokens)
        if self._by_token:
            longer = piece = await extend(self.engine, trace, left, seed=seed)
        else:
            longer, piece = await self._behind_text(trace, left, seed)
        return self._path(longer, piece, replace(path, start=trace.tokens))

    def record(self, path: Path) -> Trace:
        """The path's trace as if it had been one request."""
        return replace(path.trace, sampling=replace(self.sampling, seed=path.trace.sampling.seed))

    def _bounds(self, sampling: Sampling, whole: bool) -> Sampling:
        return sampling if whole else replace(sampling, stop=(*sampling.stop, self.end))

    def _path(self, trace: Trace, piece: Trace, before: Path) -> Path:
        blanks = 0 if piece.completion.strip() else before.blanks + 1
        ended = self._ended(trace, blanks)
        if trace.finish == "stop" and not ended and trace.tokens >= self.sampling.max_tokens:
            trace, ended = replace(trace, finish="length"), True
        return replace(before, trace=trace, ended=ended, blanks=blanks)

    def _ended(self, trace: Trace, blanks: int) -> bool:
        if trace.finish != "stop" or self.end not in trace.sampling.stop:
            return True
        if self._by_token:
            reader = self.engine
            assert isinstance(reader, Reads)
            at_step = reader.decode(trace.token_ids).startswith(trace.completion + self.end)
            return has_ended(self.engine, trace) or not at_step
        # A server does not say whether a stop text ended it or the model: a model that had ended says nothing more.
        return blanks > 1

    async def _behind_text(self, trace: Trace, sampling: Sampling, seed: int) -> tuple[Trace, Trace]:
        """The trace gone on with, and the piece that came."""
        thought = trace.thinking_tokens
        most = None if sampling.max_thinking_tokens is None else max(0, sampling.max_thinking_tokens - thought)
        least = max(0, sampling.min_thinking_tokens - thought)
        rest = replace(sampling, seed=seed, max_thinking_tokens=most, min_thinking_tokens=least)
        prefill = trace.text + self.end
        (piece,) = await self.engine.sample(Request(messages=self.problem.messages, prefill=prefill, sampling=rest))
        text = piece.text if piece.text.startswith(trace.opened) else prefill + piece.completion
        parts = split(text, detect_tags(text))
        known = trace.logprobs is not None and piece.logprobs is not None
        longer = replace(
            piece,
            thinking=parts.thinking,
            answer=parts.answer,
            thinking_status=parts.status,
            logprobs=(*(trace.logprobs or ()), *(piece.logprobs or ())) if known else None,
            thinking_tokens=thought + piece.thinking_tokens,
            answer_tokens=trace.answer_tokens + piece.answer_tokens,
            sampling=replace(rest, seed=trace.sampling.seed),
            seconds=trace.seconds + piece.seconds,
            prompt_tokens=trace.prompt_tokens,
            opened=trace.opened,
            completion=text.removeprefix(trace.opened),
            usage=None,  # each piece has its own
        )
        return longer, piece
