"""Blocking functions, each in a daemon thread of its own.

Not in the event loop's pool: a function that hangs there keeps others waiting, and the whole process at its exit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """What `function(*args)` returns or raises, without keeping the event loop.

    Cancelled, it returns at once; the function goes on to its end, and nobody hears what it gives. What is no
    `Exception` (SystemExit, StopIteration too) becomes a RuntimeError: no tool ends the program that calls it.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Future[T] = loop.create_future()
    context = copy_context()

    def tell(result: T | None, error: Exception | None) -> None:
        if told.done():  # cancelled meanwhile
            return
        if error is not None:
            told.set_exception(error)
        else:
            told.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(function, *args)
        except BaseException as raised:
            error = as_exception(raised)
        with suppress(RuntimeError):  # the loop may be closed, and nobody waits any more
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name=f"tool {getattr(function, '__name__', '')}", daemon=True).start()
    return await told


async def guarded(work: Awaitable[T]) -> T:
    """What `work` gives, which may raise anything, a cancellation of its own too: only exceptions and our own
    cancellation pass. The owner's Ctrl-C is one: asyncio's runner cancels its main task then."""
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError("it cancelled itself") from None
    except BaseException as raised:
        raise as_exception(raised) from raised


def as_exception(raised: BaseException) -> Exception:
    """What may be raised in an event loop without ending it."""
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration | StopAsyncIteration):
        return raised
    error = RuntimeError(f"it raised {type(raised).__name__}")
    error.__cause__ = raised
    return error
