"""Files that outlive their writer: written beside, synced, then renamed.

Whoever looks at such a file, at any moment, finds the old one or the new one, whole.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from thinksmith.errors import UserError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when it is whole and on the disk. Where that fails, by Ctrl-C
    for one, `path` is as it was and nothing is left beside it."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make durable what a file holds; of a folder: which names are in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def told(what: str, kept: str = "") -> Iterator[None]:
    """Turn a failed write into one line. The libraries that write have their own exceptions for a full disk. `kept`: a
    clause that says what is safe."""
    outer = sys.exception()
    try:
        yield
    except Exception as error:
        if (reason := _strerror(error, outer)) is None:
            raise
        told_kept = f"; {kept}" if kept else ""
        raise UserError(f"cannot write {what}: {reason}{told_kept}; free some space and resume") from None


def _strerror(error: Exception, outer: BaseException | None) -> str | None:
    """What the system said, where a write failed: torch hides it behind a RuntimeError, Rust libraries in a text."""
    for each in _chain(error, outer):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    found = _OS_ERROR.search(str(error))
    return os.strerror(int(found[1])) if found else None


def _chain(error: BaseException, outer: BaseException | None) -> Iterator[BaseException]:
    """The error, and those in whose handling it was raised, up to one that was being handled before."""
    each: BaseException | None = error
    while each is not None and each is not outer:
        yield each
        each = each.__cause__ or each.__context__
