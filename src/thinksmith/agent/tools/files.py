"""The tools `files`: look into, search, write and edit the files below a folder. `files:./reports`.

Where a path may lead is `rooted.py`'s matter, what a write does and how it is taken back `editing.py`'s. Reading is
bounded in entries, bytes and time, and what was left out is always said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import IO, Annotated

from thinksmith.agent.contract import Tool, ToolFault, Toolset
from thinksmith.agent.tools import matching
from thinksmith.agent.tools.editing import Editing
from thinksmith.agent.tools.rooted import MAX_NAME, Entry, Root, names_of, shown
from thinksmith.agent.tools.signature import tool_of
from thinksmith.agent.tools.threads import in_thread
from thinksmith.errors import UserError

MAX_LISTED = 2000  # entries of a list
MAX_LOOKED_AT = 50_000  # entries of all folders that one call looks at
MAX_SHOWN = 1_000_000  # bytes of a file that are shown at once
MAX_READ = 64_000_000  # bytes of a file of which lines are shown
MAX_SEARCHED = 64_000_000  # bytes that one search reads
MAX_FILE_SEARCHED = 4_000_000  # bytes of a file that is searched
MAX_FOUND = 200  # lines that a search shows
MAX_LINE = 300  # characters of such a line
SECONDS = 10.0  # of one list or search
_HEAD = 8000  # bytes in which a NUL tells that a file is binary


async def open_toolset(rest: str) -> Toolset:
    """`rest`: the folder. Raises UserError where there is none."""
    if not rest.strip():
        raise UserError("files needs a folder: write files:./reports")
    root = await in_thread(Root, rest)

    async def aclose() -> None:
        root.close()

    return Toolset(f"files:{rest}", (*_reading(root), *Editing(root).tools), aclose)


def _reading(root: Root) -> list[Tool]:
    reading = _Reading(root)
    tools = [
        tool_of(reading.list, name="files_list"),
        tool_of(reading.read, name="files_read"),
        tool_of(reading.search, name="files_search"),
    ]
    return [replace(tool, group="files", repeatable=True) for tool in tools]


class _Reading:
    """The tools that look and change nothing."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def list(self, path: str = ".", depth: int = 1, files: str = "*") -> str:
        """List the files and folders in a folder, with sizes in bytes.

        path: the folder, relative to the top
        depth: levels of folders below it that are listed as well; 1 is the folder alone
        files: only files with such names, * and ? standing for anything (*.csv)
        """
        _check_names(files)
        found, more = _Walk(self._root, path, max(1, depth)), False
        lines: list[str] = []
        for name, entry in found:
            if entry.kind == "folder" or fnmatchcase(entry.name, files):
                if len(lines) == MAX_LISTED:
                    more = True
                    break
                lines.append(_line(name, entry))
        return "\n".join([*(lines or ["(empty)"]), *found.left_out, *(["(there is more)"] if more else [])])

    def read(
        self, path: str, start: int = 1, lines: Annotated[int, "how many lines; 0: as many as can be shown"] = 0
    ) -> str:
        """Read a text file, or some of its lines.

        path: the file, relative to the top
        start: the first line that is shown, from 1; a line of more than a megabyte counts as several
        """
        if start < 1 or lines < 0:
            raise ToolFault("lines count from 1: start is at least 1, and lines at least 0")
        with self._root.file(path) as file, os.fdopen(os.dup(file), "rb") as opened:
            size = os.fstat(file).st_size
            if size > MAX_READ:
                raise ToolFault(f"{shown(path)} has {size:,} bytes, more than the {MAX_READ:,} that can be read")
            _refuse_binary(opened.read(_HEAD), path, size)
            opened.seek(0)
            taken, at, whole = _lines(_bounded(opened), start, lines)
        if not taken and (size or start > 1):
            raise ToolFault(f"{shown(path)} has {at:,} lines, so nothing stands at line {start:,}")
        text = b"".join(taken).decode(errors="replace")
        if whole and start == 1:
            return text
        last = start + len(taken) - 1
        after = "the end" if whole else f"start={last + 1} goes on"
        return f"{text.removesuffix(chr(10))}\n(lines {start:,} to {last:,}; {after})"

    def search(
        self, text: str, path: str = ".", files: str = "*", regex: bool = False, ignore_case: bool = False
    ) -> str:
        """Search text files for lines that hold a text; gives `file:line: the line`.

        text: what is searched for
        path: a file, or a folder that is searched with all below it
        files: only files with such names, * and ? standing for anything (*.csv)
        regex: whether text is a regular expression, as Python's re has it
        ignore_case: whether large and small letters are the same
        """
        if not text:
            raise ToolFault("there is nothing to search for: text is empty")
        _check_names(files)
        until = time.monotonic() + SECONDS
        match = (
            matching.pattern(text, ignore_case=ignore_case, until=until)
            if regex
            else matching.literal(text, ignore_case=ignore_case)
        )
        return _Search(self._root, match, until).over(path, files)


# --- reading


def _check_names(files: str) -> None:
    if len(files) > MAX_NAME:
        raise ToolFault(f"files is longer than a name can be: write something like *.csv, not {shown(files[:40])}")


def _refuse_binary(head: bytes, path: str, size: int) -> None:
    if b"\0" in head:
        raise ToolFault(f"{shown(path)} is no text but binary: {size:,} bytes that begin with {head[:8].hex(' ')}")


def _bounded(opened: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, none longer than MAX_SHOWN bytes, as far as MAX_READ (it may grow meanwhile)."""
    left = MAX_READ
    while left > 0 and (line := opened.readline(MAX_SHOWN)):
        left -= len(line)
        yield line


def _lines(lines: Iterator[bytes], start: int, most: int) -> tuple[list[bytes], int, bool]:
    """(the lines from `start` on that can be shown, how many were seen, whether these are the last)."""
    taken: list[bytes] = []
    size, at = 0, 0
    for at, line in enumerate(lines, 1):
        if at < start:
            continue
        if taken and (size + len(line) > MAX_SHOWN or len(taken) == most):
            return taken, at, False
        taken.append(line)
        size += len(line)
    return taken, at, True


def _line(name: str, entry: Entry) -> str:
    ends = {"file": f"  {entry.size:,}", "folder": "/", "link": "  (a link: not followed)"}
    return shown(name) + ends.get(entry.kind, "  (no file: a device, a pipe or a socket)")


# --- going through folders


class _Walk:
    """Everything in a folder, with its path, folder by folder, as far as the bounds go; what was left out then stands
    in `left_out`."""

    def __init__(self, root: Root, path: str, depth: int, until: float = 0.0) -> None:
        self._root, self._depth = root, depth
        self._until = until or time.monotonic() + SECONDS
        self._waiting = [("/".join(names_of(path)), 1)]
        self._left = MAX_LOOKED_AT
        self.left_out: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        while self._waiting:
            path, depth = self._waiting.pop()
            try:
                entries = self._root.entries(path or ".", self._left)
            except ToolFault as error:
                if depth == 1:
                    raise
                self.left_out.append(f"(left out: {error})")
                continue
            self._left -= len(entries)
            below = []
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{path}/{entry.name}" if path else entry.name
                yield name, entry
                if entry.kind == "folder" and depth < self._depth:
                    below.append((name, depth + 1))
            self._waiting += reversed(below)
            if self._waiting and (self._left <= 0 or time.monotonic() > self._until):
                self.left_out.append("(there is more than can be looked at in one call: name a folder further down)")
                return


class _Search:
    """One search: `found` lines, and how much may still be read."""

    def __init__(self, root: Root, match: matching.Matcher, until: float) -> None:
        self._root, self._match, self._until = root, match, until
        self._left = MAX_SEARCHED
        self._unread = 0
        self._searched = 0
        self.found: list[str] = []

    def over(self, path: str, files: str) -> str:
        if self._root.kind(path) != "folder":
            self._look(path)  # a file, and what is none says so
            return self._told([])
        walk = _Walk(self._root, path, 64, self._until)
        for name, entry in walk:
            if entry.kind != "file" or not fnmatchcase(entry.name, files):
                continue
            if self._over():
                break
            try:
                self._look(name)
            except _Unread:
                self._unread += 1
        return self._told(walk.left_out)

    def _over(self) -> bool:
        return len(self.found) > MAX_FOUND or self._left <= 0 or time.monotonic() > self._until

    def _look(self, path: str) -> None:
        """Search one file. Raises _Unread for one that cannot be."""
        try:
            content = self._root.content(path, MAX_FILE_SEARCHED)
        except ToolFault as error:
            raise _Unread(str(error)) from error
        if content is None:
            raise _Unread(f"{shown(path)} is not there")
        self._left -= len(content.data)
        if b"\0" in content.data[:_HEAD]:
            raise _Unread(f"{shown(path)} is no text but binary")
        self._searched += 1
        lines = content.data.decode(errors="replace").split("\n")
        for at in self._match(lines):
            if len(self.found) > MAX_FOUND:
                return
            self.found.append(f"{shown(path)}:{at + 1}: {lines[at].strip()[:MAX_LINE]}")

    def _told(self, left_out: list[str]) -> str:
        lines = self.found[:MAX_FOUND] or [f"(not found in {self._searched:,} files)"]
        if len(self.found) > MAX_FOUND:
            lines.append(f"(only the first {MAX_FOUND} lines are shown: search for something rarer)")
        elif self._over():
            lines.append("(the search ended at its limit: search in fewer files)")
        if self._unread:
            lines.append(f"(left out: {self._unread:,} files that are no text, too large, or not to be opened)")
        return "\n".join([*lines, *left_out])


class _Unread(ToolFault):
    """A file that was not searched."""
