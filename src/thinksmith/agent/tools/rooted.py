"""Files below one folder, and no others, whatever a path says and whoever changes the folders meanwhile.

A path is taken apart into names, and each name is opened in the folder that was opened before it, without following
links (openat with O_NOFOLLOW). No path is ever compared as text or resolved twice, so there is nothing that a prefix
(`/root-evil` beside `/root`), case, Unicode normalisation or a swap between check and use could turn: whatever is
opened was found in a folder that was found, step by step, in the root. What no path can say is left out:

- symbolic links, wherever they point, also in the middle of a path; `/proc`'s magic links are such
- `..`, absolute paths, NUL and other control characters, signs that turn the direction of writing
- regular files with a second name (hard links), which may be files of elsewhere
- devices, FIFOs and sockets, which are looked at before they are opened, since opening alone may have an effect
- the files of /proc, /sys and /dev, if these lie below the root

The root itself may be named by a link: it is resolved once, when it is opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from thinksmith.agent.contract import ToolFault
from thinksmith.errors import UserError, one_line

MAX_NAME = 255  # bytes
MAX_PATH = 4000  # bytes
MAX_DEPTH = 64  # names

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TURNING = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LINK = "is a symbolic link, and links are never followed"
_CHANGED = "was changed meanwhile: read it again"


def names_of(path: str) -> tuple[str, ...]:
    """The names that a path goes through; () for the root itself (`.`). Raises ToolFault for what leads elsewhere."""
    if not path.strip():
        raise ToolFault("the path is empty: name a file, or . for the folder itself")
    if path.startswith("/"):
        raise ToolFault(f"{shown(path)} is absolute: write paths relative to the folder, such as notes/a.txt")
    if any(unicodedata.category(sign) in ("Cc", "Cs") or sign in _TURNING for sign in path):
        raise ToolFault(f"{shown(path)} holds signs that cannot be shown")
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    if ".." in names:
        raise ToolFault(f"{shown(path)} goes up: paths lead down from the folder, without ..")
    if len(names) > MAX_DEPTH or len(path.encode()) > MAX_PATH:
        raise ToolFault(f"the path is too long: at most {MAX_DEPTH} names and {MAX_PATH:,} bytes")
    if any(len(name.encode()) > MAX_NAME for name in names):
        raise ToolFault(f"a name in the path is longer than {MAX_NAME} bytes")
    return names


def shown(path: str) -> str:
    """A path for a message: bounded, and nothing in it that is not to be seen."""
    text = "".join("?" if unicodedata.category(s) in ("Cc", "Cs") or s in _TURNING else s for s in path[:200])
    return text + "…" if len(path) > 200 else text


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder. `kind`: file, folder, link, or other (a device, a FIFO, a socket)."""

    name: str
    kind: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Content:
    """All that a regular file holds, and its permissions."""

    data: bytes
    mode: int


class Root:
    """An opened root. Its methods take paths below it as texts, block, and raise ToolFault for what cannot be."""

    def __init__(self, path: str) -> None:
        """Raises UserError where there is no such folder."""
        try:
            self.path = os.path.realpath(Path(path).expanduser())
            self._descriptor = os.open(self.path, _FOLDER)
        except (OSError, ValueError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else one_line(error)
            raise UserError(f"cannot open the folder {shown(path)}: {why}; name one that is there") from error
        self._lock = threading.Lock()
        self._unreal = _unreal()
        if os.fstat(self._descriptor).st_dev in self._unreal:
            self.close()
            raise UserError(f"{self.path} holds the system's own files: name another folder")

    def close(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    # --- folders

    @contextmanager
    def folder(self, names: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder; `make`: those that are missing are made. Raises ToolFault, and FileNotFoundError
        where it or one above it is missing."""
        with self._lock:  # the number of a closed one may be another file's by now
            if self._descriptor < 0:
                raise ToolFault("the folder was closed")
            current = os.dup(self._descriptor)
        try:
            for at, name in enumerate(names):
                below = self._below(current, name, "/".join(names[: at + 1]), make)
                current, above = below, current
                os.close(above)
            yield current
        finally:
            os.close(current)

    def _below(self, folder: int, name: str, path: str, make: bool) -> int:
        if make:
            with suppress(FileExistsError):  # what it is, opening it shows
                os.mkdir(name, dir_fd=folder)
        try:
            below = os.open(name, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ToolFault(f"{shown(path)} {_LINK}" if _is_link(folder, name) else fault(path, error)) from error
        if os.fstat(below).st_dev in self._unreal:
            os.close(below)
            raise ToolFault(f"{shown(path)} holds the system's own files, which are out of reach")
        return below

    def missing(self, names: tuple[str, ...]) -> list[str]:
        """Of these folders those that are not there, as paths, the uppermost first."""
        for depth in range(len(names), 0, -1):
            with suppress(FileNotFoundError), self.folder(names[:depth]):
                return ["/".join(names[: below + 1]) for below in range(depth, len(names))]
        return ["/".join(names[: below + 1]) for below in range(len(names))]

    def remove_folder(self, path: str) -> None:
        """Remove a folder if it is empty; all else stays."""
        *above, name = names_of(path)
        with suppress(OSError, ToolFault), self.folder(tuple(above)) as folder:
            os.rmdir(name, dir_fd=folder)

    def entries(self, path: str, most: int) -> list[Entry]:
        """What a folder holds, at most `most` of it, in no order."""
        with _told(path), self.folder(names_of(path)) as folder, os.scandir(folder) as found:
            return [_entry(each) for each, _ in zip(found, range(most), strict=False)]

    # --- files

    @contextmanager
    def file(self, path: str) -> Iterator[int]:
        """The descriptor of a regular file, for reading. Raises ToolFault, also where there is none."""
        with _told(path), self._parent(path) as (folder, name):
            file = self._open(folder, name, path)
        try:
            yield file
        finally:
            os.close(file)

    def kind(self, path: str) -> str:
        """file, folder, link, other, or "" for nothing. Raises ToolFault for what cannot be looked at."""
        if not names_of(path):
            return "folder"
        try:
            with self._parent(path) as (folder, name):
                return _kind(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ToolFault(fault(path, error)) from error

    def content(self, path: str, most: int) -> Content | None:
        """All of a regular file, None where there is none. Raises ToolFault for one of more than `most` bytes."""
        try:
            with self._parent(path) as (folder, name):
                return self._content(folder, name, path, most)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ToolFault(fault(path, error)) from error

    def replace(self, path: str, data: bytes, *, before: bytes | None, part: str) -> None:
        """Put `data` in place of a file that holds `before` (None: of none), in one moment and for good.

        `part` is the name, beside it, under which it is written first. The permissions stay. Raises ToolFault where the
        file holds something else by now; then, as after every fault, it is as it was.
        """
        with _told(path), self._parent(path, make=before is None) as (folder, name):
            mode = self._unchanged(folder, name, path, before)
            if mode is not None and not mode & 0o222:
                raise ToolFault(f"{shown(path)} is write-protected")
            file = os.open(part, _NEW, 0o666 if mode is None else 0o600, dir_fd=folder)
            try:
                with os.fdopen(file, "wb") as opened:
                    opened.write(data)
                    opened.flush()
                    if mode is not None:
                        os.fchmod(file, mode)
                    os.fsync(file)
                self._unchanged(folder, name, path, before)
                _move(folder, part, name, new=before is None)
            except BaseException:
                with suppress(OSError):
                    os.unlink(part, dir_fd=folder)
                raise
            _settle(folder)

    def remove(self, path: str, before: bytes) -> None:
        """Remove a file that holds `before`. Raises ToolFault where it holds something else."""
        with _told(path), self._parent(path) as (folder, name):
            self._unchanged(folder, name, path, before)
            os.unlink(name, dir_fd=folder)
            _settle(folder)

    def discard(self, path: str, part: str) -> None:
        """Remove what a `replace` that was killed may have left beside the file."""
        with suppress(OSError, ToolFault), self._parent(path) as (folder, _):
            os.unlink(part, dir_fd=folder)

    @contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """(descriptor of the folder that a file is in, its name there)."""
        names = names_of(path)
        if not names:
            raise ToolFault(f"{shown(path)} is a folder, not a file")
        with self.folder(names[:-1], make=make) as folder:
            yield folder, names[-1]

    def _open(self, folder: int, name: str, path: str) -> int:
        _check(os.stat(name, dir_fd=folder, follow_symlinks=False), path)  # to open a device may already do something
        file = os.open(name, _FILE, dir_fd=folder)
        try:
            found = os.fstat(file)
            _check(found, path)
            if found.st_dev in self._unreal:
                raise ToolFault(f"{shown(path)} is the system's own, and out of reach")
        except BaseException:
            os.close(file)
            raise
        return file

    def _content(self, folder: int, name: str, path: str, most: int) -> Content:
        with os.fdopen(self._open(folder, name, path), "rb") as opened:
            data = opened.read(most + 1)
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o777
        if len(data) > most:
            raise ToolFault(f"{shown(path)} is larger than {most:,} bytes")
        return Content(data, mode)

    def _unchanged(self, folder: int, name: str, path: str, before: bytes | None) -> int | None:
        """The permissions of a file that holds `before`; None where there is none and shall be none."""
        try:
            found = self._content(folder, name, path, len(before or b""))
        except FileNotFoundError:
            found = None
        except ToolFault as error:
            raise ToolFault(f"{shown(path)} {_CHANGED}") from error
        if (found.data if found else None) != before:
            raise ToolFault(f"{shown(path)} {_CHANGED}")
        return found.mode if found else None


def fault(path: str, error: OSError) -> str:
    """What the system says against a path, in our words."""
    words = {
        errno.ENOENT: "is not there",
        errno.ENOTDIR: "is no folder",
        errno.EISDIR: "is a folder",
        errno.ELOOP: _LINK,
        errno.EACCES: "may not be opened",
        errno.EPERM: "may not be changed",
        errno.EEXIST: "is there already",
        errno.ENOSPC: "cannot be written: the disk is full",
        errno.EROFS: "cannot be written: the disk is read-only",
        errno.ENAMETOOLONG: "is too long a name",
        errno.ENXIO: "is a device or a socket",
    }
    return f"{shown(path)} {words.get(error.errno or 0, f'cannot be opened: {error.strerror}')}"


@contextmanager
def _told(path: str) -> Iterator[None]:
    """The system's errors as ToolFaults."""
    try:
        yield
    except OSError as error:
        raise ToolFault(fault(path, error)) from error


def _check(found: os.stat_result, path: str) -> None:
    """Raises ToolFault for all but a regular file of one name."""
    if stat.S_ISLNK(found.st_mode):
        raise ToolFault(f"{shown(path)} {_LINK}")
    if stat.S_ISDIR(found.st_mode):
        raise ToolFault(f"{shown(path)} is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise ToolFault(f"{shown(path)} is a device, a pipe or a socket, not a file")
    if found.st_nlink > 1:
        raise ToolFault(f"{shown(path)} has a second name (a hard link), which may lie elsewhere: it is not touched")


def _settle(folder: int) -> None:
    """See that a folder is on the disk. What was done in it is done, whether or not its file system can say so."""
    with suppress(OSError):
        os.fsync(folder)


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "link"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def _entry(found: os.DirEntry[str]) -> Entry:
    try:
        state = found.stat(follow_symlinks=False)
    except OSError:  # removed meanwhile
        return Entry(found.name, "other")
    return Entry(found.name, _kind(state.st_mode), state.st_size)


def _unreal() -> frozenset[int]:
    """The devices of file systems whose files are the system itself."""
    found = set()
    for path in ("/proc", "/sys", "/dev"):
        with suppress(OSError):
            found.add(os.stat(path).st_dev)
    return frozenset(found - {os.stat("/").st_dev})


def _move(folder: int, part: str, name: str, *, new: bool) -> None:
    """Rename within a folder; `new`: only where the name is free, as far as the system can keep that."""
    if new and _rename_new is not None:
        if _rename_new(folder, os.fsencode(part), folder, os.fsencode(name), _NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # a file system that does not know it
            raise OSError(code, os.strerror(code))
    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)


_NOREPLACE = 1
_rename_new = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # Linux's
