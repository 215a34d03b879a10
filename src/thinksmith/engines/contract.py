"""What an engine is: anything that turns requests into traces.

Callers simply await `sample`; the engine batches whatever is waiting. `room` is the back-pressure: how many more
requests it wants now. `sample_all` is the synchronous door for scripts and trainers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from thinksmith.records import Message, Request, Sampling, Trace
from thinksmith.thinking import Tags


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is and can do. `weights_hash` is empty where the weights are out of sight (an endpoint);
    `sampling` is what the model's makers advise, our defaults where they advise nothing. `vocabulary`: how many tokens
    the model chooses from, 0 where nobody says."""

    name: str
    weights_hash: str = ""
    context_length: int = 0
    logprobs: bool = False
    prefill: bool = False
    token_ids: bool = False
    budget: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    vocabulary: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed trace: text of the `thinking` or of the `answer`. The last delta carries the trace.

    `reset` takes back all that came before: an endpoint's stream broke, and what it was asked again began otherwise.
    """

    part: Literal["thinking", "answer", "reset", "done"]
    text: str = ""
    trace: Trace | None = None


@runtime_checkable
class Engine(Protocol):
    """The contract. Implementations need not inherit from it."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def room(self) -> int:
        """How many more requests the engine wants now; 0 means wait."""
        ...

    async def sample(self, request: Request) -> list[Trace]:
        """The request's `n` traces, in order. A model that fails gives a trace with finish="error", no exception."""
        ...

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """Deltas of one completion (n must be 1) as they are sampled; the last one has part="done" and the trace."""
        ...

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        """Synchronous: the traces of every request, in order."""
        ...

    async def aclose(self) -> None:
        """Free what the engine holds. Running requests are cancelled."""
        ...


@runtime_checkable
class Releases(Protocol):
    """An engine that holds memory which only sampling needs, beside the weights."""

    def release(self) -> None:
        """Give it back until the next request. Nothing may be running."""
        ...


@runtime_checkable
class Priced(Protocol):
    """An engine whose tokens are paid for, or may be."""

    def cost(self, prompt_tokens: int, sampled: int) -> float | None:
        """US dollars for so many tokens; None where there is no price."""
        ...


@runtime_checkable
class Reads(Protocol):
    """An engine whose token ids can be turned into text here: what joins pieces of a trace exactly needs that."""

    @property
    def tags(self) -> Tags:
        """The tags of its model's thinking."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included and spaces untouched."""
        ...


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Of a text's own tokens: `logprobs` (nats, at temperature 1) of each after those before it, and the likeliest
    (id, log-probability) pairs there. None for the first, which has nothing before it."""

    logprobs: tuple[float | None, ...]
    top: tuple[tuple[tuple[int, float], ...] | None, ...]


@runtime_checkable
class Scores(Protocol):
    """An engine that tells how likely a given text is."""

    async def prompt_logprobs(self, ids: Sequence[int], top: int = 0) -> PromptLogprobs: ...


@runtime_checkable
class Encodes(Protocol):
    """An engine whose tokenizer is here."""

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of `text` as it stands: nothing is put before or after it."""
        ...


@runtime_checkable
class Opens(Protocol):
    """An engine that knows how its model's turns begin."""

    @property
    def opens_thinking(self) -> bool:
        """Does the template open a thinking?"""
        ...


@runtime_checkable
class Turns(Protocol):
    """An engine that knows how its model's turns follow each other: so a conversation goes on from the ids that were
    sampled, and nothing of it is tokenised again."""

    def turn(self, messages: Sequence[Message], *, ended: bool) -> tuple[int, ...]:
        """The ids between what the assistant sampled and where it goes on after `messages`: the end of its turn (unless
        it sampled that: `ended`), the messages, and the opening of its next turn, as its template writes them. What a
        tool gave is text, whatever stands in it. Raises UserError where the template cannot."""
        ...
