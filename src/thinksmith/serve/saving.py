"""`--save`: what is answered goes into the store, an attempt each, in a run of kind `serve` for each model.

Nobody waits for it, and a store that fails costs no answer: it is told of once, and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256

from thinksmith.errors import one_line
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.serve.asked import Asked
from thinksmith.serve.generate import problem_of
from thinksmith.serve.models import Base, Served
from thinksmith.store.keeper import Keeper
from thinksmith.store.store import Store
from thinksmith.strategies.contract import Outcome

MOST_WAITING = 10_000  # attempts that may wait for a slow store

_UNJUDGED = Verdict("bad_gold", reason="a question over HTTP has no gold answer")


class Saver:
    """Keeps traces; `on_failure` hears why some could not be."""

    def __init__(self, store: Store, on_failure: Callable[[str], None]) -> None:
        self._store, self._on_failure = store, on_failure
        self._keepers: dict[str, tuple[str, Keeper]] = {}
        self._made: dict[str, int] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self.failed = 0  # attempts

    def keep(self, asked: Asked, served: Served, index: int, trace: Trace, outcome: Outcome | None) -> None:
        """Remember the trace; it is written soon. Called in the event loop."""
        if len(self._writing) >= MOST_WAITING:
            self._fail("the store is too slow: attempts are left out")
            return
        number = self._made.get(served.base.name, 0)
        self._made[served.base.name] = number + 1
        notes = {**(outcome.notes if outcome else {}), "completion": index}
        attempt = Attempt(
            _problem(served.base, asked), trace, _UNJUDGED, number, served.about.strategy or "single", notes
        )
        task = asyncio.create_task(self._write(served.base, attempt))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def aclose(self) -> None:
        """Wait until all is written, and finish the runs."""
        while self._writing:
            await asyncio.gather(*self._writing, return_exceptions=True)
        for name, (run, _) in self._keepers.items():
            await asyncio.to_thread(self._store.finish_run, run, {"attempts": self._made[name]})
        await asyncio.to_thread(self._store.close)

    async def _write(self, base: Base, attempt: Attempt) -> None:
        try:
            async with self._opening:
                if base.name not in self._keepers:
                    info = base.info
                    given = ("serve", base.name, info.name, info.weights_hash)
                    run = await asyncio.to_thread(self._store.start_run, *given)
                    self._keepers[base.name] = run, Keeper(self._store, run)
            await self._keepers[base.name][1].keep([attempt])
        except Exception as error:  # a full disk, a lock: the answer is the client's all the same
            self._fail(one_line(error))

    def _fail(self, why: str) -> None:
        self.failed += 1
        self._on_failure(why)


def _problem(base: Base, asked: Asked) -> Problem:
    if asked.messages:
        return problem_of(asked.messages[:-1] if asked.continues else asked.messages)
    text = asked.text or (base.about.decode(asked.token_ids) if base.about.decode else "")
    return Problem(f"serve/{sha256(text.encode(errors='replace')).hexdigest()[:12]}", text)
