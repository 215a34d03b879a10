"""How much memory is free on a device, and how much a process may have at all: what the system says, and its container.

A container's limit is in no file that says how much memory the machine has, and what goes past it is killed. `root` is
where `proc` and `sys` lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROOT = Path("/")
# A page of a file can be dropped and read again. Both versions count these in a group's use.
# https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html
RECLAIMED = ("inactive_file", "active_file", "slab_reclaimable")
FILES = {  # limit, use, and how lines of memory.stat begin that count the groups below too
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    2: ("memory.max", "memory.current", ""),
}


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated. On unified memory the system knows better than the driver."""
    if device.type == "cuda":
        import torch

        if not torch.cuda.get_device_properties(device).is_integrated:
            free, _ = torch.cuda.mem_get_info(device)
            # What torch holds and does not use is free too.
            return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return available_bytes()


def available_bytes(root: Path = ROOT) -> int:
    """Bytes of main memory that this process can still get without swapping: MemAvailable, or what its container's
    limits leave if that is less."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # where nobody says: not all, at least
    return max(0, min([_meminfo(root, "MemAvailable") or half, *(limit - used for limit, used in _limits(root))]))


def memory_bytes(root: Path = ROOT) -> int:
    """Bytes of main memory that this process may have with nothing else running: the machine's, or its container's
    limit if that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([_meminfo(root, "MemTotal") or whole, *(limit for limit, _ in _limits(root))])


def _meminfo(root: Path, name: str) -> int:
    """Bytes, 0 where there is no such line (https://docs.kernel.org/filesystems/proc.html#meminfo)."""
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith(f"{name}:"):
            return _whole(line.split()[1]) * 1024
    return 0


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Of each group that limits this process: the limit, and what of it is used and cannot be reclaimed."""
    for folder, version in _groups(root):
        limit, used, prefix = FILES[version]
        most = _text(folder / limit).strip()
        if most.isdecimal() and (folder / used).is_file():  # else it is "max", or the top group, which has no such file
            counted = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
            reclaimed = sum(_whole(counted.get(prefix + name, "0")) for name in RECLAIMED)
            yield int(most), max(0, _whole(_text(folder / used)) - reclaimed)


def _groups(root: Path) -> Iterator[tuple[Path, int]]:
    """The folders of this process's memory group and of those above it, as far as they are to be seen here, and which
    version of control groups they are of."""
    paths: dict[int, PurePosixPath] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():  # 4:memory:/path, or 0::/path
        number, _, rest = line.partition(":")
        controllers, _, told = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = PurePosixPath(told)
        elif "memory" in controllers.split(","):
            paths[1] = PurePosixPath(told)
    # 35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        version = 2 if kinds[0] == "cgroup2" else 1 if kinds[0] == "cgroup" and "memory" in kinds[-1].split(",") else 0
        if version in paths:
            top, path = PurePosixPath(fields[3]), paths[version]
            # A container may see its own group as the top, and yet be told its path in the whole.
            within = path.is_relative_to(top) and ".." not in path.parts
            inside = path.relative_to(top) if within else PurePosixPath()
            place = root / fields[4].lstrip("/")
            for below in (inside, *inside.parents):
                yield place / below, version


def _whole(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
