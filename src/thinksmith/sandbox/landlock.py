"""The layer `landlock`: which files a guest may open, by the kernel's own rules for unprivileged processes.

Rights that a newer kernel added are handled where it knows them: connecting TCP (ABI 4), device ioctls (5), abstract
Unix sockets and signals (6). Less than ABI 3 (Linux 6.2) is taken as nothing, since files could be truncated there.
Nothing may be executed: the interpreter is already running when the rules come into force.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from functools import cache

from thinksmith.sandbox.orders import Landlock

LEAST_ABI = 3
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_CREATE_RULESET = 444

# LANDLOCK_ACCESS_FS_*, by bit: execute, write, read, read_dir, remove_dir, remove_file, make_char, make_dir, make_reg,
# make_sock, make_fifo, make_block, make_sym, refer (ABI 2), truncate (3), ioctl_dev (5).
_BITS = {3: 15, 4: 15, 5: 16}
LIST = 1 << 3
READ = 1 << 2 | LIST
WRITE = 1 << 1 | 1 << 14
_CHANGE = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 12 | 1 << 13  # no devices, no sockets
_TCP = 1 << 0 | 1 << 1  # bind, connect
_SCOPED = 1 << 0 | 1 << 1  # abstract Unix sockets, signals


@cache
def abi() -> int:
    """The kernel's Landlock ABI; 0 if it has none, or has it switched off."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, 0, _VERSION)))


def rules(
    version: int, readable: Iterable[str], listed: Iterable[str], devices: Iterable[str], folder: str
) -> Landlock:
    """Orders for the launcher: which rights hold below which paths.

    Read below `readable`, see names below `listed`, read and write `devices`, everything but devices in `folder`.
    """
    handled = [(1 << _BITS[min(version, 5)]) - 1]
    if version >= 4:
        handled.append(_TCP)
    if version >= 6:
        handled.append(_SCOPED)
    return {
        "handled": b"".join(part.to_bytes(8, sys.byteorder) for part in handled),
        "rules": [
            *((path, READ) for path in readable),
            *((path, LIST) for path in listed),
            *((path, READ | WRITE) for path in devices),
            (folder, READ | WRITE | _CHANGE),
        ],
    }
