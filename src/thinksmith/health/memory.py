"""How much memory there is, and how much of it is left for a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thinksmith.fit.memory.free import available_bytes, meminfo, memory_bytes
from thinksmith.health.finding import Finding, memory_size

LITTLE = 2**30
"""Bytes that must be free. On two cores `thinksmith ask` takes 0.5 GB at its peak and `thinksmith quickstart` 1.0 GB
(their `ru_maxrss`, torch included); any larger model takes more."""

_SWAPPED = 0.5  # of the swap in use: what is asked for again must come from the disk


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `machine`: what is built in; `total`: what this process may have of it; `available`: what it can still get
    without swapping; `reserved`: huge pages that only programs get which ask for them by name. `transparent`: when the
    kernel makes huge pages by itself (`always`, `madvise`, `never`, or empty where it does not say)."""

    machine: int
    total: int
    available: int
    swap: int = 0
    swap_free: int = 0
    reserved: int = 0
    transparent: str = ""


def memory(root: Path = Path("/")) -> Memory:
    """This machine's; `root` is where `proc` and `sys` lie."""
    said, total = meminfo(root), memory_bytes(root)
    return Memory(
        machine=said.get("MemTotal", total),
        total=total,
        available=available_bytes(root),
        swap=said.get("SwapTotal", 0),
        swap_free=said.get("SwapFree", 0),
        reserved=said.get("Hugetlb", 0),
        transparent=_transparent(root),
    )


def findings(found: Memory, little: int = LITTLE) -> list[Finding]:
    """What is to be said of it; `little`: bytes that must be free."""
    return [_free(found, little), *_container(found), _swap(found), *_huge_pages(found)]


def _free(found: Memory, little: int) -> Finding:
    value = f"{memory_size(found.available)} of {memory_size(found.total)}"
    if found.available >= little:
        return Finding("memory", "free", value)
    remedy = "stop other programs (ps aux --sort=-rss | head shows the largest)"
    if found.total < found.machine:
        remedy = "grant the container more (docker run --memory), or stop other programs in it"
    return Finding("memory", "free", value, "problem", remedy)


def _container(found: Memory) -> list[Finding]:
    if found.total >= found.machine:
        return []
    value = f"grants {memory_size(found.total)} of the machine's {memory_size(found.machine)}"
    return [Finding("memory", "container", value)]


def _swap(found: Memory) -> Finding:
    if not found.swap:
        return Finding("memory", "swap", "none")
    value = f"{memory_size(found.swap - found.swap_free)} of {memory_size(found.swap)} used"
    if found.swap_free < found.swap * _SWAPPED:
        return Finding("memory", "swap", value, "note", "stop other programs: what was swapped out comes back slowly")
    return Finding("memory", "swap", value)


def _huge_pages(found: Memory) -> list[Finding]:
    if not found.transparent and not found.reserved:
        return []
    value = f"made by the kernel: {found.transparent or 'unknown'}"
    if found.reserved:
        remedy = "sudo sysctl vm.nr_hugepages=0 gives them back, if nothing here needs them"
        value += f"; {memory_size(found.reserved)} reserved, which no model can use"
        return [Finding("memory", "huge pages", value, "note", remedy)]
    return [Finding("memory", "huge pages", value)]


def _transparent(root: Path) -> str:
    """The word in brackets: "always [madvise] never"."""
    try:
        text = (root / "sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    chosen = [word[1:-1] for word in text.split() if word.startswith("[") and word.endswith("]")]
    return chosen[0] if chosen else ""
