"""How much of the processors' time a container or a service manager grants this process, by control groups.

Version 2 writes it in `cpu.max` (https://docs.kernel.org/admin-guide/cgroup-v2.html), version 1 in `cpu.cfs_quota_us`
and `cpu.cfs_period_us` (https://docs.kernel.org/scheduler/sched-bwc.html).
"""

from __future__ import annotations

from pathlib import Path

from thinksmith.fit.memory.groups import groups, text


def quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time, None where nothing limits it; `root` is where `proc` and `sys` lie."""
    return min(filter(None, (_share(folder) for folder, _ in groups(root, "cpu"))), default=None)


def _share(folder: Path) -> float | None:
    if lines := text(folder / "cpu.max").splitlines():
        time, period = (*lines[0].split(), "", "")[:2]
    else:
        time, period = ("".join(text(folder / f"cpu.cfs_{name}_us").splitlines()[:1]) for name in ("quota", "period"))
    if not (_whole(time) and _whole(period)):  # "max", "-1", or nothing there
        return None
    return int(time) / int(period)


def _whole(text: str) -> bool:
    """A whole number above 0, and none that is made to hurt."""
    return text.isdecimal() and len(text) < 30 and int(text) > 0
