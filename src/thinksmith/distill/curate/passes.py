"""The passes over the traces, shared by processes: each takes a part at a time, and hands back numbers, not texts.

A part is read three times: to look at each trace, to check the equations of those that are left, and to write those
that are chosen. That costs less than to keep them, and nothing depends on how many processes there are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from thinksmith.distill.curate.filters import Looked, false_share, look
from thinksmith.distill.curate.options import Curation
from thinksmith.distill.curate.reasons import number
from thinksmith.distill.curate.signature import K
from thinksmith.distill.formats.parts import Part, read
from thinksmith.distill.sample import Sample
from thinksmith.problems.overlap import Hit, Overlap

Task = TypeVar("Task")
Result = TypeVar("Result")
_AHEAD = 2  # parts that wait for each process


@dataclass(frozen=True, slots=True)
class Seen:
    """What the first pass found in a part of N traces (rows that are none among them), S of which passed.

    `line_N` are the rows of the part, of which one may hold several. `reason_N` is an index of `reasons.ORDER`, or
    `reasons.KEPT`. `details` by index. `judged` holds verdicts that were made here.
    """

    ids: list[str]
    models: list[str]
    wheres: list[str]
    line_N: NDArray[np.int64]
    reason_N: NDArray[np.int8]
    status_N: NDArray[np.int8]
    tokens_N: NDArray[np.int64]
    problem_N: NDArray[np.uint64]
    digest_N2: NDArray[np.uint64]
    signature_SK: NDArray[np.uint32]
    details: dict[int, str]
    judged: dict[int, str]
    hits: list[tuple[int, Hit]]


STATUSES = ("unknown", "correct", "not solved", "not counted")
"""What a verdict means for the rate at which a problem is solved; `status_N` is the index."""


@dataclass(frozen=True, slots=True)
class Look:
    """The first pass over a part."""

    options: Curation
    overlap: Overlap

    def __call__(self, part: Part) -> Seen:
        ids, models, wheres, lines = list[str](), list[str](), list[str](), list[int]()
        found: list[Looked | None] = []
        details, judged, hits = dict[int, str](), dict[int, str](), list[tuple[int, Hit]]()
        for at, entry in enumerate(read(part)):
            wheres.append(entry.where)
            lines.append(entry.row)
            ids.append(entry.sample.id if entry.sample else "")
            models.append(entry.sample.model if entry.sample else "")
            looked = look(entry.sample, self.options, self.overlap) if entry.sample else None
            found.append(looked)
            if looked is None or looked.detail:
                details[at] = looked.detail if looked else entry.fault
            if looked and entry.sample and looked.status != entry.sample.status:
                judged[at] = looked.status
            hits += [(at, hit) for hit in looked.hits] if looked else []
        signatures = [looked.signature for looked in found if looked and looked.signature is not None]
        return Seen(
            ids,
            models,
            wheres,
            np.array(lines, dtype=np.int64),
            np.array([number(looked.reason if looked else "unreadable") for looked in found], dtype=np.int8),
            np.array([_counted(looked) for looked in found], dtype=np.int8),
            np.array([looked.tokens if looked else 0 for looked in found], dtype=np.int64),
            np.array([looked.problem if looked else 0 for looked in found], dtype=np.uint64),
            np.array([looked.digest if looked else (0, 0) for looked in found], dtype=np.uint64).reshape(-1, 2),
            np.stack(signatures) if signatures else np.zeros((0, K), dtype=np.uint32),
            details,
            judged,
            hits,
        )


def _counted(looked: Looked | None) -> int:
    if looked is None or not looked.status:
        return 2 if looked and looked.reason == "truncated" else 0
    if looked.status in ("error", "bad_gold"):
        return 3
    return 1 if looked.status == "correct" else 2


@dataclass(frozen=True, slots=True)
class Picked:
    """M traces of a part: the rows that they stand in, and the how manieth of its row each is."""

    part: Part
    line_M: NDArray[np.int64]
    nth_M: NDArray[np.int64]


Chosen = tuple[Picked, dict[int, str]]
"""Traces that were chosen, and the verdicts that were made on some of them, by their index among them."""


@dataclass(frozen=True, slots=True)
class Check:
    """The second pass: of the traces that are left, those with too many false equations, by their index among them."""

    most: float

    def __call__(self, picked: Picked) -> dict[int, str]:
        found: dict[int, str] = {}
        for at, sample in _read(picked):
            false, total = false_share(sample)
            if total and false / total > self.most:
                found[at] = f"{false} of {total}"
        return found


@dataclass(frozen=True, slots=True)
class Fetch:
    """The third pass: the traces that were chosen, with the verdicts that were made."""

    def __call__(self, task: Chosen) -> list[Sample]:
        picked, judged = task
        return [replace(sample, status=judged[at]) if at in judged else sample for at, sample in _read(picked)]


def _read(picked: Picked) -> Iterator[tuple[int, Sample]]:
    """The samples that were picked of a part, in order, each with its index among them."""
    wanted: dict[int, dict[int, int]] = {}
    for at, (line, nth) in enumerate(zip(picked.line_M.tolist(), picked.nth_M.tolist(), strict=True)):
        wanted.setdefault(line, {})[nth] = at
    last, nth = -1, 0
    for entry in read(picked.part, wanted) if wanted else ():
        last, nth = entry.row, nth + 1 if entry.row == last else 0
        if (found := wanted[last].get(nth)) is not None:
            assert entry.sample is not None
            yield found, entry.sample


class Processes:
    """Runs passes over many parts, in as many processes as there are cores; the results come in the parts' order.

    With one process, or one part, all is done here. The processes are started anew (spawn): they share nothing, so a
    program that calls `curate` over much has the `if __name__ == "__main__"` that such programs need.
    """

    def __init__(self, look: Look, parts: int, count: int | None = None) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._look, self._count = look, min(count or cores, parts)
        self._pool: ProcessPoolExecutor | None = None
        if self._count > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_begin, initargs=(look,))

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown(wait=error is None, cancel_futures=True)

    def look(self, parts: Sequence[Part]) -> Iterator[Seen]:
        """The first pass. What is looked for is sent to each process once."""
        return self.run(_seen if self._pool else self._look, parts)

    def run(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """The results in order. Few are ahead of the one that is wanted, so memory does not grow with the input."""
        if self._pool is None:
            yield from map(work, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            waiting.append(self._pool.submit(work, task))
            if len(waiting) > self._count * (1 + _AHEAD):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_own: list[Look] = []
"""In a process of the pool: what the first pass looks for."""


def _begin(look: Look) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for us
    _own[:] = [look]


def _seen(part: Part) -> Seen:
    return _own[0](part)
