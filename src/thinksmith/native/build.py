"""Compiles C on first use, for the very processor it runs on, and keeps it in the user's cache.

Without a C compiler there is none, and torch's own operations are used instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch  # noqa: F401  brings the OpenMP library whose threads are shared
from platformdirs import user_cache_path

FOLDER = Path(__file__).parent
HEADER = FOLDER / "lanes.h"
FLAGS = ("-O3", "-shared", "-fPIC", "-std=gnu11")
# The first that the compiler takes: with threads if it can, for this processor if it knows how.
CHOICES = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-mcpu=native",), ())
COMPILE_SECONDS = 120
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Sources:
    """A library: its `name`, its `files`, and which of its functions return an int64 (the others return nothing)."""

    name: str
    files: tuple[Path, ...]
    counts: tuple[str, ...]


@cache
def _library(sources: Sources) -> ctypes.CDLL | None:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not compiler or shutil.which(compiler[0]) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="thinksmith-native-") as passing:  # what is loaded stays loaded
        path = (_folder() or Path(passing)) / f"{sources.name}-{_fingerprint(compiler, sources.files)}.so"
        found = _load(path, sources.counts)
        if found is None and _compile(compiler, sources.files, path):
            found = _load(path, sources.counts)
        return found


def library(sources: Sources) -> ctypes.CDLL | None:
    """The compiled library; None without a compiler, and where THINKSMITH_NATIVE=0 asks for none."""
    if os.environ.get("THINKSMITH_NATIVE") == "0":
        return None
    with _lock:
        try:
            return _library(sources)
        except (OSError, ValueError):  # no place to write to, or a CC that cannot be taken apart
            return None


def _load(path: Path, counts: Sequence[str]) -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # not there, or broken
        return None
    for name in counts:
        getattr(found, name).restype = ctypes.c_int64
    return found


def _folder() -> Path | None:
    """Where compiled code is kept; only its owner may write there. None if there is no such place."""
    folder = user_cache_path("thinksmith") / "native"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = folder.stat()
    except OSError:
        return None
    private = state.st_uid == os.getuid() and not state.st_mode & 0o022
    return folder if private and os.access(folder, os.W_OK) else None


def _fingerprint(compiler: Sequence[str], files: Sequence[Path]) -> str:
    """Differs with the sources, the compiler and the processor."""
    processor = platform.processor() + platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    program = os.path.realpath(shutil.which(compiler[0]) or "")
    command = " ".join((program, *compiler[1:], *FLAGS, *(flag for choice in CHOICES for flag in choice)))
    parts = (*(path.read_bytes() for path in (*files, HEADER)), command.encode(), processor.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _compile(compiler: Sequence[str], files: Sequence[Path], path: Path) -> bool:
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    os.close(handle)
    try:
        for choice in CHOICES:
            command = [*compiler, *FLAGS, f"-I{FOLDER}", *choice, "-o", made, *map(str, files), "-lm"]
            done = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False)
            if done.returncode == 0:
                os.chmod(made, 0o700)
                os.replace(made, path)  # at once: another process never sees half a file
                return True
    except subprocess.SubprocessError:
        pass
    Path(made).unlink(missing_ok=True)
    return False
