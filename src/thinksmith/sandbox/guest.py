"""A program that is running in the sandbox.

Every guest has a thread that starts it, keeps it within its limits and leaves nothing behind. The kernel ties the
guest's life to that thread (a parent's death signal goes by thread), so a guest never outlives this process, and a
caller may start it in one thread and wait in another.
"""

from __future__ import annotations

import fcntl
import os
import threading
from dataclasses import replace
from types import TracebackType
from typing import Self

from thinksmith.errors import one_line
from thinksmith.sandbox.keeper import keep
from thinksmith.sandbox.limits import Result
from thinksmith.sandbox.spawn import Start


class Guest:
    """A running program. Used as a context manager, it leaves nothing running."""

    def __init__(self, start: Start) -> None:
        # The guest gets copies, so the caller may close his own channels at once.
        self._channels = [fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, 3) for channel in start.channels]
        self._stop, self._ask = os.pipe()
        self._asking = threading.Lock()
        self._result: Result | None = None
        # Not Thread.join: in Python 3.11 one that was interrupted believes the thread to have ended (bpo-45274).
        self._ended = threading.Event()
        given = replace(start, channels=self._channels.copy())
        threading.Thread(target=self._keep, args=(given,), name="sandbox", daemon=True).start()

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
        with self._asking:
            self._result = result
            os.close(self._stop)
            os.close(self._ask)
        self._close_channels()
        self._ended.set()

    def _close_channels(self) -> None:
        while self._channels:
            os.close(self._channels.pop())
