"""Starts the process of a guest: descriptors, command line, environment. Nothing here waits.

The process is made by subprocess without a `preexec_fn`, so it is safe in a process with many threads and fast in one
with much memory (vfork). Source, files and orders travel through sealed memory and not by the command line, which
others could read.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType

from thinksmith.sandbox import launcher
from thinksmith.sandbox.forks import no_fork
from thinksmith.sandbox.limits import Limits
from thinksmith.sandbox.orders import Orders
from thinksmith.sandbox.view import executable

# Isolated, without site-packages, nothing written beside the modules, text is UTF-8.
_FLAGS = ("-I", "-S", "-B", "-X", "utf8")
_BOOT = (
    "import marshal,posix;c,o=marshal.loads(posix.read({0},{1}));posix.close({0});"
    "g={{'__name__':'launcher'}};exec(c,g);g['launch'](o)"
)


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a guest.

    orders: what to tell the launcher, given the work folder and the descriptor to report on.
    bubblewrap: its path, and its arguments given the descriptor on which it tells of its child; None: without it.
    folder: the guest's work folder, None for one on this machine's disk, which is made, measured and removed.
    """

    orders: Callable[[str, int], Orders]
    limits: Limits
    stdin: bytes
    channels: Sequence[int]
    bubblewrap: tuple[str, Callable[[int], bytes]] | None
    folder: str | None
    counted: bool
    """Whether the disk and the threads that it uses must be counted from outside, since nothing else bounds them."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process that was started, and the descriptors to know it by; `info` is -1 without bubblewrap."""

    process: subprocess.Popen[bytes]
    pidfd: int
    out: int
    err: int
    report: int
    info: int


def spawn(start: Start, folder: str, left: ExitStack) -> Spawned:
    """Start the process. All that must be closed in the end is left to `left`. Raises OSError."""
    with no_fork, ExitStack() as given:  # the guest gets copies of these, and nobody else
        report, report_end = _pipe(left, given)
        info, info_end = _pipe(left, given) if start.bubblewrap else (-1, -1)
        content = marshal.dumps((_code(), start.orders(folder, report_end)))  # type: ignore[arg-type]
        orders = _memory(content, given)
        passed = [report_end, orders, *start.channels]
        command = [executable(), *_FLAGS, "-c", _BOOT.format(orders, len(content))]
        if start.bubblewrap:
            program, arguments = start.bubblewrap
            options = _memory(arguments(info_end), given)
            command = [program, "--args", str(options), *command]
            passed += [info_end, options]
        process = subprocess.Popen(
            command,
            stdin=_memory(start.stdin, given) if start.stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=_environment(folder, start.channels),
            cwd="/",
            pass_fds=passed,
            start_new_session=True,
        )
    assert process.stdout is not None
    assert process.stderr is not None
    left.enter_context(process.stdout)
    left.enter_context(process.stderr)
    pidfd = _pidfd(process)
    left.callback(os.close, pidfd)
    return Spawned(process, pidfd, process.stdout.fileno(), process.stderr.fileno(), report, info)


def _pidfd(process: subprocess.Popen[bytes]) -> int:
    """A descriptor of the process. One that cannot be watched is ended."""
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _environment(folder: str, channels: Sequence[int]) -> dict[str, str]:
    """All that a guest finds in its environment. One arena: else threads use up the address space with reserves."""
    return {
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "MALLOC_ARENA_MAX": "1",
        "CHANNELS": ",".join(map(str, channels)),
    }


def _pipe(left: ExitStack, given: ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    left.callback(os.close, reading)
    given.callback(os.close, writing)
    return reading, writing


def _memory(content: bytes, given: ExitStack) -> int:
    """`content` behind a descriptor that stands at its start and that nobody can change."""
    handle = os.memfd_create("data", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    given.callback(os.close, handle)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.lseek(handle, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
    return handle


@cache
def _code() -> CodeType:
    """The launcher, compiled once here rather than at every start there."""
    source = Path(launcher.__file__).read_text(encoding="utf-8")
    return compile(source, "<launcher>", "exec", dont_inherit=True, optimize=2)
