"""The machine that this runs on, measured: what memory is free, how fast it is read, how fast matrices are multiplied.

It takes about two seconds, once for a process. What else runs meanwhile takes its share: the best of several tries
counts.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from thinksmith.fit.memory.free import available_bytes, free_bytes, memory_bytes
from thinksmith.fit.memory.runtime import CONTEXT_OF_TORCH
from thinksmith.fit.speed.device import Device, Kind

if TYPE_CHECKING:
    import torch

# Far beyond the last cache of a desktop (1.1 GB in the largest server, where a read then looks faster than it is).
BUFFER = 2**28
TRIES = 5
LONGEST = 0.25  # seconds that further tries of one kind may take: others may be busy for a while
PATIENCE = 0.005  # seconds: a product that takes so long is large enough to be timed
SIZES = (512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per second that are read and copied (reading and writing both counted), operations per second by format."""

    read: float
    copied: float
    flops: dict[str, float]
    threads: int
    when: str


def this_device(again: bool = False) -> Device:
    """This machine, its GPU if it has one. `again`: measure its speed once more, which is else done once a process.

    `memory` is what it has, or its container's limit; `reserve` is what others use of it now.
    """
    taken = _own_bytes()  # before torch is imported, which takes more
    import torch

    kind: Kind = "cuda" if torch.cuda.is_available() else "metal" if torch.backends.mps.is_available() else "cpu"
    if again:
        _rates.cache_clear()
    rates = _rates(kind)
    memory, free, unified = _memory(kind)
    return Device(
        name="this",
        title=_title(kind),
        kind=kind,
        memory=memory,
        # What this process holds is free again when it ends.
        reserve=max(0, memory - free - taken),
        unified=unified,
        bandwidth=rates.read,
        flops=rates.flops,
        source=_source(kind, rates),
    )


def _memory(kind: Kind) -> tuple[int, int, bool]:
    """Bytes of memory, bytes that are free, and whether GPU and CPU share it."""
    import torch

    if kind == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
        if not torch.cuda.get_device_properties(device).is_integrated:
            _, total = torch.cuda.mem_get_info(device)
            # Our own context is there already, and is an item of the plan.
            return total, min(total, free_bytes(device) + CONTEXT_OF_TORCH), False
    if kind == "metal":
        return memory_bytes(), min(available_bytes(), torch.mps.recommended_max_memory()), True
    return memory_bytes(), available_bytes(), kind != "cpu"


@cache
def _rates(kind: Kind) -> Rates:
    import torch

    device = torch.device({"cuda": "cuda", "metal": "mps", "cpu": "cpu"}[kind])
    numbers = max(2**20, min(BUFFER, available_bytes() // 8) // 4)
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    read = 4 * numbers / _best(source.sum, device)
    copied = 8 * numbers / _best(lambda: target.copy_(source), device)
    # Decoding reads: on a CPU every byte that is written is read first, so a copy says less. A GPU's reduction may be
    # slower than its memory, which a copy then shows.
    best = read if kind == "cpu" else max(read, copied)
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    flops = {name: _multiplied(dtype, device) for name, dtype in formats.items()}
    if kind == "cuda" and (rate := _multiplied_fp8(device)):
        flops["fp8"] = rate
    when = datetime.now(UTC).date().isoformat()
    return Rates(best, copied, flops, torch.get_num_threads(), when)


def _best(work: Callable[[], object], device: torch.device, longest: float = LONGEST) -> float:
    """Seconds of the fastest of several tries, after one that does not count."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    work()
    wait()
    found, spent, tries = float("inf"), 0.0, 0
    while tries < TRIES or spent < longest:
        start = time.perf_counter()
        work()
        wait()
        took = time.perf_counter() - start
        found, spent, tries = min(found, took), spent + took, tries + 1
        if spent > 4 * longest:
            break
    return max(found, 1e-9)


def _multiplied(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of square products that are large enough to be timed."""
    import torch

    def product(size: int) -> Callable[[], object]:
        left = torch.ones(size, size, dtype=dtype, device=device)
        return lambda: left @ left

    return _grown(product, device)


def _multiplied_fp8(device: torch.device) -> float:
    """0 where the GPU has no products of 8-bit floats."""
    import torch

    one = torch.ones((), device=device)

    def product(size: int) -> Callable[[], object]:
        left = torch.ones(size, size, device=device).to(torch.float8_e4m3fn)
        return lambda: torch._scaled_mm(left, left.T, one, one, out_dtype=torch.bfloat16)

    try:
        return _grown(product, device)
    except RuntimeError:
        return 0.0


def _grown(product: Callable[[int], Callable[[], object]], device: torch.device) -> float:
    """The rate of the first of growing products that takes long enough."""
    for size in SIZES:
        if _best(product(size), device, 0.0) > PATIENCE:
            break
    return 2.0 * size**3 / _best(product(size), device)


def _own_bytes() -> int:
    """Bytes of main memory that this process holds itself; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
        return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _title(kind: Kind) -> str:
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "this machine"


def _source(kind: Kind, rates: Rates) -> str:
    threads = f" with {rates.threads} threads" if kind == "cpu" else ""
    products = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in rates.flops.items())
    return (
        f"measured {rates.when}{threads}: reading {rates.read / 1e9:.3g} GB/s, copying {rates.copied / 1e9:.3g} GB/s "
        f"(reads and writes), products {products} TFLOPS; memory as it is free now"
    )
