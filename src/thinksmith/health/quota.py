"""How much of the processors' time a container or a service manager grants this process, by control groups.

Version 2 writes it in `cpu.max` (https://docs.kernel.org/admin-guide/cgroup-v2.html), version 1 in `cpu.cfs_quota_us`
and `cpu.cfs_period_us` (https://docs.kernel.org/scheduler/sched-bwc.html). A limit of any group on the way up holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time, None where nothing limits it; `root` is where `proc` and `sys` lie."""
    return min(filter(None, map(_share, _groups(root))), default=None)


def _share(folder: Path) -> float | None:
    if lines := _lines(folder / "cpu.max"):
        time, period = (*lines[0].split(), "", "")[:2]
    else:
        time, period = ("".join(_lines(folder / f"cpu.cfs_{name}_us")[:1]) for name in ("quota", "period"))
    if not (_whole(time) and _whole(period)):  # "max", "-1", or nothing there
        return None
    return int(time) / int(period)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's group and of those above it, as far as they are to be seen here."""
    members = _members(root)
    for line in _lines(root / "proc/self/mountinfo"):  # 35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        first = kinds[0] == "cgroup" and "cpu" in kinds[-1].split(",")
        named = "cpu" if first else "" if kinds[0] == "cgroup2" else None
        if named in members:
            top, path = PurePosixPath(fields[3]), members[named]
            # A container may see its own group as the top, and yet be told its path in the whole.
            within = path.is_relative_to(top) and ".." not in path.parts
            inside = path.relative_to(top) if within else PurePosixPath()
            for below in (inside, *inside.parents):
                yield root / fields[4].lstrip("/") / below


def _members(root: Path) -> dict[str | None, PurePosixPath]:
    """The group of this process by controller; that of version 2 under ""."""
    found: dict[str | None, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):  # 1:cpu,cpuacct:/path, or 0::/path
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            found.update(dict.fromkeys(controllers.split(","), PurePosixPath(path)))
    return found


def _whole(text: str) -> bool:
    """A whole number above 0, and none that is made to hurt."""
    return text.isdecimal() and len(text) < 30 and int(text) > 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
