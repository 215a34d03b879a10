"""Small engines for the tests of collecting: they answer sums, rightly or wrongly as the seed decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from thinksmith.distill.collect.teachers import Teacher
from thinksmith.engines.contract import EngineInfo
from thinksmith.records import Attempt, Problem, Request, Sampling, Trace, Usage

SAMPLING = Sampling(temperature=1.0, seed=3, max_tokens=40)
Answers = Callable[[Request], Trace | Exception | float | None]
"""What becomes of a request: a trace, a failure, seconds to wait before the usual, or the usual."""


def problems(count: int = 12) -> list[Problem]:
    return [Problem(f"sum/{a}", f"{a} + {a + 1}", str(2 * a + 1)) for a in range(count)]


def answered(request: Request, name: str = "sums", price: float | None = None) -> Trace:
    """By question and seed alone: right in about half of the cases, of 5 to 20 tokens."""
    question = request.messages[-1]["content"]
    dice = sha256(f"{question}\0{request.sampling.seed}".encode()).digest()
    a, b = map(int, question.split(" + "))
    said, tokens = a + b + (dice[0] % 2), 5 + dice[1] % 16
    usage = None if price is None else Usage(cost=price * tokens)
    answer, ids = f"The answer is {said}.", tuple(range(tokens))
    return Trace("hm", answer, "closed", ids, thinking_tokens=4, sampling=request.sampling, model=name, usage=usage)


@dataclass
class Sums:
    """Fulfils the contract of engines. `script` decides of some requests what becomes of them."""

    name: str = "sums"
    slots: int = 16
    script: Answers = lambda request: None
    weights: str = "w1"
    asked: list[Request] = field(default_factory=list)
    held: int = 0
    most_held: int = 0
    cancelled: int = 0
    closed: bool = False

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(self.name, weights_hash=self.weights)

    @property
    def room(self) -> int:
        return max(0, self.slots - self.held)

    async def sample(self, request: Request) -> list[Trace]:
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        self.asked.append(request)
        try:
            decided = self.script(request)
            await asyncio.sleep(decided if isinstance(decided, float) else 0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.held -= 1
        if isinstance(decided, Exception):
            raise decided
        return [decided if isinstance(decided, Trace) else self.usual(request)]

    def usual(self, request: Request) -> Trace:
        return answered(request, self.name)

    def stream(self, request):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    def sample_all(self, requests):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Paid(Sums):
    """Its tokens cost `price` dollars each, those of the prompt nothing."""

    price: float | None = 0.01

    def cost(self, prompt_tokens: int, sampled: int) -> float | None:
        return None if self.price is None else self.price * sampled

    def usual(self, request: Request) -> Trace:
        return answered(request, self.name, self.price)


@dataclass
class Notes:
    """Looks on and writes down."""

    attempts: list[Attempt] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    on_attempt: Callable[[Attempt], None] = lambda attempt: None

    def begin(self, ledger, teachers, agenda) -> None:  # type: ignore[no-untyped-def]
        self.ledger, self.teachers, self.agenda = ledger, teachers, agenda

    def attempt(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.on_attempt(attempt)

    def note(self, text: str) -> None:
        self.notes.append(text)


def staff(*engines: Sums, most: Sequence[int] = (), sampling: Sampling = SAMPLING) -> list[Teacher]:
    bounds = [*most, *[0] * len(engines)]
    return [Teacher(engine, sampling, bound) for engine, bound in zip(engines, bounds, strict=False)]
