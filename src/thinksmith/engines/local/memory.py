"""How much memory is free on a device."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated. On unified memory the system knows better than the driver."""
    if device.type == "cuda" and not torch.cuda.get_device_properties(device).is_integrated:
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds and does not use is free too.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return _available()


def out_of_memory(error: Exception) -> bool:
    """Is this how a device, or the CPU's allocator, says that it has no more?"""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def touched(buffer: torch.Tensor, size: int) -> int:
    """Bytes that a large buffer of numpy's zeros takes on a CPU when its first `size` bytes were written to.

    numpy asks the system for huge pages, of which the last is taken whole.
    """
    end = buffer.data_ptr() + size
    huge = _huge_page()
    return min(buffer.nbytes, -(-end // huge) * huge - buffer.data_ptr()) if huge else size


@cache
def _huge_page() -> int:
    """Bytes of a transparent huge page, 0 where there are none."""
    folder = Path("/sys/kernel/mm/transparent_hugepage")
    try:
        never = "[never]" in (folder / "enabled").read_text(encoding="ascii")
        return 0 if never else int((folder / "hpage_pmd_size").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
