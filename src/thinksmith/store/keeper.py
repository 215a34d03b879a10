"""Attempts on their way into the store: many in one transaction, and none told of before it is on the disk.

A commit is a sync of the disk, milliseconds, and a small model finishes hundreds of attempts a second. So what finishes
within a moment is committed together, in a thread; `keep` returns when its attempt is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from thinksmith.records import Attempt
from thinksmith.store.store import Store

MOMENT = 0.02  # seconds that the first attempt waits for others
MOST = 512  # attempts of one transaction


class Keeper:
    """Writes attempts of one run; `on_kept` is told of each, in the event loop, once it is stored."""

    def __init__(self, store: Store, run_id: str, on_kept: Callable[[Attempt], None] = lambda attempt: None) -> None:
        self._store, self._run, self._on_kept = store, run_id, on_kept
        self._waiting: list[tuple[Attempt, asyncio.Future[None]]] = []
        self._writing: list[tuple[Attempt, asyncio.Future[None]]] = []
        self._refused: list[Attempt] = []
        self._writer: asyncio.Task[None] | None = None
        self._failed: Exception | None = None

    def check(self) -> None:
        """Raises what the store failed with: there is no point in making more."""
        if self._failed:
            raise self._failed

    async def keep(self, attempts: Sequence[Attempt]) -> None:
        """Returns when all of them are on the disk. Raises UserError where the store fails; then none of them is."""
        if not attempts:
            return
        loop = asyncio.get_running_loop()
        mine = [(attempt, loop.create_future()) for attempt in attempts]
        self._waiting += mine
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await asyncio.gather(*(future for _, future in mine))

    async def _write(self) -> None:
        while self._waiting:
            await asyncio.sleep(MOMENT)
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            self._writing = batch
            try:
                await asyncio.to_thread(self._store.add, self._run, [attempt for attempt, _ in batch])
            except Exception as error:
                self._failed = error
                self._refused += [attempt for attempt, _ in batch]
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                self._writing = []
                continue
            self._writing = []
            for attempt, future in batch:
                self._on_kept(attempt)
                if not future.done():
                    future.set_result(None)

    def flush(self) -> None:
        """Store at once what still waits, after the loop was stopped: it is finished, so it shall not be lost.

        What was being written then may be there already; added again, it stays as it is, and it is told of now. What
        the store has refused is tried once more, last: a lock may be gone, a disk have room again.
        """
        waiting, refused = [attempt for attempt, _ in (*self._writing, *self._waiting)], self._refused
        self._writing, self._waiting, self._refused = [], [], []
        for batch in (waiting, refused):
            if batch:
                self._store.add(self._run, batch)
                for attempt in batch:
                    self._on_kept(attempt)
