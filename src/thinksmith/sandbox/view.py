"""What a guest sees of this machine: shared libraries, the interpreter's own files, a few devices; all read-only.

Not the whole of /usr: a container may well keep its application in /usr/src or /usr/local. Nor the packages that are
installed beside the standard library: they may be somebody's own.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")
INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages, which lie beside the standard library or in it."""
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
    archives = (f"{root}/lib/{version.replace('.', '')}.zip" for root in roots)
    return outermost([*LIBRARIES, executable(), *libraries, *_standard(), *archives])


def _standard() -> list[str]:
    """The folders of the standard library; asked by name, "platstdlib" of a virtual environment is the environment."""
    bases = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    bases |= {f"installed_{name}": base for name, base in bases.items()}
    return [sysconfig.get_path(name, vars=bases) for name in ("stdlib", "platstdlib")]


@cache
def hidden() -> tuple[str, ...]:
    """Folders of installed packages below what is readable, for whoever can cover them."""
    folders = [path for path in readable() if not os.path.islink(path)]  # a link leads into another one of them
    found = (place for path in folders for name in INSTALLED for place in Path(path).glob(f"*/{name}"))
    beside = (Path(path, name) for path in folders for name in INSTALLED)
    return outermost(str(place) for place in (*beside, *found) if place.is_dir() and not place.is_symlink())


@cache
def uncovered() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is readable without what is hidden, for whoever can only allow: (all below these, only the names in these).

    Python looks for modules by listing the folder they are in, so the names in the standard library's must be seen.
    """
    closed = {os.path.realpath(path) for path in hidden()}
    above = {str(parent) for path in closed for parent in Path(path).parents}
    opened, waiting = [], [os.path.realpath(path) for path in readable()]
    while waiting:
        path = waiting.pop()
        if path in above:  # its links lead to where a rule of its own, or none, is in force
            waiting += [entry.path for entry in os.scandir(path) if not entry.is_symlink()]
        elif path not in closed:
            opened.append(path)
    return outermost(opened), tuple(sorted(above.intersection(map(os.path.realpath, _standard()))))


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
