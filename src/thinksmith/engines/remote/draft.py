"""What of a turn has come so far, over however many calls, and the trace that it becomes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from thinksmith.engines.remote.dialects.piece import Said
from thinksmith.engines.remote.names import Endpoint
from thinksmith.engines.remote.prices import Prices
from thinksmith.records import Finish, Sampling, Trace, Usage
from thinksmith.thinking import THINK, Part, Split, Tags, is_open, split


@dataclass(slots=True)
class Draft:
    """One assistant's turn in the making: what the `template` opened, the `prefill`, and the `text` that came after,
    tags included. What a chat's template opens is out of sight, so `template` is there for raw completions alone."""

    prefill: str = ""
    template: str = ""
    tags: Tags = THINK
    text: str = ""
    finish: Finish = "stop"
    error: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    answer_tokens: int = 0
    lost_tokens: int = 0
    estimated: bool = False
    calls: int = 0
    logprobs: tuple[float, ...] | None = None
    notes: dict[str, None] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    first: dict[Part, float] = field(default_factory=dict)
    _parts: tuple[tuple[str, str], Split] | None = None

    @property
    def opened(self) -> str:
        """With what the turn began before anything was sampled."""
        return self.template + self.prefill

    @property
    def is_open(self) -> bool:
        """Has the prefill opened the thinking?"""
        return bool(self.opened) and is_open(self.opened, self.tags)

    @property
    def parts(self) -> Split:
        """Of the text; kept, since it is asked for several times."""
        key = self.text, self.opened
        if self._parts is None or self._parts[0] != key:
            self._parts = key, split(self.text, self.tags, self.is_open)
        return self._parts[1]

    @property
    def whole(self) -> str:
        """The assistant's turn so far."""
        return self.opened + self.text

    @property
    def place(self) -> Literal["start", "thinking", "answer"]:
        """Where the next token goes."""
        if self.parts.status == "truncated":
            return "thinking"
        return "answer" if self.text.strip() else "start"

    @property
    def sampled(self) -> int:
        """Tokens of this turn so far; those that were lost do not count."""
        return self.thinking_tokens + self.answer_tokens

    def saw(self, part: Part) -> None:
        """A piece of it came just now."""
        self.first.setdefault(part, time.perf_counter() - self.started)

    def recast(self) -> None:
        """What came as answer was thinking."""
        if "answer" in self.first:
            self.first.setdefault("thinking", self.first.pop("answer"))

    def note(self, *texts: str) -> None:
        self.notes |= dict.fromkeys(texts)

    def add(self, said: Said) -> None:
        """What a call brought goes behind what is there; its tokens are counted."""
        first_call = not self.sampled
        self.text += said.completion
        self.finish, self.error = said.finish, said.error
        self.thinking_tokens += said.thinking_tokens
        self.answer_tokens += said.answer_tokens
        self.estimated = self.estimated or said.counted == "estimate"
        if first_call:
            self.prompt_tokens, self.cached_tokens = said.prompt_tokens, said.cached_tokens
        self.logprobs = said.logprobs if first_call else None

    def lose(self, said: Said) -> None:
        """What a call brought does not count: it is asked for again. It was paid for all the same."""
        self.lost_tokens += said.thinking_tokens + said.answer_tokens

    def trace(self, endpoint: Endpoint, sampling: Sampling, prices: Prices) -> Trace:
        """The record."""
        parts = self.parts
        usage = Usage(
            cached_tokens=self.cached_tokens,
            first_thinking_seconds=self.first.get("thinking"),
            first_answer_seconds=self.first.get("answer"),
            cost=prices.cost(endpoint, self.prompt_tokens, self.cached_tokens, self.sampled + self.lost_tokens),
            calls=self.calls,
            lost_tokens=self.lost_tokens,
            counted="estimate" if self.estimated else "server",
            notes=tuple(self.notes),
        )
        return Trace(
            thinking=parts.thinking,
            answer=parts.answer,
            thinking_status=parts.status,
            logprobs=self.logprobs,
            thinking_tokens=self.thinking_tokens,
            answer_tokens=self.answer_tokens,
            finish=self.finish,
            model=endpoint.name,
            sampling=sampling,
            seconds=time.perf_counter() - self.started,
            prompt_tokens=self.prompt_tokens,
            opened=self.opened,
            completion=self.text,
            error=self.error,
            usage=usage,
        )
