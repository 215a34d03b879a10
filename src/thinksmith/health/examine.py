"""All that is looked at: what must be waited for side by side, and then torch."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thinksmith.health import disk, endpoints, gpus, isolation, memory, processor, programs, store, torch_build
from thinksmith.health.finding import Finding
from thinksmith.sandbox import host
from thinksmith.store.connect import default_url


def examine(ask_endpoints: bool = True) -> tuple[Finding, ...]:
    """Everything about this machine, by area. Without `ask_endpoints` no connection is made."""
    url = default_url()
    with ThreadPoolExecutor() as pool:
        answering = pool.submit(endpoints.findings, endpoints.candidates(os.environ)) if ask_endpoints else None
        seen = pool.submit(gpus.graphics)
        started = pool.submit(programs.findings)
        isolating = pool.submit(host)
        disks = pool.submit(_disks, url)
        stored = pool.submit(store.findings, url)
    # Not beside them: while torch loads, Python can stand still for longer than a server has to answer.
    built = torch_build.build()
    cpu = processor.processor()
    return (
        *processor.findings(cpu, built.threads),
        *gpus.findings(seen.result(), built.unified, _other_gpus(built)),
        *torch_build.findings(built, seen.result(), cpu),
        *memory.findings(memory.memory()),
        *disks.result(),
        *stored.result(),
        *started.result(),
        *(answering.result() if answering else ()),
        *isolation.findings(isolating.result()),
    )


def _disks(url: str) -> list[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    return disk.findings(disk.places(store.place(url)), Path(HF_HUB_CACHE))


def _other_gpus(built: torch_build.Build) -> str:
    """GPUs that NVIDIA's driver does not know of."""
    if built.metal[1]:
        return "Apple's, memory shared with the CPU"
    return ", ".join(built.gpus) or "none"
