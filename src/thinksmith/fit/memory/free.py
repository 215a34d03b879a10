"""How much memory is free on a device, and how much a process may have at all: what the system says, and its container.

A container's limit is in no file that says how much memory the machine has, and what goes past it is killed. `root` is
where `proc` and `sys` lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from thinksmith.fit.memory.groups import groups, text

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
    return max(0, min([meminfo(root).get("MemAvailable") or half, *(limit - used for limit, used in _limits(root))]))


def memory_bytes(root: Path = ROOT) -> int:
    """Bytes of main memory that this process may have with nothing else running: the machine's, or its container's
    limit if that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([meminfo(root).get("MemTotal") or whole, *(limit for limit, _ in _limits(root))])


def meminfo(root: Path = ROOT) -> dict[str, int]:
    """What the kernel says of memory, in bytes (https://docs.kernel.org/filesystems/proc.html#meminfo)."""
    parts = [line.replace(":", " ").split() for line in text(root / "proc/meminfo").splitlines()]
    return {part[0]: int(part[1]) * 1024 for part in parts if len(part) > 1 and part[1].isdecimal()}


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Of each group that limits this process: the limit, and what of it is used and cannot be reclaimed."""
    for folder, version in groups(root, "memory"):
        limit, used, prefix = FILES[version]
        most = text(folder / limit).strip()
        if most.isdecimal() and (folder / used).is_file():  # else it is "max", or the top group, which has no such file
            counted = dict(line.split(maxsplit=1) for line in text(folder / "memory.stat").splitlines() if " " in line)
            reclaimed = sum(_whole(counted.get(prefix + name, "0")) for name in RECLAIMED)
            yield int(most), max(0, _whole(text(folder / used)) - reclaimed)


def _whole(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0
