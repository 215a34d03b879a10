"""The control groups that limit this process, of either version, as far as they are to be seen here.

`root` is where `proc` and `sys` lie. A limit of any group on the way up holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of this process's group for `controller` (`memory`, `cpu`) and of those above it, and which version
    of control groups they are of."""
    paths = _paths(root, controller)
    # 35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
    for line in text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        first = kinds[0] == "cgroup" and controller in kinds[-1].split(",")
        version = 2 if kinds[0] == "cgroup2" else 1 if first else 0
        if version in paths:
            top, path = PurePosixPath(fields[3]), paths[version]
            # A container may see its own group as the top, and yet be told its path in the whole.
            within = path.is_relative_to(top) and ".." not in path.parts
            inside = path.relative_to(top) if within else PurePosixPath()
            for below in (inside, *inside.parents):
                yield root / fields[4].lstrip("/") / below, version


def _paths(root: Path, controller: str) -> dict[int, PurePosixPath]:
    """The path of this process's group, by version."""
    paths: dict[int, PurePosixPath] = {}
    for line in text(root / "proc/self/cgroup").splitlines():  # 4:memory:/path, or 0::/path
        number, _, rest = line.partition(":")
        controllers, _, told = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = PurePosixPath(told)
        elif controller in controllers.split(","):
            paths[1] = PurePosixPath(told)
    return paths


def text(file: Path) -> str:
    """What the file says, nothing where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
