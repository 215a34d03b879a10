"""A work folder on this machine's disk, for guests without a file system of their own.

A hostile program may leave it full of anything, so it is measured and removed without recursion, without following
symbolic links, and whatever the modes of its folders are.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Self

MAX_ENTRIES = 4096
"""Files and folders that a work folder may hold, here and in the guest's own file system."""
_DEEPEST = 64


class WorkFolder:
    """A private temporary folder, removed at the end."""

    def __enter__(self) -> Self:
        self.path = tempfile.mkdtemp(prefix="guest-")
        return self

    def __exit__(self, *_: object) -> None:
        empty(self.path)
        with suppress(OSError):
            os.rmdir(self.path)

    def excess(self, most: int, pid: int) -> str:
        """What process `pid` keeps too much of in here: more than `most` bytes, or too many entries; else "".

        Files that it deleted and still holds open count as well.
        """
        size, entries = _measure(self.path)
        if entries > MAX_ENTRIES:
            return f"more than {MAX_ENTRIES:,} files"
        return f"more than {most:,} bytes on disk" if size + _deleted(pid) > most else ""


def _measure(folder: str) -> tuple[int, int]:
    """(bytes, entries) below `folder`; what is too deep to look at counts as too many entries."""
    size, entries, waiting = 0, 0, [(folder, 0)]
    while waiting and entries <= MAX_ENTRIES:
        path, depth = waiting.pop()
        if depth > _DEEPEST:
            return size, MAX_ENTRIES + 1
        try:
            found = list(os.scandir(path))
        except OSError:  # removed meanwhile, or closed to us and so to the guest
            continue
        entries += len(found)
        for entry in found:
            with suppress(OSError):
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, depth + 1))
    return size, entries


def _deleted(pid: int) -> int:
    """Bytes of files that the process holds open and that have no name any more."""
    seen: dict[tuple[int, int], int] = {}
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                state = os.stat(f"/proc/{pid}/fd/{name}")
                if stat.S_ISREG(state.st_mode) and state.st_nlink == 0:
                    seen[state.st_dev, state.st_ino] = state.st_blocks * 512
    return sum(seen.values())


def empty(folder: str) -> None:
    """Remove all that is in `folder`, however deep: folders are moved up to the top before they are looked into."""
    fresh = (f"{folder}/.{number:x}." for number in count())
    left: list[str] = []
    with suppress(OSError):  # it may be gone
        os.chmod(folder, 0o700)
        left += [entry.path for entry in os.scandir(folder)]
    while left:
        path = left.pop()
        try:
            os.unlink(path)
        except IsADirectoryError:
            with suppress(OSError):
                os.chmod(path, 0o700)
                left += _lifted(path, fresh)
                os.rmdir(path)
        except OSError:
            continue


def _lifted(path: str, fresh: Iterator[str]) -> list[str]:
    """Empty one folder: its files go, its folders get a new name at the top, which is returned."""
    moved = []
    for entry in list(os.scandir(path)):
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)  # to move a folder is to write to it
                moved.append(next(fresh))
                os.rename(entry.path, moved[-1])
            else:
                os.unlink(entry.path)
    return moved
