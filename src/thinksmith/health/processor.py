"""The processor, and how much of it this process may use."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from thinksmith.health.finding import Finding, plain
from thinksmith.health.quota import quota

# What torch and the C decoder have other code for, by the kernel's names; the wider ones first.
_TELLING = (
    *("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2"),
    *("sve2", "sve", "i8mm", "bf16", "asimddp", "asimd"),
)
BF16 = {"amx_bf16", "avx512_bf16", "bf16"}
"""Flags of processors that have instructions for products of bfloat16."""


@dataclass(frozen=True, slots=True)
class Processor:
    """`cores`: what the machine has, as the system counts them (hyperthreads too); `allowed`: those that this process
    may run on; `quota`: processors' worth of time that a container grants (None: no limit). `flags`: the kernel's."""

    model: str
    machine: str
    cores: int
    allowed: int
    quota: float | None = None
    flags: frozenset[str] = frozenset()

    @property
    def usable(self) -> int:
        """Threads that can run at the same time."""
        return self.allowed if self.quota is None else max(1, min(self.allowed, int(self.quota)))


def processor(root: Path = Path("/")) -> Processor:
    """This machine's; `root` is where `proc` and `sys` are."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
    cores = os.cpu_count() or 1
    return Processor(
        model=plain(said.get("model name") or platform.processor() or "unknown"),
        machine=platform.machine(),
        cores=cores,
        allowed=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores,
        quota=quota(root),
        flags=frozenset((said.get("flags") or said.get("Features") or "").split()),
    )


def findings(cpu: Processor, threads: int) -> list[Finding]:
    """What is to be said of a processor on which torch computes with so many threads."""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    telling = ", ".join(flag for flag in _TELLING if flag in cpu.flags)
    found = [
        Finding("machine", "system", plain(system)),
        Finding("machine", "processor", f"{cpu.model} ({cpu.machine}{', ' + telling if telling else ''})"),
    ]
    cores = f"{cpu.allowed} of {cpu.cores}" + ("" if cpu.quota is None else f", time of {cpu.quota:g} granted")
    if threads > cpu.usable:
        remedy = f"export OMP_NUM_THREADS={cpu.usable}: more threads than cores wait for each other"
        found.append(Finding("machine", "cores", f"{cores}, {threads} threads", "note", remedy))
    else:
        found.append(Finding("machine", "cores", f"{cores}, {threads} threads"))
    return found
