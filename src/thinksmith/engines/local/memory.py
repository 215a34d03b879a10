"""What of memory only the engine asks: whether it ran out, and what a buffer really takes of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


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
