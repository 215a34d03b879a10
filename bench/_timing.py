"""Ways of doing the same work, timed in turns, with the memory that each takes."""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from _peers import Way
from _shapes import Workload


class Memory:
    """How much more memory the process takes at most while this context lasts, in bytes; and the most that `planned`
    said meanwhile (None if it says nothing)."""

    def __init__(self, planned: Callable[[], int | None] = lambda: None) -> None:
        self.growth = 0
        self.planned: int | None = None
        self._planned = planned
        self._over = threading.Event()

    def __enter__(self) -> Memory:
        give_back()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._before = resident()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        if torch.cuda.is_available():
            self.growth = torch.cuda.max_memory_allocated() - self._before

    def _watch(self) -> None:
        while True:
            over = self._over.wait(0.01)
            self.growth = max(self.growth, resident() - self._before)
            if (planned := self._planned()) is not None:
                self.planned = max(self.planned or 0, planned)
            if over:
                return


def give_back() -> None:
    """What was freed goes back to the system, so that the next one cannot take it unseen."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)


def resident() -> int:
    """Bytes: what torch has allocated on the GPU, else the process's resident memory (0 where there is no /proc)."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@dataclass
class Contestant:
    """A way, the part of the workload that it does, how many seconds its repetitions may take, and what was found."""

    way: Way
    load: Workload
    allowance: float
    planned: Callable[[], int | None] = lambda: None
    times: list[float] = field(default_factory=list)
    memory: int = 0
    said: int | None = None

    @property
    def rate(self) -> float:
        """Wanted tokens per second, by the median time."""
        return self.load.tokens / statistics.median(self.times)

    def run(self) -> float:
        begin = time.perf_counter()
        rows = self.way.run(self.load, False)
        taken = time.perf_counter() - begin
        assert [len(row) for row in rows] == [length for _, length in self.load.rows], self.way.name
        return taken


def contest(contestants: Sequence[Contestant], repetitions: int) -> list[Contestant]:
    """Fill in the times and the memory of each; those that failed are left out of what is returned.

    The first run of each is for the memory and for warming up. One that takes longer than its repetitions may take is
    not repeated: then the first run, which follows a short one, is the time.
    """
    turns = {}
    for index, each in enumerate(contestants):
        for other in contestants:
            other.way.release()
        try:
            each.way.run(each.load.part(len(each.load.prompts)).shortened(2), False)
            each.way.release()
            with Memory(each.planned) as memory:
                first = each.run()
        except Exception as error:  # what one way cannot do must not cost the others their figures
            print(f"{each.way.name} fails: {type(error).__name__}: {error}", flush=True)
            continue
        each.memory, each.said = memory.growth, memory.planned
        turns[index] = min(repetitions, int(each.allowance / first))
        each.times = [] if turns[index] else [first]
    for turn in range(repetitions):
        for index in turns:
            if turn < turns[index]:
                contestants[index].times.append(contestants[index].run())
    return [contestants[index] for index in turns]


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
