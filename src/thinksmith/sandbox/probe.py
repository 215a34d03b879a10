"""Which layers work on this machine: each is tried, once per process, on a guest that tries to get out.

The guest tries to read a file of the parent's and to connect to a port that the parent listens on (on loopback). A
layer counts only if the guest started and the attempt that it must stop was stopped.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import tempfile
import threading
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from thinksmith.errors import UserError, one_line
from thinksmith.sandbox import bubblewrap, landlock
from thinksmith.sandbox.limits import Limits
from thinksmith.sandbox.sandbox import LAYERS, Sandbox
from thinksmith.sandbox.syscalls import ARCHITECTURES

UNSAFE = "THINKSMITH_UNSAFE_CODE"
_KEEPERS = {
    "files": ("namespaces", "landlock"),
    "network": ("namespaces", "seccomp"),
    "processes": ("namespaces", "seccomp"),
    "resources": ("limits",),
}
_ATTEMPT = """
import sys
try:
    open(sys.argv[1]).read()
    print("files")
except OSError:
    pass
try:
    import _socket
    _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).connect(("127.0.0.1", int(sys.argv[2])))
    print("network")
except OSError:
    pass
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer on this machine: whether it works; if not, why, and what can be done."""

    name: str
    active: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine offers; `way` is how bubblewrap is let in."""

    layers: tuple[Layer, ...]
    way: bubblewrap.Way

    @property
    def active(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers if layer.active)

    @property
    def isolates(self) -> bool:
        """Whether untrusted code can be run here."""
        return Sandbox(self.active, self.way).isolates

    def keepers(self) -> dict[str, tuple[str, ...]]:
        """What must be kept from a program, and the active layers that do."""
        return {what: tuple(name for name in names if name in self.active) for what, names in _KEEPERS.items()}


def open_sandbox(*, unsafe: bool = False, only: Collection[str] | None = None) -> Sandbox:
    """The sandbox of this machine, with all layers that work here.

    unsafe: also if nothing keeps a program from files and network; so does THINKSMITH_UNSAFE_CODE=1 in the environment.
    only: these layers and no others, isolating or not; for tests. Raises UserError if that cannot be.
    """
    found = host()
    if only is not None:
        if lacking := sorted(set(only) - set(found.active)):
            raise UserError(f"no sandbox layer {', '.join(lacking)} here: see thinksmith doctor")
        return Sandbox(tuple(name for name in LAYERS if name in only), found.way)
    sandbox = Sandbox(found.active, found.way)
    if not found.active:
        raise UserError(f"programs can be run on Linux only, not on {platform.system()}")
    if not sandbox.isolates and not unsafe and os.environ.get(UNSAFE) != "1":
        hints = "; ".join(layer.remedy for layer in found.layers if layer.remedy)
        raise UserError(
            f"untrusted code is not run: nothing here keeps it from your files and network; {hints};"
            " or run it anyway with --unsafe-code"
        )
    return sandbox


def host() -> Host:
    """Try every layer; the answer is kept for the life of this process."""
    with _Once.lock:
        return _probe()


class _Once:
    """Threads that ask at once try only once; a child that was forked meanwhile asks anew."""

    lock = threading.Lock()

    @classmethod
    def renew(cls) -> None:
        cls.lock = threading.Lock()


os.register_at_fork(after_in_child=_Once.renew)


@cache
def _probe() -> Host:
    if not sys.platform.startswith("linux"):
        return Host(tuple(Layer(name, False, "needs Linux", "use Linux") for name in LAYERS), "user")
    with tempfile.TemporaryDirectory(prefix="sandbox-probe-") as folder, socket.create_server(("127.0.0.1", 0)) as door:
        canary = Path(folder, "canary")
        canary.write_text("tweet", encoding="utf-8")
        for path, mode in ((folder, 0o755), (canary, 0o644)):
            os.chmod(path, mode)  # so that only a layer keeps it, not another user's rights
        given = [str(canary), str(door.getsockname()[1])]
        namespaces, way = _namespaces(given)
        return Host((namespaces, _landlock(given), _seccomp(given), _layer("limits", given)), way)


def _layer(name: str, arguments: list[str], way: bubblewrap.Way = "user", remedy: str = "") -> Layer:
    result = Sandbox((name,), way).run(_ATTEMPT, arguments=arguments, limits=Limits(seconds=5))
    if result.status != "ok":
        return Layer(name, False, one_line(RuntimeError(result.reason)), remedy)
    if open_to := [what for what in result.stdout.decode().split() if name in _KEEPERS[what]]:
        return Layer(name, False, f"does not keep away {' and '.join(open_to)}", remedy)
    return Layer(name, True)


def _namespaces(arguments: list[str]) -> tuple[Layer, bubblewrap.Way]:
    if bubblewrap.found() is None:
        return Layer("namespaces", False, "bubblewrap is not installed", "install bubblewrap"), "user"
    remedy = "let bubblewrap make user namespaces (on Ubuntu: an AppArmor profile for bwrap)"
    for way in bubblewrap.ways():
        layer = _layer("namespaces", arguments, way, remedy)
        if layer.active:
            break
    return layer, way


def _landlock(arguments: list[str]) -> Layer:
    remedy = "use Linux 6.2 or newer with Landlock among its security modules (kernel option lsm=landlock,…)"
    if landlock.abi() < landlock.LEAST_ABI:
        reason = f"the kernel has Landlock ABI {landlock.abi()}" if landlock.abi() else "the kernel has no Landlock"
        return Layer("landlock", False, reason, remedy)
    return _layer("landlock", arguments, remedy=remedy)


def _seccomp(arguments: list[str]) -> Layer:
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        return Layer("seccomp", False, f"no filter for {machine}", "use x86_64 or aarch64")
    return _layer("seccomp", arguments, remedy="use a kernel with seccomp filters")
