"""Bookkeeping of what is sampled: a job is a request, a row is one of its samples.

Only Python lists and numbers here; the tensors are in `slots.py`. Most rows need nothing but their count of tokens;
those with a thinking budget, stop strings or a grammar have a `Watch`, which reads along.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch

from thinksmith.engines.local.guide import Guide, Plan
from thinksmith.engines.local.prompts import Prompt
from thinksmith.engines.local.reading import Text
from thinksmith.policy.policy import Policy
from thinksmith.records import Finish, Request, Trace
from thinksmith.thinking import TURN, Splitter, Tags, TokenSplitter, tokens_before


@dataclass(eq=False, slots=True)
class Job:
    """A request on its way. `done` resolves to its rows, in order; cancelling it takes them out of the batch."""

    request: Request
    prompt: tuple[int, ...]
    opened: str
    thinks: bool  # the prompt leaves a thinking block open
    plan: Plan | None = None  # of an answer that has a grammar
    done: Future[list[Row]] = field(default_factory=Future)
    started: float = field(default_factory=time.perf_counter)
    rows: list[Row] = field(default_factory=list)

    def settle(self) -> None:
        """Resolve `done` if every row has ended."""
        if all(row.finish for row in self.rows) and not self.done.done():
            with suppress(InvalidStateError):  # it was cancelled this very moment
                self.done.set_result(self.rows)


@dataclass(eq=False, slots=True)
class Row:
    """One sample. `finish` is None while it runs; `text` is set where a stop string cuts the completion."""

    job: Job
    index: int
    limit: int  # tokens that it may still sample
    watch: Watch | None = None
    slot: int = -1
    source: Prompt | None = None  # what it shares with others while it is in the batch
    blocks: list[int] = field(default_factory=list)  # its keys and values: the prompt's blocks, then its own
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    forced: list[int] = field(default_factory=list)  # positions in `tokens` that the engine filled
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    finish: Finish | None = None
    text: str | None = None
    error: str = ""
    ended: float = 0.0

    @property
    def ready(self) -> bool:
        """All of its prompt but the last token, which is the input of its first step, is in the pool."""
        return self.source is not None and self.source.done == self.source.total

    def restart(self) -> None:
        """Forget what was sampled. The same will be sampled again: random numbers depend on the position alone."""
        self.tokens.clear()
        self.logprobs.clear()
        self.forced.clear()
        self.top.clear()
        self.finish, self.text, self.error = None, None, ""
        self.watch = self.watch and self.watch.anew()

    def end(self, finish: Finish, error: str = "") -> None:
        self.finish = finish
        self.error = error
        self.ended = time.perf_counter()


@dataclass(frozen=True, slots=True)
class Closing:
    """How a model's thinking ends, as tokens: what is forced, and what is withheld."""

    force: tuple[int, ...]
    withhold: torch.Tensor

    @classmethod
    def of(cls, policy: Policy) -> Closing:
        """Forced: the end tag on a line of its own. Withheld: its first token, any with all of it, ends of turn."""
        end = policy.tags.end
        lone, broken = policy.encode(end), policy.encode("\n" + end)
        whole = {number for piece, number in policy.tokenizer.get_vocab().items() if end in piece}
        return cls(broken, torch.tensor(sorted({lone[0], *whole, *policy.eos_ids}), device=policy.device))


@dataclass(frozen=True, slots=True)
class Steer:
    """How a row's next token is not free: it is `force`; or it is none of `withhold`, and where one of them is drawn,
    `instead` takes its place (None: another is drawn). Where there is a grammar, it is one of `allow` (packed bits;
    None: any), and none of `ban`."""

    force: int | None = None
    withhold: torch.Tensor | None = None
    instead: int | None = None
    allow: torch.Tensor | None = None
    ban: tuple[int, ...] = ()


FREE = Steer()


class Watch:
    """Reads one row as it grows: stop strings, the thinking's bounds, the answer's grammar.

    The thinking is only taken apart when its length may matter, that is from token number `max_thinking_tokens` on, and
    up to token number `min_thinking_tokens`.
    """

    def __init__(self, policy: Policy, job: Job, closing: Closing) -> None:
        self._made_of = (policy, job, closing)
        sampling = job.request.sampling
        self._stop = tuple(filter(None, sampling.stop))
        self._budget = sampling.max_thinking_tokens
        self._minimum = sampling.min_thinking_tokens
        self._withhold = closing.withhold
        self._closing = (*policy.encode(sampling.closing), *closing.force)
        self._wait = policy.encode(sampling.wait) if self._minimum else ()
        self._eos = {*policy.eos_ids, *sampling.stop_ids}
        self._tokens = TokenSplitter(policy.decode, policy.tags, job.thinks)
        self._fed = 0  # tokens that _tokens has seen
        self._text = Text(policy, job) if self._stop else None
        self._forced_to = 0  # tokens up to the end of what was forced last
        self._guide = None if job.plan is None else Guide(job.plan)
        self._ends = tuple(policy.eos_ids)
        self._due: list[int] = []  # what comes next, whatever the model says

    @staticmethod
    def wanted(job: Job) -> bool:
        sampling = job.request.sampling
        bounded = sampling.max_thinking_tokens is not None or sampling.min_thinking_tokens > 0
        return bounded or any(sampling.stop) or job.plan is not None

    def anew(self) -> Watch:
        """One that has read nothing yet, for a row that begins again."""
        return Watch(*self._made_of)

    def before(self, row: Row) -> Steer:
        """What the next token must be, or must not be."""
        count = len(row.tokens)
        over = self._budget is not None and not self._due and count >= max(self._budget, self._forced_to)
        if over and self._open(row) and self._tokens.thinking_tokens >= (self._budget or 0):
            self._due = list(self._closing)
            self._forced_to = count + len(self._due)
        if self._due:
            return Steer(force=self._due[0])
        early = count < self._minimum and self._open(row)
        steer = Steer(withhold=self._withhold, instead=self._wait[0] if self._wait else None) if early else FREE
        return steer if self._guide is None else self._guided(self._guide, steer)

    def _guided(self, guide: Guide, steer: Steer) -> Steer:
        """The same, in the bounds of the grammar; a thinking that may not end yet does not end the turn either."""
        allow = guide.allow()
        if allow is not None or not guide.thinks:
            return replace(steer, allow=allow)
        ends = self._ends if steer.withhold is None else ()
        return replace(steer, ban=(*guide.ban(), *ends))

    def after(self, row: Row, swapped: bool) -> None:
        """The row has a new token; `swapped`: it stands where the end of the thinking was withheld."""
        if swapped:
            self._due = list(self._wait)
        if self._due:
            self._due.pop(0)
            row.forced.append(len(row.tokens) - 1)
        if self._guide is not None and row.tokens[-1] not in self._ends:
            self._due += self._guide.after(row.tokens[-1])
            if self._guide.error:
                row.end("error", self._guide.error)
                return
        if self._text is not None and row.tokens[-1] not in self._eos:
            at, _ = self._text.feed(row.tokens[-1], self._stop)
            if at is not None:
                row.text = self._text.text[:at]
                row.end("stop")

    def cut_by_budget(self, row: Row) -> bool:
        """Did the row run out of tokens while the end of its thinking was forced, or right after?"""
        return 0 < len(row.tokens) <= self._forced_to

    def _open(self, row: Row) -> bool:
        for token in row.tokens[self._fed :]:
            self._tokens.feed(token)
        self._fed = len(row.tokens)
        return self._tokens.status == "truncated"


def trace_of(policy: Policy, row: Row) -> Trace:
    """The record of an ended row.

    Thinking and answer are those of the whole turn, prefill included; `thinking_tokens` and `answer_tokens` count what
    was sampled, as TokenSplitter counts: their sum is the number of sampled tokens.
    """
    job = row.job
    ends = (*policy.eos_ids, *job.request.sampling.stop_ids)
    shown = len(row.tokens) - bool(row.tokens and row.tokens[-1] in ends)
    completion = policy.decode(row.tokens[:shown]) if row.text is None else row.text
    splitter = Splitter(policy.tags)
    splitter.feed(job.opened)
    splitter.feed(completion)
    splitter.finish()
    thinking_tokens = len(row.tokens)
    if splitter.answer_from is not None:
        thinking_tokens = tokens_before(policy.decode, row.tokens, splitter.answer_from - len(job.opened))
    return Trace(
        thinking=splitter.thinking,
        answer=splitter.answer,
        thinking_status=splitter.status,
        token_ids=tuple(row.tokens),
        logprobs=tuple(row.logprobs),
        thinking_tokens=thinking_tokens,
        answer_tokens=len(row.tokens) - thinking_tokens,
        finish=row.finish or "error",
        model=policy.name,
        sampling=job.request.sampling,
        seconds=row.ended - job.started,
        prompt_tokens=len(job.prompt),
        prompt_ids=job.prompt,
        opened=job.opened,
        completion=completion,
        error=row.error,
        forced=tuple(row.forced),
        top_logprobs=tuple(row.top) if job.request.sampling.top_logprobs else None,
    )


def opened_in(prompt: str, tags: Tags) -> str:
    """How the assistant's turn begins in a prompt given as text; "" if no thinking stands at its start."""
    turn = TURN.split(prompt)[-1].lstrip()
    if turn.startswith(tuple(tags.starts)):
        return turn
    return tags.start if turn.rstrip().endswith(tags.start) else ""


def still_thinks(opened: str, tags: Tags) -> bool:
    """Does a turn that begins so leave thinking open?"""
    splitter = Splitter(tags)
    splitter.feed(opened)
    splitter.finish()
    return splitter.status == "truncated"
