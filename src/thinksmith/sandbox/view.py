"""What a guest sees of this machine: shared libraries, the interpreter's own files, a few devices; all read-only.

Not the whole of /usr: a container may well keep its application in /usr/src or /usr/local.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@cache
def executable() -> str:
    """This interpreter's own executable, outside of any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@cache
def readable() -> tuple[str, ...]:
    """Existing folders and files that a guest needs to run Python, none below another."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = os.path.dirname(os.path.dirname(executable()))  # where Python looks, if the prefix is a symbolic link to it
    roots = dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, home))
    libraries = (f"{root}/{name}" for root in roots for name in ("lib", "lib64") if root not in ("/", "/usr"))
    standard = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    archives = (f"{root}/lib/{version.replace('.', '')}.zip" for root in roots)
    return outermost([*LIBRARIES, executable(), *libraries, *standard, *archives])


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Those of `paths` that exist and do not lie below another one, in their order."""
    there = [path for path in dict.fromkeys(map(os.path.normpath, paths)) if os.path.lexists(path)]
    return tuple(path for path in there if not any(str(parent) in there for parent in Path(path).parents))


def open_to_all(paths: Iterable[str]) -> bool:
    """May every user reach these paths by their modes?"""
    for path in paths:
        real = Path(os.path.realpath(path))
        if not all(place.stat().st_mode & 0o001 for place in real.parents) or not real.stat().st_mode & 0o004:
            return False
    return True
