"""An engine that remembers: what it is asked again, it answers from the store.

A strategy over many traces is killed in the middle, another strategy looks at the same draws (`strategies/draws.py`),
or the same evaluation is run with more of them: nothing is sampled twice. Every trace is on the disk before the
strategy sees it.

Traces are found by all that decides them: the problem, the whole request (messages or ids, prefill, sampling with its
seed) and the model's weights. They lie in a run of kind `draws` beside each evaluation; where the weights are in sight
(a local model), other evaluations of the same weights are looked through too. What an endpoint said is used again only
within its own evaluation: nobody knows what stands behind its name tomorrow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from thinksmith.engines.around import Around
from thinksmith.engines.contract import Delta, Engine
from thinksmith.records import Attempt, Problem, Request, Trace
from thinksmith.store.attempts import canonical, digest
from thinksmith.store.keeper import Keeper
from thinksmith.store.made import attempts_at, runs_of
from thinksmith.store.store import DRAWS as KIND
from thinksmith.store.store import Store, StoredAttempt, config_hash
from thinksmith.verify import judged_beside

_REQUEST, _INDEX = "request", "index"  # in the notes of a draw


def fingerprint(request: Request) -> str:
    """128 bits over everything that decides the tokens, in hex. How many are asked for, and from which on, does not:
    see `index`. What is not set is left out, so that what was kept before there were tools is found."""
    asked: dict[str, Any] = {"messages": request.messages, "ids": request.token_ids, "prefill": request.prefill}
    if request.tools:
        asked |= {"tools": request.tools, "tool_choice": request.tool_choice}
    if request.schema is not None:
        asked["schema"] = request.schema
    return digest(canonical({**asked, "sampling": asdict(request.sampling)}))[:32]


class Draws:
    """What one model draws for one evaluation: its run in the store, opened when the first trace comes."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        name: str,
        config: Mapping[str, Any],
        *,
        elsewhere: bool = True,
        keep: bool = True,
    ) -> None:
        """`elsewhere`: look through other runs too. `keep` False: only look, for traces that are stored as attempts."""
        info = engine.info
        self.engine = engine
        self.sampled = 0
        """Tokens that were sampled now, and not found."""
        self._store, self._keeping = store, keep
        self._identity = (KIND, name, info.name, info.weights_hash, dict(config))
        found = store.unfinished(KIND, config_hash(*self._identity))
        self._run = found.id if found else ""
        others = runs_of(store, ("eval", KIND), info.name, info.weights_hash) if elsewhere and info.weights_hash else []
        # The evaluation itself holds nothing that it could ask for again.
        self._others = [run for run in others if run not in (self._run, config.get("of"))]
        self._stored = set[str]()
        """Problems of which this process has stored draws; with an interrupted run, all may have some."""
        self._resumed = bool(found)
        self._keeper: Keeper | None = None
        self._known: dict[str, asyncio.Task[_Known] | _Known] = {}
        self._at_work: Counter[str] = Counter()

    @contextmanager
    def at(self, problem: Problem) -> Iterator[KeptEngine]:
        """The engine, for a strategy at work on this problem; what is known of it goes when the last is done."""
        self._at_work[problem.id] += 1
        try:
            yield KeptEngine(self, problem)
        finally:
            self._at_work[problem.id] -= 1
            if not self._at_work[problem.id]:
                del self._at_work[problem.id]
                self._known.pop(problem.id, None)

    async def sample(self, problem: Problem, request: Request) -> list[Trace]:
        known = await self._of(problem)
        key = fingerprint(request) if known.traces or self._keeping else ""
        found = [known.traces.get((key, request.first + at)) for at in range(request.n)]
        if all(found):
            return [trace for trace in found if trace]
        traces = await self.engine.sample(request)
        self.sampled += sum(trace.tokens for trace in traces)
        if self._keeping:
            await self._keep(problem, known, key, traces, request.first)
        return traces

    async def _of(self, problem: Problem) -> _Known:
        """What is stored for the problem; read once, however many ask at the same time."""
        if problem.id not in self._known:
            somewhere = self._others or self._resumed or problem.id in self._stored
            self._known[problem.id] = (
                asyncio.create_task(asyncio.to_thread(self._read, problem)) if somewhere else _Known()
            )
        known = self._known[problem.id]
        return known if isinstance(known, _Known) else await asyncio.shield(known)

    def _read(self, problem: Problem) -> _Known:
        known = _Known()
        runs = [run for run in (self._run, *self._others) if run]
        for stored in attempts_at(self._store, problem, runs) if runs else ():
            known.add(stored)
            if stored.run_id == self._run:
                known.number = max(known.number, stored.attempt.sample + 1)
        return known

    async def _keep(self, problem: Problem, known: _Known, key: str, traces: Sequence[Trace], first: int) -> None:
        """A failure is not kept: asked again, the model may well answer."""
        kept: list[tuple[int, int, Trace]] = []
        for index, trace in enumerate(traces, first):
            if trace.finish == "error" or (key, index) in known.traces:
                continue
            known.traces[key, index] = trace
            sample, known.number = known.number, known.number + 1
            kept.append((index, sample, trace))
        if not kept:
            return
        self._stored.add(problem.id)
        verdicts = [await judged_beside(problem, trace) for _, _, trace in kept]
        if self._keeper is None:
            self._run = self._run or self._store.start_run(*self._identity)
            self._keeper = Keeper(self._store, self._run)
        await self._keeper.keep(
            [
                Attempt(problem, trace, verdict, sample, KIND, {_REQUEST: key, _INDEX: index})
                for (index, sample, trace), verdict in zip(kept, verdicts, strict=True)
            ]
        )

    def close(self, *, finished: bool) -> None:
        """Store what still waits; with `finished` the run is marked as done."""
        if self._keeper:
            self._keeper.flush()
        if finished and self._run:
            self._store.finish_run(self._run, {})


class _Known:
    """A problem's stored traces by (fingerprint, index), and the next free number."""

    def __init__(self) -> None:
        self.traces: dict[tuple[str, int], Trace] = {}
        self.number = 0

    def add(self, stored: StoredAttempt) -> None:
        attempt = stored.attempt
        notes, trace = attempt.notes, attempt.trace
        if trace.finish == "error":
            return
        if _REQUEST in notes:
            self.traces.setdefault((str(notes[_REQUEST]), int(notes[_INDEX])), trace)
        elif attempt.strategy == "single":  # asked for the problem as it stands, so the request can be told
            request = Request(messages=attempt.problem.messages, sampling=trace.sampling)
            self.traces.setdefault((fingerprint(request), 0), trace)


class KeptEngine(Around):
    """The engine, for one problem of an evaluation."""

    def __init__(self, draws: Draws, problem: Problem) -> None:
        super().__init__(draws.engine)
        self._draws, self._problem = draws, problem

    async def sample(self, request: Request) -> list[Trace]:
        return await self._draws.sample(self._problem, request)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        """Never from the store: who streams wants to decide on the way."""
        async for delta in self._engine.stream(request):
            if delta.trace:
                self._draws.sampled += delta.trace.tokens
            yield delta

    async def aclose(self) -> None:
        """The engine belongs to the evaluation."""
