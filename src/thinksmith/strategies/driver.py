"""The driver: keeps many jobs in flight over one engine, bounded by the room that the engine has.

Evaluation, distillation, training and agents all drive jobs. A job is (problem, sample); what is done with it is an
async function, a strategy or anything around one, so the driver is generic in what comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from thinksmith.engines.contract import Engine
from thinksmith.records import Problem

Result = TypeVar("Result")

# An engine may find room without any of our jobs ending (others use it too), and it has no way to tell us: so look.
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt to make: the `sample`-th at `problem`."""

    problem: Problem
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that ended in an exception."""

    job: Job
    error: Exception


async def drive(
    jobs: Iterable[Job],
    work: Callable[[Job, Engine], Awaitable[Result]],
    engine: Engine,
    on_result: Callable[[Job, Result], None],
    *,
    limit: int = 4096,
) -> tuple[Failure, ...]:
    """Do `work` for every job, at most `limit` at a time and never more than `engine.room` wants; return what failed.

    `jobs` are pulled one at a time, only when there is room, so an endless iterator is welcome. `on_result` is called
    in the event loop as soon as a job ends, in the order in which jobs end. An exception in `work` is that job's
    `Failure` and leaves the others alone. An exception in `on_result` or in `jobs` (a full disk, an unreadable file)
    stops the drive and is raised as it is. When the drive is cancelled (Ctrl-C in `run`), jobs in flight are cancelled
    and awaited; results already handed to `on_result` stay.
    """
    failures: list[Failure] = []
    in_flight = 0
    moved = asyncio.Event()

    async def one(job: Job) -> None:
        nonlocal in_flight
        try:
            result = await work(job, engine)
        except Exception as error:
            failures.append(Failure(job, error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the drive is being cancelled; else something inside gave up, which must not pass for done
            failures.append(Failure(job, RuntimeError("the engine cancelled the request")))
        else:
            on_result(job, result)
        finally:
            in_flight -= 1
            moved.set()

    async def wait_for_room() -> int:
        """How many jobs may start now. With none in flight one may always start: a queue of one is no burden."""
        while True:
            await asyncio.sleep(0)  # lets the jobs just started submit their requests, so that `room` counts them
            room = min(engine.room, limit - in_flight)
            if room > 0 or not in_flight:
                return max(room, 1)
            moved.clear()
            # Not asyncio.wait_for: in Python 3.11 it swallows a cancellation that comes as the event is set.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await moved.wait()

    try:
        with _old_objects_left_alone():
            async with asyncio.TaskGroup() as group:
                room = 0
                for job in jobs:
                    in_flight += 1
                    group.create_task(one(job))
                    room -= 1
                    if room <= 0:
                        room = await wait_for_room()
    except BaseExceptionGroup as stopped:
        raise stopped.exceptions[0] from None
    return tuple(failures)


@contextlib.contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """The garbage collection meanwhile does not look at what was there before: torch and transformers are a million
    objects, and going through them again and again, with the interpreter held, stops the engine's thread too."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def run(
    jobs: Iterable[Job],
    work: Callable[[Job, Engine], Awaitable[Result]],
    engine: Engine,
    on_result: Callable[[Job, Result], None],
    *,
    limit: int = 4096,
) -> tuple[Failure, ...]:
    """`drive` for synchronous callers. Ctrl-C cancels what is in flight and then raises KeyboardInterrupt."""
    return asyncio.run(drive(jobs, work, engine, on_result, limit=limit))
