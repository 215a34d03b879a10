"""Room on the disks: for the store, runs, downloaded models and what is kept for a moment."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thinksmith.health.finding import Finding, Status, plain, size

_FULL_SHARE = 0.02  # of a disk free: from here on it is worth a look, however large it is


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that is written to. `remedy`: how another one is chosen. `least`: bytes that should be free there."""

    name: str
    folder: Path
    remedy: str
    least: int = 5 * 10**9


def places(store: Path | None) -> list[Place]:
    """Where this process would write; `store` is the store's file, None if it is on a server."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from platformdirs import user_cache_path

    found = [
        Place("runs", Path.cwd(), "choose another disk with --out, or start in another folder"),
        Place("downloads", Path(HF_HUB_CACHE), "export HF_HOME=/a/folder/on/another/disk"),
        # Guests of the sandbox and the compiled decoder are small.
        Place("temporary", Path(tempfile.gettempdir()), "export TMPDIR=/a/folder/on/another/disk", 10**9),
        Place("compiled", user_cache_path("thinksmith"), "export XDG_CACHE_HOME=/a/folder/on/another/disk", 10**8),
    ]
    if store is not None:
        found.insert(0, Place("store", store.parent, "export THINKSMITH_STORE=/a/folder/on/another/disk/store.db"))
    return found


def findings(looked_at: Sequence[Place], cache: Path | None = None, seconds: float = 0.5) -> list[Finding]:
    """What is free in each place; and what the hub cache takes, counted for no longer than so many seconds."""
    return [*map(_room, looked_at), *([_downloaded(cache, seconds)] if cache is not None and cache.is_dir() else [])]


def _room(place: Place) -> Finding:
    folder = existing(place.folder)
    shown = plain(str(place.folder))
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return Finding("disk", place.name, f"{shown}: {error.strerror}", "problem", place.remedy)
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    value = f"{shown}: {size(free)} of {size(whole)} free"
    trouble, status = _trouble(folder, place, disk, free, whole)
    return Finding("disk", place.name, value + trouble, status, place.remedy if trouble else "")


def _trouble(folder: Path, place: Place, disk: os.statvfs_result, free: int, whole: int) -> tuple[str, Status]:
    """What is wrong with a place, and how bad that is."""
    if not folder.is_dir():
        return f", but {plain(str(folder))} is no folder", "problem"
    if not os.access(folder, os.W_OK | os.X_OK):
        return ", but it cannot be written to", "problem"
    if free < place.least:
        return f", less than {size(place.least)}", "problem"
    if disk.f_files and not disk.f_favail:  # some file systems have no such number
        return ", but no more files can be made there", "problem"
    if free < whole * _FULL_SHARE:
        return f", less than {_FULL_SHARE:.0%}", "note"
    return "", "ok"


def existing(path: Path) -> Path:
    """The path itself or the nearest folder above it that is there: where it would be made."""
    path = path.absolute()
    for candidate in (path, *path.parents):
        if os.path.lexists(candidate):
            return candidate
    return path


def _downloaded(cache: Path, seconds: float) -> Finding:
    """Models and data sets in the hub cache. A file is counted once: snapshots are links to it."""
    deadline, total, models, whole = time.monotonic() + seconds, 0, 0, True
    folders = [str(cache)]
    while folders and whole:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if time.monotonic() > deadline:
                        whole = False
                        break
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        models += entry.name.startswith("models--")
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:  # not ours to read, or gone by now
            continue
    least = "" if whole else "more than "
    return Finding("disk", "downloaded", f"{least}{size(total)}, {least}{models} model{'' if models == 1 else 's'}")
