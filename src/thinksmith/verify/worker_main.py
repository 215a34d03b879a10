"""The other side of `verify/workers.py`: a clean process that forks workers, and what a worker does.

The parent process starts `main` in a fresh interpreter, the zygote. It has one thread, imports once what the tasks
need, and forks a worker in milliseconds when it is asked to, with a socket that it got from the parent. Zygote and
workers hold no descriptor of the parent's but these sockets, are in a session of their own, and end when the parent
does, however it ends: the zygote with its socket, the workers with the zygote (PR_SET_PDEATHSIG, where there is one).

A worker answers one task after another. While a task runs, a tripwire is armed: an audit hook that ends the worker at
once, with a message, when anything compiles or runs text, opens a file outside an import, starts a process, makes a
socket, or touches the file system. No task needs any of that, so a tripped wire means that a text of the model's came
to be run as a program.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import resource
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from thinksmith.verify.wire import Closed, TooLarge, encode, receive

MEMORY = 1 << 30
"""Bytes of address space that a worker may add to what it was forked with."""
TASKS = 500
"""Tasks that one worker answers before another takes its place."""
GROWTH = 256 << 20
"""Bytes of resident memory that a worker may add before another takes its place."""

_PR_SET_PDEATHSIG = 1
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ONLY_IN_AN_IMPORT = frozenset(("open", "compile", "exec"))
_NEVER = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "os.kill", "os.putenv",
    "os.unsetenv", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "os.utime", "os.setxattr", "os.removexattr", "os.chdir", "subprocess.", "pty.", "socket.", "ctypes.",
    "shutil.", "tempfile.", "mmap.", "fcntl.", "resource.", "signal.", "syslog.", "sqlite3.", "urllib.", "http.",
    "ftplib.", "smtplib.", "webbrowser.", "pickle.", "code.__new__", "function.__new__", "cpython.run", "sys.settrace",
    "sys.setprofile", "builtins.breakpoint", "builtins.input",
)  # fmt: skip


def main(channel: int) -> None:
    """The zygote: answers the parent on descriptor `channel` until that ends, and leaves nothing running.

    Asked for `{"modules": [...]}` with a socket beside it, it replies `{"pid": n}`; asked to `{"reap": pid}`, it
    replies `{"status": n}` as os.waitpid tells it, with None for what is no child of its own. A worker that has ended
    stays a zombie until then, so its number is never another process's.
    """
    parent, workers = os.getppid(), set[int]()
    control = socket.socket(fileno=channel)
    prepare_to_die = _dies_with_parent()
    try:
        while True:
            if not select.select([control], [], [], 1.0)[0]:
                if os.getppid() != parent:
                    return
                continue
            passed: list[int] = []
            request = receive(lambda size, passed=passed: _take(control, size, passed))  # type: ignore[misc]
            if "reap" in request:
                workers.discard(request["reap"])
                control.sendall(encode({"status": _reap(request["reap"])}))
                continue
            _load(request["modules"])  # what cannot be loaded here is told by the worker that is asked for it
            pid = _fork(control, passed[0], prepare_to_die)
            workers.add(pid)
            for descriptor in passed:
                os.close(descriptor)
            control.sendall(encode({"pid": pid}))
    except (Closed, OSError, ValueError):
        return
    finally:
        for pid in workers:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)


def _take(control: socket.socket, size: int, passed: list[int]) -> bytes:
    chunk, descriptors, _, _ = socket.recv_fds(control, size, 1)
    passed += descriptors
    return chunk


def _reap(pid: int) -> int | None:
    """The exit status of a worker that was killed or has ended; None if it was reaped before."""
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return None


def _load(modules: list[str]) -> dict[str, str] | None:
    """Import what the tasks live in, and let each warm up. None, or why the last that failed did."""
    failed = None
    for name in modules:
        if name in _loaded:
            continue
        try:
            module = importlib.import_module(name)
            _own_programs.update(getattr(module, "OWN_PROGRAMS", ()))
            if warm := getattr(module, "warm", None):
                warm()
            _loaded.add(name)
        except Exception as error:
            failed = {"failed": f"cannot load {name}: {type(error).__name__}: {error}"[:500]}
    return failed


_loaded = set[str]()
_own_programs = set[tuple[str, str]]()
"""(module, function) of libraries which build programs of their own with no text from outside in them."""


def _dies_with_parent() -> Callable[[], None]:
    """A function that makes its process end with its parent, where the system can do that."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _fork(control: socket.socket, channel: int, prepare_to_die: Callable[[], None]) -> int:
    zygote = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # as the child does for itself: whoever is first, the group is there to be killed
        return pid
    try:
        os.setpgid(0, 0)
        prepare_to_die()
        control.close()
        if os.getppid() == zygote:
            serve(channel)
    finally:
        os._exit(0)


def serve(channel: int) -> None:
    """A worker: answers tasks on descriptor `channel` until it ends, or until its time has come."""
    wire = Tripwire(channel)
    warnings.simplefilter("ignore")  # to show a warning means to read a source file, and nobody would see it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    before = _resident()
    if address_space := _address_space():
        _limit(resource.RLIMIT_AS, address_space + MEMORY)
    for served in range(1, TASKS + 1):
        try:
            request = receive(lambda size: os.read(channel, size))
        except (Closed, OSError, ValueError):
            return
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        _limit(resource.RLIMIT_CPU, int(used + request["seconds"]) + 2, hard=False)
        reply = _answer(request, wire)
        last = served == TASKS or _resident() - before > GROWTH or "exceeded" in reply
        _write(channel, encode(reply | {"last": last}))
        if last:
            return


def _answer(request: dict[str, Any], wire: Tripwire) -> dict[str, Any]:
    module, _, function = request["task"].partition(":")
    if failed := _load([module]):
        return failed
    random.seed(0)
    try:
        with wire:
            reply = {"result": getattr(sys.modules[module], function)(*request["args"])}
        encode(reply)
        return reply
    except (MemoryError, RecursionError, TooLarge):
        return {"exceeded": "memory"}
    except Exception as error:
        name = type(error).__name__
        return {"raised": name, "message": str(error)[:500]}


def _write(channel: int, data: bytes) -> None:
    while data:
        data = data[os.write(channel, data) :]


def _limit(which: int, value: int, *, hard: bool = True) -> None:
    """Lower a resource limit as far as the system lets us."""
    with contextlib.suppress(OSError, ValueError):
        ceiling = resource.getrlimit(which)[1]
        value = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(which, (value, value if hard else ceiling))


def _resident() -> int:
    """The most memory that this process ever held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _address_space() -> int | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


class Tripwire:
    """Armed inside its `with`: ends this process when something happens there that no task has any need of.

    It stops accidents of our libraries with the model's text, not a program that already runs: that has other ways.
    An audit hook cannot be taken back, so there is one for the life of the process.
    """

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.armed = False
        sys.addaudithook(self._heard)

    def __enter__(self) -> None:
        self.armed = True

    def __exit__(self, *_: object) -> None:
        self.armed = False

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed or not (event in _ONLY_IN_AN_IMPORT or event.startswith(_NEVER)):
            return
        if event in _ONLY_IN_AN_IMPORT and not (event == "open" and _writes(arguments)) and _of_the_library(event):
            return
        self.armed = False
        _write(self.channel, encode({"tripped": event, "last": True}))
        os._exit(3)


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return bool(isinstance(flags, int) and flags & _WRITES)


def _of_the_library(event: str) -> bool:
    """Whether this happens in an import, or where a library is known to compile what it wrote itself."""
    frame: FrameType | None = sys._getframe(2)
    if event != "open" and frame is not None:
        called = (frame.f_globals.get("__name__"), frame.f_code.co_name)
        if called in _own_programs:
            return True
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
