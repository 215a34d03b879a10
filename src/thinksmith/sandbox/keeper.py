"""Keeps one guest within its limits: a single loop over everything that can happen, then the verdict.

Nothing is believed that the program itself says. That it ran at all is known from the launcher's report, which is
closed before the program starts; that it ended, from the kernel.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from thinksmith.sandbox.folder import WorkFolder
from thinksmith.sandbox.launcher import OUT_OF_MEMORY, READY
from thinksmith.sandbox.limits import Result, Status
from thinksmith.sandbox.spawn import Spawned, Start, spawn

START_SECONDS = 30.0
"""How long the sandbox may take to get the program to run, on the busiest of machines."""
_DEATH_SECONDS = 10.0  # how long the kernel may take to bury what was killed
_COUNT_SECONDS = 0.1  # how often disk and threads are counted where nothing else bounds them
_CHUNK = 1 << 16
_NOT_READ = 512 * 1024  # a pipe may still hold this much when its writer is dead


def keep(start: Start, stop: int, closed: Callable[[], None]) -> Result:
    """Start the guest and see it to its end. Returns when nothing of it is left.

    stop: a descriptor on which something arrives when the caller wants it killed. closed: called once it has started,
    when the caller's copies of what it inherited are no longer needed. Raises OSError if it cannot be started.
    """
    with ExitStack() as left:
        disk = left.enter_context(WorkFolder()) if start.folder is None else None
        spawned = spawn(start, disk.path if disk else str(start.folder), left)
        closed()
        return _Keeper(start, spawned, disk, stop).live()


class _Keeper:
    def __init__(self, start: Start, spawned: Spawned, disk: WorkFolder | None, stop: int) -> None:
        self.limits, self.spawned, self.disk = start.limits, spawned, disk
        self.counted = start.counted and disk is not None
        self.kept = {spawned.out: bytearray(), spawned.err: bytearray()}
        self.init = -1  # process 1 of the guest's own namespace: when it is gone, everything in there is
        self.told = self.failure = b""
        self.began: float | None = None
        self.verdict: tuple[Status, str] | None = None
        self.deadline = time.monotonic() + START_SECONDS
        self.count_at = 0.0
        self.poll = select.poll()
        self.events = {
            spawned.out: self._output,
            spawned.err: self._output,
            spawned.report: self._report,
            spawned.info: self._info,
            stop: self._stopped,
        }
        for handle in (*self.events, spawned.pidfd):
            if handle >= 0:
                self.poll.register(handle, select.POLLIN)

    def live(self) -> Result:
        try:
            self._run()
            seconds = time.monotonic() - self.began if self.began is not None else 0.0
        finally:
            self._kill()
            code = self._bury()
        for stream in self.kept:
            self._drain(stream)
        return self._result(code, seconds)

    def _run(self) -> None:
        """Serve events until the process has ended, or did not die of a kill within reason."""
        while True:
            now = time.monotonic()
            if now >= self.deadline:
                if self.verdict:
                    return
                self._end(*self._late())
            if self.counted and now >= self.count_at:
                self._count(now)
            until = min(self.deadline, self.count_at) if self.counted else self.deadline
            for handle, _ in self.poll.poll(max(0.0, until - now) * 1000 + 1):
                if handle == self.spawned.pidfd:
                    return
                self.events[handle](handle)

    def _late(self) -> tuple[Status, str]:
        if self.began is None:
            return "error", f"the sandbox did not start within {START_SECONDS:g} s"
        return "timeout", f"ran longer than {self.limits.seconds:g} s"

    def _end(self, status: Status, reason: str) -> None:
        """Kill it for this reason, unless there was one before."""
        if self.verdict is None:
            self.verdict = status, reason
            self.deadline = time.monotonic() + _DEATH_SECONDS
            self._kill()

    def _kill(self) -> None:
        """Kill its process group, and its process namespace by process 1 (bubblewrap's death does that too, later)."""
        with suppress(OSError):
            os.killpg(self.spawned.process.pid, signal.SIGKILL)
        if self.init >= 0:
            with suppress(OSError):
                signal.pidfd_send_signal(self.init, signal.SIGKILL)

    def _bury(self) -> int | None:
        """Its exit code, once all of it is gone; None if the kernel does not let go of it."""
        gone = all(_ended(handle, _DEATH_SECONDS) for handle in (self.spawned.pidfd, self.init) if handle >= 0)
        if self.init >= 0:
            with suppress(OSError):  # it is our child only if we adopt orphans, as process 1 of a container does
                os.waitid(os.P_PIDFD, self.init, os.WEXITED | os.WNOHANG)
            os.close(self.init)
        if not gone:
            return None
        code = self.spawned.process.wait()
        return 128 - code if code < 0 else code

    def _output(self, stream: int) -> None:
        chunk = os.read(stream, _CHUNK)
        if not chunk:
            self.poll.unregister(stream)
        self._keep(stream, chunk)

    def _keep(self, stream: int, chunk: bytes) -> None:
        kept, most = self.kept[stream], self.limits.output
        kept += chunk[: most + 1 - len(kept)]
        if len(kept) > most:
            del kept[most:]
            name = "stdout" if stream == self.spawned.out else "stderr"
            self._end("output", f"wrote more than {most:,} bytes to {name}")

    def _drain(self, stream: int) -> None:
        """What was written in the last instant. One that escaped may hold the pipe open: never wait for its end."""
        os.set_blocking(stream, False)
        with suppress(BlockingIOError):
            for _ in range(_NOT_READ // _CHUNK):
                if not (chunk := os.read(stream, _CHUNK)):
                    return
                self._keep(stream, chunk)

    def _report(self, report: int) -> None:
        self.poll.unregister(report)
        said = os.read(report, 1024)
        if said == READY and self.verdict is None:
            self.began = time.monotonic()
            self.deadline = self.began + self.limits.seconds
        else:
            self.failure = said

    def _info(self, info: int) -> None:
        """bubblewrap tells, as JSON, which process is the first of the guest's."""
        self.told += (chunk := os.read(info, 4096))
        if not chunk:
            self.poll.unregister(info)
            with suppress(ValueError, KeyError, OSError):
                self.init = os.pidfd_open(json.loads(self.told)["child-pid"])
            if self.init >= 0 and _ended(self.spawned.pidfd, 0):  # then that number may be another's by now
                os.close(self.init)
                self.init = -1

    def _stopped(self, stop: int) -> None:
        self.poll.unregister(stop)
        self._end("killed", "killed by the caller")

    def _count(self, now: float) -> None:
        """Where no file system bounds the disk, and no user of its own the threads, we do."""
        self.count_at = now + _COUNT_SECONDS
        if self.disk is None or self.began is None:
            return
        if excess := self.disk.excess(self.limits.disk, self.spawned.process.pid):
            self._end("killed", f"used {excess}")
        if _threads(self.spawned.process.pid) > self.limits.threads + 1:
            self._end("killed", f"more than {self.limits.threads} threads")

    def _result(self, code: int | None, seconds: float) -> Result:
        out, err = (bytes(self.kept[stream]) for stream in (self.spawned.out, self.spawned.err))
        if self.began is None and (self.verdict is None or self.verdict[0] == "error"):
            said = self.failure.decode(errors="replace") or err.decode(errors="replace").strip().partition("\n")[0]
            reason = f"the sandbox could not start: {said[:300]}" if said else "the sandbox could not start"
            return Result("error", None, b"", b"", 0.0, self.verdict[1] if self.verdict else reason)
        status, reason = self.verdict or self._judge(code, seconds)
        return Result(status, 1 if status == "memory" else code, out, err, seconds, reason)

    def _judge(self, code: int | None, seconds: float) -> tuple[Status, str]:
        """What an exit code means, when we did not end it ourselves."""
        if code == 0:
            return "ok", ""
        if code == OUT_OF_MEMORY:
            return "memory", f"needed more than {self.limits.memory:,} bytes of memory"
        if code is None or not 128 < code <= 128 + signal.SIGRTMAX:
            return "failed", f"ended with exit code {code}"
        number = code - 128
        cpu_gone = number == signal.SIGKILL and seconds >= self.limits.cpu_seconds
        if number == signal.SIGXCPU or cpu_gone:
            return "timeout", f"used more than {self.limits.cpu_seconds:g} s of processor time"
        return "killed", f"ended by {signal.strsignal(number) or f'signal {number}'}"


def _ended(pidfd: int, seconds: float) -> bool:
    """Has this process ended, or does it within so many seconds? (select would refuse descriptors above 1,023.)"""
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0
