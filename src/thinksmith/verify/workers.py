"""Killable workers: for whatever a hostile answer could make slow, large or dangerous.

`call("thinksmith.verify.MODULE:function", …)` runs a function of ours on plain data in a worker process and keeps its
deadline by killing that process; `verify/worker_main.py` is the other side. Nothing here uses signals, so it works
from any thread, from `asyncio.to_thread`, and in a process that was forked (which gets a pool of its own).

There are as many workers as cores, at most four, or as THINKSMITH_VERIFY_WORKERS says. They start when they are needed
first and end with this process. A module of tasks may have a function `warm()`, called once where it is loaded: it is
the place for imports and for whatever makes the first task quick.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

from thinksmith.errors import UserError, one_line
from thinksmith.sandbox.forks import no_fork
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.wire import TooLarge, encode, receive

DEADLINE = 5.0
"""Seconds that a verdict may take, from when a worker takes it."""
START = 60.0
"""Seconds that a worker may need to be there: the first one imports sympy, perhaps on a slow disk."""
MAX_WORKERS = 64

_MAIN = "import sys; sys.path[:] = sys.argv[2:]; from thinksmith.verify.worker_main import main; main(int(sys.argv[1]))"
_KEPT = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What an interpreter may need from the environment to start at all."""


class Exceeded(Exception):
    """The answer cost more than a verdict may; `what` is "time" or "memory"."""

    def __init__(self, what: str) -> None:
        super().__init__("took too long to decide" if what == "time" else "took too much memory to decide")
        self.what = what


class WorkerFailed(Exception):
    """The worker died, or could not start, through no fault of the answer."""


def call(task: str, *args: Any, seconds: float = DEADLINE) -> Any:
    """What `task`, "thinksmith.verify.MODULE:function", returns for `args`, both plain data as JSON has it.

    Raises Exceeded when it takes longer than `seconds` or more memory than a worker has; BadGold and Unreadable when
    the task does, and Unreadable when something in it tried to run text as a program; WorkerFailed for all else.
    The deadline counts from when a worker takes the task, not while all of them are busy.
    """
    return _the_pool().call(task, args, seconds)


def counts() -> dict[str, int]:
    """How many workers of this process `started`, were `killed` at a deadline, were `tripped`, `retired` or `died`."""
    pool = _pool
    return dict(pool.counts) if pool else {}


def workers_wanted() -> int:
    """How many workers a pool may have. Raises UserError if THINKSMITH_VERIFY_WORKERS is no number from 1 to 64."""
    written = os.environ.get("THINKSMITH_VERIFY_WORKERS", "").strip()
    if not written:
        return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 4)
    if not written.isdecimal() or not 1 <= int(written[:9]) <= MAX_WORKERS:
        raise UserError(f"THINKSMITH_VERIFY_WORKERS must be a number from 1 to {MAX_WORKERS}, not {written[:40]!r}")
    return int(written)


class _Worker:
    """A place in the pool, and the process that fills it once `start` was called."""

    channel: socket.socket
    """There from before the process is, so that a forked child finds it and closes its copy."""
    zygote: _Zygote
    pid = 0

    def ask(self, request: bytes, seconds: float) -> dict[str, Any]:
        """Its reply. Raises Exceeded at the deadline, Closed or OSError if it is gone, ValueError for nonsense."""
        end = time.monotonic() + seconds

        def take(size: int) -> bytes:
            self._wait(end)
            return self.channel.recv(size)

        try:
            self._wait(end)
            self.channel.sendall(request)
            reply = receive(take)
        except TimeoutError:
            raise Exceeded("time") from None
        if not isinstance(reply, dict):
            raise ValueError("its reply is no reply")
        return reply

    def _wait(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.channel.settimeout(left)


class _Zygote:
    """The process that forks the workers. One thread at a time speaks with it.

    To be made with `no_fork` held: a child forked meanwhile would keep the process's own end of its socket.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.dead: list[int] = []  # workers that were killed and wait to be reaped
        self.control, theirs = socket.socketpair()
        paths = [path for path in sys.path if os.path.isabs(path)]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # The same seed in every process: the order of a set of symbols must not decide a verdict.
        environment |= {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-c", _MAIN, str(theirs.fileno()), *paths],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
        except (OSError, TypeError, ValueError) as error:
            self.control.close()
            raise WorkerFailed(f"cannot start a process: {one_line(error)}") from None
        finally:
            theirs.close()

    def fork(self, worker: _Worker, modules: list[str]) -> None:
        """Give `worker` its process, which has imported `modules`. Raises WorkerFailed."""
        worker.zygote = self
        try:
            with self.lock:
                while self.dead:
                    self._ask({"reap": self.dead.pop()})
                with no_fork:
                    worker.channel, theirs = socket.socketpair()
                    with theirs:
                        self._send({"modules": modules}, theirs)
                worker.pid = self._receive()["pid"]
        except BaseException:
            if hasattr(worker, "channel"):
                worker.channel.close()
            raise

    def status(self, pid: int) -> int:
        """How a worker ended that has closed its channel, as os.waitpid tells it. Raises WorkerFailed.

        `pid` must be forgotten by its worker first: after this the number may be another process's.
        """
        with self.lock:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)  # no effect on how it ended, unless it only closed its channel
            status = self._ask({"reap": pid})["status"]
        if status is None:
            raise WorkerFailed("a worker is gone, and nobody knows how it ended")
        return int(status)

    def kill(self, pid: int) -> None:
        """End a worker now, whatever it does. It stays a zombie until it is reaped, so `pid` is still its own."""
        if self.alive():
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            self.dead.append(pid)

    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """End the zygote, which ends the workers."""
        self.control.close()
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._send(request)
        return self._receive()

    def _send(self, request: dict[str, Any], passed: socket.socket | None = None) -> None:
        with self._answering():
            data = encode(request)
            if passed is not None:  # the descriptor goes with the first bytes
                data = data[socket.send_fds(self.control, [data], [passed.fileno()]) :]
            self.control.sendall(data)

    def _receive(self) -> dict[str, Any]:
        with self._answering():
            return dict(receive(self.control.recv))

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Ends the zygote when it fails, and when interrupted: what it says later is the answer to no question."""
        try:
            self.control.settimeout(START)
            yield
        except BaseException as error:
            self.control.close()
            self.process.kill()
            self.process.wait()
            if isinstance(error, (OSError, ValueError)):
                raise WorkerFailed(f"the process that starts workers does not answer: {one_line(error)}") from None
            raise


class _Pool:
    def __init__(self, size: int) -> None:
        self.size = size
        self.counts: Counter[str] = Counter()
        self.changed = threading.Condition()
        self.idle: list[_Worker] = []
        # Weak, so that a worker which an interrupt made everybody forget gives its place back by itself, and ends,
        # since nobody holds the other end of its channel.
        self.places: weakref.WeakSet[_Worker] = weakref.WeakSet()
        self.modules: list[str] = []
        self.zygote: _Zygote | None = None
        self.closed = False

    def call(self, task: str, args: tuple[Any, ...], seconds: float) -> Any:
        try:
            request = encode({"task": task, "args": args, "seconds": seconds})
        except TooLarge:
            raise Exceeded("memory") from None
        worker = self._take(task.partition(":")[0])
        reply: dict[str, Any] = {}
        try:
            reply = worker.ask(request, seconds)
        except Exceeded:
            self.counts["killed"] += 1
            raise
        except (OSError, ValueError) as error:
            raise self._died(worker, error) from None
        finally:  # only a worker that has answered is used again
            self._give_back(worker, reuse="last" in reply and not reply["last"])
        return self._read(reply)

    def _read(self, reply: dict[str, Any]) -> Any:
        if "result" in reply:
            self.counts["retired"] += bool(reply["last"])
            return reply["result"]
        if "tripped" in reply:
            self.counts["tripped"] += 1
            raise Unreadable(f"reading it would run a program ({reply['tripped']})")
        if "exceeded" in reply:
            raise Exceeded(reply["exceeded"])
        message = reply.get("message", "")
        for kind in (BadGold, Unreadable):
            if reply.get("raised") == kind.__name__:
                raise kind(message)
        raise WorkerFailed(reply.get("failed") or f"{reply.get('raised')}: {message}")

    def _take(self, module: str) -> _Worker:
        """An idle worker, or a new one if there is room, or the next that is given back."""
        with self.changed:
            if module not in self.modules:
                self.modules.append(module)
            self._drop_orphans()
            while not self.idle:
                if self.closed:
                    raise WorkerFailed("this process is about to end")
                if len(self.places) < self.size:
                    worker = _Worker()
                    self.places.add(worker)
                    break
                self.changed.wait(0.5)
            else:
                return self.idle.pop()
        try:
            self._running_zygote().fork(worker, list(self.modules))
        except BaseException:
            self._give_back(worker, reuse=False)
            raise
        self.counts["started"] += 1
        return worker

    def _give_back(self, worker: _Worker, *, reuse: bool) -> None:
        with self.changed:
            if reuse and not self.closed:
                self.idle.append(worker)
            else:
                self.places.discard(worker)
                if worker.pid:
                    worker.channel.close()
                    worker.zygote.kill(worker.pid)
            self.changed.notify()

    def _drop_orphans(self) -> None:
        """Idle workers whose zygote was ended from outside have ended with it."""
        if self.zygote is not None and not self.zygote.alive():
            for worker in self.idle:
                self.places.discard(worker)
                worker.channel.close()
            self.idle.clear()

    def _running_zygote(self) -> _Zygote:
        with self.changed:
            if self.zygote is not None and not self.zygote.alive():
                self.zygote.close()
                self.zygote = None
            if self.zygote is None:
                with no_fork:
                    self.zygote = _Zygote()
            return self.zygote

    def _died(self, worker: _Worker, error: Exception) -> Exception:
        """What to raise for a worker that ended by itself: its CPU limit is the answer's fault, all else is not."""
        if self.closed:
            return WorkerFailed("this process is about to end")
        self.counts["died"] += 1
        if isinstance(error, ValueError) or not worker.zygote.alive():
            return WorkerFailed(f"a worker died: {one_line(error)}")
        worker.channel.close()
        pid, worker.pid = worker.pid, 0
        status = worker.zygote.status(pid)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            return Exceeded("time") if number == signal.SIGXCPU else WorkerFailed(f"a worker died of signal {number}")
        return WorkerFailed(f"a worker ended with status {os.waitstatus_to_exitcode(status)}")

    def close(self) -> None:
        """End everything, when this process ends."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        if self.zygote is not None:
            self.zygote.close()

    def forget(self) -> None:
        """In a forked child: let go of the parent's workers without touching them."""
        for worker in list(self.places):
            with contextlib.suppress(AttributeError):  # one that has no process yet
                worker.channel.close()
        if self.zygote is not None:
            self.zygote.control.close()
            self.zygote.process.returncode = 0  # it is not our child


_pool: _Pool | None = None
_lock = threading.Lock()


def _the_pool() -> _Pool:
    global _pool
    with _lock:
        if _pool is None:
            _pool = _Pool(workers_wanted())
        return _pool


def _forget() -> None:
    global _pool, _lock
    _lock = threading.Lock()
    if _pool is not None:
        _pool.forget()
        _pool = None


def _close() -> None:
    if _pool is not None:
        _pool.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_close)
