"""Compiles the C decoder on first use, for the very processor it runs on, and keeps it in the user's cache.

Without a C compiler there is none, and the engine runs transformers' own code instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
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


@cache
def library() -> ctypes.CDLL | None:
    """The compiled decoder; None without a compiler, and where THINKSMITH_NATIVE=0 asks for none."""
    if os.environ.get("THINKSMITH_NATIVE") == "0":
        return None
    compiler = shutil.which(os.environ.get("CC", "cc"))
    path = _folder() / f"decoder-{_fingerprint(compiler)}.so"
    found = _load(path)
    if found is None and compiler is not None and _compile(compiler, path):
        found = _load(path)
    return found


def _load(path: Path) -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # not there, or broken
        return None
    for name in ("forward_scratch", "draw_scratch", "panel_lanes"):
        getattr(found, name).restype = ctypes.c_int64
    return found


def _folder() -> Path:
    """Where compiled code is kept; only its owner may write there."""
    folder = user_cache_path("thinksmith") / "native"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = folder.stat()
        if state.st_uid == os.getuid() and not state.st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="thinksmith-native-"))


def _fingerprint(compiler: str | None) -> str:
    """Differs with the source, the compiler and the processor."""
    processor = platform.processor() + platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    version = str(os.path.realpath(compiler)) if compiler else ""
    sources = (path.read_bytes() for path in (*SOURCES, HEADER))
    parts = (*sources, version.encode(), processor.encode(), " ".join(FLAGS).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _compile(compiler: str, path: Path) -> bool:
    for choice in CHOICES:
        made = path.with_name(f"{path.name}.{os.getpid()}")
        command = [compiler, *FLAGS, *choice, "-o", str(made), *map(str, SOURCES), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False)
        except (OSError, subprocess.SubprocessError):
            return False
        if done.returncode == 0:
            made.replace(path)  # at once: another process never sees half a file
            return True
        made.unlink(missing_ok=True)
    return False
