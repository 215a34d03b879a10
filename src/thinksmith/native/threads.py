"""OpenMP's worker threads, which torch and our C share.

Each thread that computes has workers of its own, as many as there are cores, and they stay. Once there are more of them
in all than cores, GNU's runtime hardly spins where they wait for each other: each of the thousands of short loops of a
decoding step then begins with waking a thread, and takes up to twice as long. So a thread that will not compute for a
while lets its workers go.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch  # noqa: F401  brings the runtime

SOFT = 1  # omp_pause_soft: OpenMP 5.0, section 2.11.6


def let_go() -> None:
    """End the calling thread's workers; its next parallel loop starts new ones, some 0.1 ms (bench/threads.py)."""
    pause = _pause()
    if pause is not None:
        pause(SOFT)


@cache
def _pause() -> Callable[[int], int] | None:
    """Of GNU's runtime. LLVM's would pause all threads, and has no such bound on spinning."""
    try:
        runtime = ctypes.CDLL(None)
        found: Callable[[int], int] = runtime.omp_pause_resource_all
    except (AttributeError, OSError, TypeError):
        return None
    return None if hasattr(runtime, "__kmpc_fork_call") else found
