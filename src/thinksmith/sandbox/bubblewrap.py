"""The layer `namespaces`: bubblewrap gives the guest a machine of its own, with nothing on it but an interpreter.

Its own processes, network (none, not even loopback up), mounts, host name, System V queues. The root is an empty memory
file system that is read-only in the end; its work folder is another, of a bounded size.

Three ways in. Root needs no user namespace and afterwards becomes a user of its own, so that limits on processes hold
and no file of root's is its own. Anybody else makes a user namespace, which some systems refuse. Others (AppArmor's
profile for bwrap) let it be made but give no capabilities in it: that is the plain way, where nothing bounds the number
of files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Literal

from thinksmith.sandbox import view

Way = Literal["root", "user", "plain"]

_SHARED = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
_NOBODY = "65534"
# The launcher needs these to bound the work folder and to leave root; it gives them up before the program runs.
_CAPABILITIES: dict[Way, tuple[str, ...]] = {
    "root": ("CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"),
    "user": ("CAP_SYS_ADMIN",),
    "plain": (),
}


@cache
def found() -> str | None:
    """Where bubblewrap is installed."""
    return shutil.which("bwrap")


def ways() -> tuple[Way, ...]:
    """What may work for this user, the better one first."""
    return ("root", "user", "plain") if os.geteuid() == 0 else ("user", "plain")


@cache
def place(name: str) -> str:
    """A folder at the top of the guest's file system that has nothing readable in it: /work, or else /work1, …"""
    taken = {Path(path).parts[1] for path in view.readable()}
    return next(f"/{name}{number or ''}" for number in count() if f"{name}{number or ''}" not in taken)


def arguments(way: Way, packages: Sequence[Path], disk: int, info: int) -> bytes:
    """What bubblewrap reads from a descriptor (its command line could be read in the guest's /proc)."""
    work, readable = place("work"), view.readable()
    given = list(_SHARED) + (["--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY] if way != "root" else [])
    given += ["--die-with-parent", "--new-session", "--hostname", "guest", "--info-fd", str(info), "--cap-drop", "ALL"]
    for capability in _CAPABILITIES[way]:
        given += ["--cap-add", capability]
    places = (*readable, *inside(packages), *view.DEVICES)
    for parent in sorted({str(parent) for path in places for parent in Path(path).parents} - {"/"}):
        given += ["--dir", parent]  # else a folder of root's own stays closed to the guest
    for path in readable:
        if os.path.islink(path):
            given += ["--symlink", os.readlink(path), path]
        else:
            given += ["--ro-bind", path, path]
    for path in view.hidden():
        given += ["--tmpfs", path, "--remount-ro", path]
    for path, package in zip(inside(packages), packages, strict=True):
        given += ["--ro-bind", str(package), path]
    for device in view.DEVICES:
        given += ["--dev-bind-try", device, device]
    size = ["--size", str(disk)] if way == "plain" else []  # else the launcher sees to it, and to the number of files
    given += ["--proc", "/proc", *size, "--tmpfs", work, "--remount-ro", "/", "--chdir", work]
    return b"\0".join(map(os.fsencode, given))


def inside(packages: Sequence[Path]) -> list[str]:
    """Where the guest finds the packages; their real places are nobody's business."""
    return [f"{place('packages')}/{number}" for number in range(len(packages))]
