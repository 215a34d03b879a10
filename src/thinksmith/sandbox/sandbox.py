"""Runs programs that nobody trusts, behind as many layers as the machine offers.

    namespaces   a machine of its own, with an interpreter and nothing else on it (bubblewrap)
    landlock     opens no file but the interpreter's, and its own
    seccomp      makes only system calls that ordinary programs make: no sockets, no programs, no processes
    limits       so much memory, processor time, disk, descriptors, threads

and, whatever the layers: no environment, no descriptors but its own, a session of its own, no new privileges, no
capabilities, and a clock and a cap on its output that the parent keeps.
"""

from __future__ import annotations

import math
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from thinksmith.errors import UserError
from thinksmith.sandbox import bubblewrap, landlock, seccomp, view
from thinksmith.sandbox.folder import MAX_ENTRIES
from thinksmith.sandbox.guest import Guest
from thinksmith.sandbox.limits import Limits, Result
from thinksmith.sandbox.orders import Landlock, Orders
from thinksmith.sandbox.spawn import Start

LAYERS = ("namespaces", "landlock", "seccomp", "limits")
_DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A way to run Python programs; `open_sandbox` makes one of the layers that work here. Safe to share by threads."""

    layers: tuple[str, ...]
    """Active, of "namespaces", "landlock", "seccomp", "limits"."""
    way: bubblewrap.Way = "user"
    """How bubblewrap is let in, if it is."""

    @property
    def isolates(self) -> bool:
        """Whether files and network are kept away. Landlock alone leaves all of the network but TCP open."""
        return "namespaces" in self.layers or {"landlock", "seccomp"} <= set(self.layers)

    def run(
        self,
        source: str,
        *,
        stdin: bytes = b"",
        arguments: Sequence[str] = (),
        files: Mapping[str, bytes] = {},
        packages: Sequence[Path] = (),
        limits: Limits = _DEFAULT,
    ) -> Result:
        """Run a Python program to its end, or to the first limit that it breaks. See `start`."""
        with self.start(
            source, stdin=stdin, arguments=arguments, files=files, packages=packages, limits=limits
        ) as guest:
            return guest.wait()

    def start(
        self,
        source: str,
        *,
        channels: Sequence[int] = (),
        stdin: bytes = b"",
        arguments: Sequence[str] = (),
        files: Mapping[str, bytes] = {},
        packages: Sequence[Path] = (),
        limits: Limits = _DEFAULT,
    ) -> Guest:
        """Start `source` as `__main__` of a fresh interpreter of our version, with the standard library only.

        channels: descriptors that it inherits; their numbers there stand in os.environ["CHANNELS"], joined by commas.
        files: put in its work folder, by relative path; that folder is its working directory and all it can write to.
        packages: folders that it can read, behind the standard library on sys.path.
        Raises UserError for a file name that leads out of the folder, files larger than it, a package that is no
        folder, or child processes without the layer `namespaces`.
        """
        _check_files(files, limits.disk)
        folders = _folders(packages)
        apart = "namespaces" in self.layers
        if limits.processes > 1 and not apart:
            raise UserError("a program with child processes needs the sandbox layer namespaces: install bubblewrap")
        if apart and self.way == "root":
            _check_open(folders)
        return Guest(
            Start(
                orders=partial(self._orders, source, list(arguments), dict(files), folders, limits),
                limits=limits,
                stdin=stdin,
                channels=channels,
                bubblewrap=self._bubblewrap(folders, limits.disk) if apart else None,
                folder=bubblewrap.place("work") if apart else None,
                counted="limits" in self.layers,
            )
        )

    def _orders(
        self,
        source: str,
        arguments: list[str],
        files: dict[str, bytes],
        packages: Sequence[Path],
        limits: Limits,
        folder: str,
        report: int,
    ) -> Orders:
        apart, identity = "namespaces" in self.layers, self._identity(packages)
        bounded = apart and self.way != "plain"
        path = bubblewrap.inside(packages) if apart else list(map(str, packages))
        # Where bubblewrap covers what is installed, the rules need not go around it.
        readable, listed = (view.readable(), ()) if apart else view.uncovered()
        return {
            "report": report,
            "parent": 0 if apart else os.getpid(),
            "folder": folder,
            "mount": f"size={limits.disk},nr_inodes={MAX_ENTRIES}".encode() if bounded else b"",
            "identity": identity,
            "rlimits": _rlimits(limits, own_user=bool(identity) or apart) if "limits" in self.layers else [],
            "landlock": self._landlock([*readable, *path], listed, folder),
            "filter": self._filter(limits.processes > 1),
            "files": files,
            "source": source,
            "arguments": arguments,
            "path": path,
        }

    def _bubblewrap(self, packages: Sequence[Path], disk: int) -> tuple[str, Callable[[int], bytes]]:
        program = bubblewrap.found()
        if program is None:
            raise UserError("the sandbox layer namespaces needs bubblewrap: install it (apt install bubblewrap)")
        return program, partial(bubblewrap.arguments, self.way, packages, disk)

    def _identity(self, packages: Sequence[Path]) -> int:
        """For root: a user that nobody else is, so that limits count this guest alone. 0: stay who we are.

        In namespaces the files of the interpreter stand alone; without them, the folders above must be open to others.
        """
        if os.geteuid() != 0:
            return 0
        inside = "namespaces" in self.layers
        own = 1_600_000_000 + secrets.randbelow(400_000_000)
        if inside:
            return own if self.way == "root" else 0
        return own if view.open_to_all([*view.readable(), tempfile.gettempdir(), *map(str, packages)]) else 0

    def _landlock(self, readable: Sequence[str], listed: Sequence[str], folder: str) -> Landlock | None:
        if "landlock" not in self.layers:
            return None
        return landlock.rules(landlock.abi(), readable, listed, view.DEVICES, folder)

    def _filter(self, processes: bool) -> bytes:
        if "seccomp" not in self.layers:
            return b""
        # In namespaces all files but its own are read-only, or another user's. Root in a user namespace stays the owner
        # of the few devices, and could close /dev/null to everybody.
        own_files = "namespaces" in self.layers and (self.way == "root" or os.geteuid() != 0)
        return seccomp.build(os.uname().machine, own_files=own_files, processes=processes)


def _check_files(files: Mapping[str, bytes], most: int) -> None:
    for name in files:
        if not PurePosixPath(name).parts or name.startswith("/") or "\0" in name or ".." in name.split("/"):
            raise UserError(f"file name {name!r} must be relative and stay in the work folder")
    if sum(map(len, files.values())) > most or len(files) > MAX_ENTRIES // 2:
        raise UserError(f"the files do not fit into the program's {most:,} bytes and {MAX_ENTRIES // 2:,} files")


def _folders(packages: Sequence[Path]) -> list[Path]:
    found = [Path(package).resolve() for package in packages]
    for package in found:
        if not package.is_dir() or package == Path("/"):
            raise UserError(f"{package} is no folder of packages")
    return found


def _check_open(packages: Sequence[Path]) -> None:
    """Root's guest becomes another user, who must be able to read them."""
    for package in packages:
        if package.stat().st_mode & 0o005 != 0o005:
            raise UserError(f"{package} cannot be read by the guest, who is another user: chmod o+rx {package}")


def _rlimits(limits: Limits, *, own_user: bool) -> list[tuple[int, int, int]]:
    """(resource, soft, hard), never above what we may use ourselves.

    Processes are counted per user, and all of a user's count. So they are limited only for a guest that is a user of
    its own, or one in a user namespace of its own; the two more are bubblewrap's.
    """
    import resource

    wanted = {
        resource.RLIMIT_AS: limits.memory,
        resource.RLIMIT_CPU: math.ceil(limits.cpu_seconds),
        resource.RLIMIT_FSIZE: limits.disk,
        resource.RLIMIT_NOFILE: limits.files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if own_user:
        wanted[resource.RLIMIT_NPROC] = limits.processes + limits.threads + 2
    granted = []
    for which, value in wanted.items():
        most = resource.getrlimit(which)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        # At the soft limit of processor time a program is asked to end, one second later it must.
        granted.append((which, value, value + 1 if which == resource.RLIMIT_CPU and value != most else value))
    return granted
