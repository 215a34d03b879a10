"""Somebody else's work, within its time, whatever it raises and whether or not it heeds a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from thinksmith.agent.tools.threads import guarded

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    """What `work` comes to. Raises TimeoutError after `seconds`: the work is cancelled, and left behind if it goes on.

    Whatever it raises is an `Exception` here: what is none (SystemExit, a cancellation of its own) comes as a
    RuntimeError. Only our own cancellation passes.
    """
    task = asyncio.ensure_future(guarded(work))
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        _leave(task)
        raise
    if not done:
        _leave(task)
        raise TimeoutError(f"it took longer than {seconds:g} s")
    return task.result()


def _leave(task: asyncio.Task[T]) -> None:
    """Nobody hears what it gives any more."""
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    task.cancel()
