"""Compiles the C decoder on first use, for the very processor it runs on, and keeps it in the user's cache.

Without a C compiler there is none, and the engine runs transformers' own code instead.
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
from functools import cache
from pathlib import Path

import torch  # noqa: F401  brings the OpenMP library whose threads the decoder shares
from platformdirs import user_cache_path

FOLDER = Path(__file__).parent
SOURCES = (FOLDER / "decoder.c", FOLDER / "draw.c")
HEADER = FOLDER / "lanes.h"
FLAGS = ("-O3", "-shared", "-fPIC", "-std=gnu11")
# The first that the compiler takes: with threads if it can, for this processor if it knows how.
CHOICES = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-mcpu=native",), ())
COMPILE_SECONDS = 120
_lock = threading.Lock()


@cache
def _library() -> ctypes.CDLL | None:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not compiler or shutil.which(compiler[0]) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="thinksmith-native-") as passing:  # what is loaded stays loaded
        path = (_folder() or Path(passing)) / f"decoder-{_fingerprint(compiler)}.so"
        found = _load(path)
        if found is None and _compile(compiler, path):
            found = _load(path)
        return found


def library() -> ctypes.CDLL | None:
    """The compiled decoder; None without a compiler, and where THINKSMITH_NATIVE=0 asks for none."""
    if os.environ.get("THINKSMITH_NATIVE") == "0":
        return None
    with _lock:
        try:
            return _library()
        except (OSError, ValueError):  # no place to write to, or a CC that cannot be taken apart
            return None


def _load(path: Path) -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # not there, or broken
        return None
    for name in ("forward_scratch", "draw_scratch", "panel_lanes"):
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


def _fingerprint(compiler: Sequence[str]) -> str:
    """Differs with the source, the compiler and the processor."""
    processor = platform.processor() + platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    program = os.path.realpath(shutil.which(compiler[0]) or "")
    command = " ".join((program, *compiler[1:], *FLAGS, *(flag for choice in CHOICES for flag in choice)))
    sources = (path.read_bytes() for path in (*SOURCES, HEADER))
    parts = (*sources, command.encode(), processor.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _compile(compiler: Sequence[str], path: Path) -> bool:
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    os.close(handle)
    try:
        for choice in CHOICES:
            command = [*compiler, *FLAGS, *choice, "-o", made, *map(str, SOURCES), "-lm"]
            done = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False)
            if done.returncode == 0:
                os.chmod(made, 0o700)
                os.replace(made, path)  # at once: another process never sees half a file
                return True
    except subprocess.SubprocessError:
        pass
    Path(made).unlink(missing_ok=True)
    return False
