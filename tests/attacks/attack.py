"""What an attack is, and the stage on which all of them play: everything they aim at is the test's own."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thinksmith.sandbox import Limits, Result, landlock

LAYERS = ("namespaces", "landlock", "seccomp", "limits")
ALWAYS = ("always",)
"""Stopped however a program is run: no environment, descriptors, capabilities, new privileges; its own session."""

NUMBERS = {  # of system calls that only an attacker makes: x86_64, aarch64
    "bpf": (321, 280),
    "clock_settime": (227, 112),
    "init_module": (175, 105),
    "inotify_add_watch": (254, 27),
    "inotify_init1": (294, 26),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "mlock": (149, 228),
    "mount": (165, 40),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "process_vm_readv": (310, 270),
    "ptrace": (101, 117),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setpriority": (141, 140),
    "shmctl": (31, 195),
    "shmget": (29, 194),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}

PRELUDE = """
import ctypes, json, os, sys
given = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def escaped(how=""):
    print("ESCAPED", how, flush=True)
def system(name, *arguments):
    plain = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(given["numbers"][name]), *plain)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""


_LIMITS = Limits(seconds=5)


@dataclass(frozen=True)
class Stage:
    """What the attacks aim at, all of it made by the test.

    given: what the guest is told: paths, ports, the victim's process id. heard: whether anything reached the test that
    should not have (a listener was connected to, the victim got a signal), asked once per attack. user: whom the guests
    run as.
    """

    given: dict[str, Any]
    canary: Path
    heard: Callable[[], bool]
    user: int


def said_so(result: Result, stage: Stage) -> bool:
    """The attacker reports its success, or the stage noticed something."""
    return b"ESCAPED" in result.stdout or stage.heard()


def never(stage: Stage, layers: Sequence[str]) -> str:
    return ""


@dataclass(frozen=True)
class Attack:
    """A program that tries to do what it must not.

    stopped_by: the layers each of which stops it alone (or ALWAYS). escaped: whether it got through. host: why this
    machine stops it without any of those layers, or "". abi: the Landlock ABI from which on that layer counts.
    company: what else it needs, see test_attacks.
    """

    name: str
    source: str
    stopped_by: tuple[str, ...]
    limits: Limits = _LIMITS
    escaped: Callable[[Result, Stage], bool] = said_so
    host: Callable[[Stage, Sequence[str]], str] = never
    abi: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    company: str = ""

    def stops(self, layers: Sequence[str]) -> bool:
        """Whether these layers must stop it on this kernel."""
        counted = [name for name in layers if name != "landlock" or landlock.abi() >= self.abi]
        return self.stopped_by == ALWAYS or not set(counted).isdisjoint(self.stopped_by)


def only_root(*paths: str) -> Callable[[Stage, Sequence[str]], str]:
    """For attacks on one of these, which only root may open, and which not every machine has or lets root open."""

    def reason(stage: Stage, layers: Sequence[str]) -> str:
        if stage.user != 0:
            return "only root has rights to that"
        return "" if any(map(_opens, paths)) else f"root cannot open {', '.join(paths)} here"

    return reason


def _opens(pattern: str) -> bool:
    for path in glob.glob(pattern):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDONLY if path.startswith("/dev") else os.O_WRONLY))
            return True
    return False


OWN_USER = 1 << 30
"""Guests of root's that become a user of their own have a number above this one."""


def undumpable(stage: Stage, layers: Sequence[str]) -> str:
    return "the victim changed its user, so nobody may look into it" if stage.user >= OWN_USER else ""


def yama(stage: Stage, layers: Sequence[str]) -> str:
    if reason := undumpable(stage, layers):
        return reason
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return "Yama forbids it" if scope.exists() and scope.read_text().strip() != "0" else ""


def setting(path: str, allowed: tuple[str, ...]) -> Callable[[Stage, Sequence[str]], str]:
    """For attacks that a setting of the kernel stops, unless it has one of these values."""

    def reason(stage: Stage, layers: Sequence[str]) -> str:
        place = Path(path)
        value = place.read_text(encoding="ascii").strip() if place.exists() else "missing"
        return "" if value in allowed else f"{path} is {value}"

    return reason


def lacking(name: str, *arguments: Any) -> Callable[[Stage, Sequence[str]], str]:
    """For system calls that a kernel may be built without: the test makes the same call itself."""

    def reason(stage: Stage, layers: Sequence[str]) -> str:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.syscall(ctypes.c_long(stage.given["numbers"][name]), *arguments)
        if result == -1:
            return f"{name} fails here: {os.strerror(ctypes.get_errno())}"
        os.close(result)
        return ""

    return reason
