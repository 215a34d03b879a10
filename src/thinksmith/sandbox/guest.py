"""A program that is running in the sandbox.

Every guest has a thread that starts it, keeps it within its limits and leaves nothing behind. The kernel ties the
guest's life to that thread (a parent's death signal goes by thread), so a guest never outlives this process, and a
caller may start it in one thread and wait in another.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from dataclasses import replace
from types import TracebackType
from typing import Self

from thinksmith.errors import one_line
from thinksmith.sandbox.forks import no_fork
from thinksmith.sandbox.keeper import keep
from thinksmith.sandbox.limits import Result
from thinksmith.sandbox.spawn import Start


class Guest:
    """A running program. Used as a context manager, it leaves nothing running."""

    def __init__(self, start: Start) -> None:
        self._channels: list[int] = []
        self._asking = threading.Lock()
        self._result: Result | None = None
        # Not Thread.join: in Python 3.11 one that was interrupted believes the thread to have ended (bpo-45274).
        self._ended = threading.Event()
        with no_fork:
            self._stop, self._ask = os.pipe()
            _running.add(self)
        try:
            with no_fork:  # the guest gets copies, so the caller may close his own channels at once
                for channel in start.channels:
                    self._channels.append(fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, 3))
            given = replace(start, channels=self._channels.copy())
            threading.Thread(target=self._keep, args=(given,), name="sandbox", daemon=True).start()
        except Exception as error:  # there is no thread that would do it
            self._finish(Result("error", None, b"", b"", 0.0, f"the sandbox failed: {one_line(error)}"))
            raise

    def wait(self) -> Result:
        """Wait until the program has ended, or was ended at a limit. An interrupt ends it and is raised again."""
        try:
            self._ended.wait()
        except BaseException:
            self.kill()
            self._ended.wait()
            raise
        assert self._result is not None
        return self._result

    def kill(self) -> None:
        """End the program if it still runs; its status is then `killed`."""
        with self._asking:
            if self._result is None:
                os.write(self._ask, b"\0")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._ended.wait()

    def _keep(self, start: Start) -> None:
        try:
            result = keep(start, self._stop, self._close_channels)
        except Exception as error:
            result = Result("error", None, b"", b"", 0.0, f"the sandbox failed: {one_line(error)}")
        self._finish(result)

    def _finish(self, result: Result) -> None:
        with self._asking:
            self._result = result
            os.close(self._stop)
            os.close(self._ask)
        self._close_channels()
        _running.discard(self)
        self._ended.set()

    def _close_channels(self) -> None:
        while self._channels:
            os.close(self._channels.pop())

    def _forget(self) -> None:
        """In a forked child: let go of the parent's guest without touching it. It stays the parent's."""
        self._asking, self._ended = threading.Lock(), threading.Event()
        if self._result is None:
            self._finish(Result("error", None, b"", b"", 0.0, "it runs in the process that this one was forked from"))
        self._ended.set()


_running: weakref.WeakSet[Guest] = weakref.WeakSet()


def _forget() -> None:
    for guest in list(_running):
        guest._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
