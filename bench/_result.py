"""How every bench ends: one JSON file in bench/results, and one JSON object as the last line of its output."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("thinksmith", "torch", "transformers", "tokenizers", "numpy", "trl", "math-verify", "sympy")


def finish(name: str, figures: dict[str, Any], goals: dict[str, Any], holds: bool) -> None:
    """Write results/`name`.json (figures, goals, machine, versions, date) and print the last line.

    With --quick among the arguments, the file of a full run is left as it is; a quick one is written if there is none.
    """
    quick = "--quick" in sys.argv[1:]
    summary = {"name": name, "figures": figures, "goals": goals, "holds": holds}
    record = summary | {
        "quick": quick,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }
    path = RESULTS / f"{name}.json"
    if not (quick and is_full(path)):
        RESULTS.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)
    print(json.dumps(summary, ensure_ascii=False))


def is_full(path: Path) -> bool:
    """Does this file hold the result of a full run?"""
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("quick") is False
    except (OSError, ValueError, AttributeError):
        return False


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GB; the accelerator if torch is loaded and sees one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    return {
        "cpu": cpu_model(),
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": gpu,
        "system": platform.platform(),
    }


def cpu_model() -> str:
    """The processor's name; /proc/cpuinfo has it on Linux/x86, elsewhere the architecture must do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def versions() -> dict[str, str]:
    """Python and the packages that figures depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
