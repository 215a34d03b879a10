"""Many verdicts at once: those that wait for a worker or a sandbox go side by side, in a few threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from thinksmith.records import Problem, Trace, Verdict
from thinksmith.verify.verdict import JUDGED, TASK, VERIFIERS, check_gold, require, verify

THREADS = 4
"""How many slow verdicts are under way at a time. A thread only waits; the work is in other processes."""

Result = TypeVar("Result")


def verify_all(
    pairs: Iterable[tuple[Problem, Trace]],
    *,
    threads: int = THREADS,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """`verify` for every (problem, trace), in order; `on_verdict` is told of each, in order, in the calling thread.

    Raises UserError, before anything is verified, for a kind that cannot be verified here.
    """
    pairs = list(pairs)
    for kind in {problem.kind for problem, _ in pairs} - {TASK}:
        require(kind)
    tasks = [(_slow(problem), partial(verify, problem, trace)) for problem, trace in pairs]
    return _side_by_side(tasks, threads, on_verdict)


def judged(problem: Problem, trace: Trace) -> Verdict:
    """`verify`; of a kind that no rule decides the verdict is "error", not judged."""
    return verify(problem, trace) if problem.kind in (*VERIFIERS, TASK) else Verdict("error", reason="not judged")


async def judged_beside(problem: Problem, trace: Trace, pool: Executor | None = None) -> Verdict:
    """`judged` from within an event loop. A slow verdict, which may take its whole deadline, is waited for in a thread
    (of `pool`), and the others go on meanwhile."""
    if _slow(problem):
        return await asyncio.get_running_loop().run_in_executor(pool, judged, problem, trace)
    return judged(problem, trace)


def check_all(
    problems: Sequence[Problem],
    *,
    threads: int = THREADS,
    on_checked: Callable[[str | None], None] | None = None,
) -> list[str | None]:
    """`check_gold(…, thorough=True)` for every problem, in order; `on_checked` is told of each. Raises UserError."""
    for kind in {problem.kind for problem in problems} - {JUDGED, TASK}:
        require(kind)
    tasks = [(_slow(problem), partial(check_gold, problem, thorough=True)) for problem in problems]
    return _side_by_side(tasks, threads, on_checked)


def _slow(problem: Problem) -> bool:
    return problem.kind in VERIFIERS and VERIFIERS[problem.kind].slow


def _side_by_side(
    tasks: Sequence[tuple[bool, Callable[[], Result]]], threads: int, on_done: Callable[[Result], None] | None
) -> list[Result]:
    """The results in order: tasks that are slow in threads, the others here. An interrupt does not wait for what is
    under way, and drops what did not begin."""
    results: list[Result] = []
    pool = ThreadPoolExecutor(threads, "verify")
    try:
        waiting: dict[int, Future[Result]] = {
            index: pool.submit(task) for index, (slow, task) in enumerate(tasks) if slow
        }
        for index, (_, task) in enumerate(tasks):
            results.append(waiting[index].result() if index in waiting else task())
            if on_done:
                on_done(results[-1])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return results
