"""The tools `files_write` and `files_edit`: what they would do is found out first, shown, and kept for taking it back.

A call does what its intent said or nothing: the file must hold what the intent found, to the byte. All is bytes, so
what is not edited stays as it is, whatever its encoding; where a file's lines end with CR LF, so do new ones.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from thinksmith.agent.contract import Intent, Kept, Result, Tool, ToolFault
from thinksmith.agent.tools.differences import counts, diff, lines_of
from thinksmith.agent.tools.rooted import Root, names_of, shown
from thinksmith.agent.tools.signature import tool_of
from thinksmith.agent.tools.threads import in_thread

MAX_WRITTEN = 4_000_000  # bytes of a file, before and after
_PART = re.compile(r"\.thinksmith-[0-9a-f]{16}\.part")


@dataclass(frozen=True, slots=True)
class _Change:
    """What a call makes of a file. `before` None: it is not there, and `folders` are those that are missing above."""

    path: str
    before: bytes | None
    after: bytes
    folders: list[str]
    told: str


class Editing:
    """The tools that change files below a root."""

    def __init__(self, root: Root) -> None:
        self._root = root

    @property
    def tools(self) -> tuple[Tool, ...]:
        return self._tool("files_write", _write, self._writing), self._tool("files_edit", _edit, self._editing)

    def _tool(self, name: str, described: Callable[..., None], plan: Callable[..., _Change]) -> Tool:
        """`described` has the signature and the description, `plan(**arguments)` says what would be done."""

        async def intend(arguments: Mapping[str, Any]) -> Intent:
            return await in_thread(lambda: self._intent(plan(**arguments)))

        async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
            return await in_thread(self._do, plan, arguments, intent)

        async def settled(record: Mapping[str, Any]) -> Result | None:
            return await in_thread(self._settled, record)

        async def undo(record: Mapping[str, Any], kept: Kept) -> str:
            return await in_thread(self._undo, record, kept)

        tool = tool_of(described, kind="write", name=name, group="files")
        return replace(tool, call=call, intend=intend, settled=settled, undo=undo)

    # --- what would be done

    def _writing(self, path: str, text: str) -> _Change:
        before = self._before(path)
        after = _encoded(text)
        if before is not None and _ends_with_crlf(before):
            after = _with_crlf(after)
        return self._change("write", path, before, after)

    def _editing(self, path: str, old: str, new: str, every: bool = False) -> _Change:
        before = self._before(path)
        if before is None:
            raise ToolFault(f"{shown(path)} is not there: files_write makes a new file")
        wanted, instead = _encoded(old), _encoded(new)
        if wanted not in before and _ends_with_crlf(before):
            wanted, instead = _with_crlf(wanted), _with_crlf(instead)
        _check_place(before, wanted, path, old, every=every)
        if wanted == instead:
            raise ToolFault("old and new are the same, so nothing would change")
        return self._change("edit", path, before, before.replace(wanted, instead))

    def _before(self, path: str) -> bytes | None:
        found = self._root.content(path, MAX_WRITTEN)
        return found.data if found else None

    def _change(self, verb: str, path: str, before: bytes | None, after: bytes) -> _Change:
        if len(after) > MAX_WRITTEN:
            raise ToolFault(f"that is more than a file may hold here: {len(after):,} bytes of {MAX_WRITTEN:,}")
        names = names_of(path)
        folders = self._root.missing(names[:-1]) if before is None else []
        return _Change("/".join(names), before, after, folders, _told(verb, "/".join(names), before, after))

    def _intent(self, change: _Change) -> Intent:
        record = {
            "root": self._root.path,
            "path": change.path,
            "before": _sum(change.before),
            "after": _sum(change.after),
            "folders": change.folders,
            "part": f".thinksmith-{secrets.token_hex(8)}.part",
            "told": change.told,
        }
        kept = {} if change.before is None else {"before": change.before}
        return Intent(change.told, diff(change.path, change.before, change.after), record, kept)

    # --- doing it, and taking it back

    def _do(self, plan: Callable[..., _Change], arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        change = plan(**arguments)
        record = (intent or self._intent(change)).record
        if (record["before"], record["after"]) != (_sum(change.before), _sum(change.after)):
            raise ToolFault(f"{shown(change.path)} was changed meanwhile: read it again")
        self._root.replace(change.path, change.after, before=change.before, part=record["part"])
        return _done(record)

    def _settled(self, record: Mapping[str, Any]) -> Result | None:
        path = self._path(record)
        if _PART.fullmatch(record["part"]):
            self._root.discard(path, record["part"])
        now = _sum(self._before(path))
        if now == record["after"]:
            return _done(record)
        if now == record["before"]:
            return None
        raise ToolFault(f"{shown(path)} was changed by somebody else since")

    def _undo(self, record: Mapping[str, Any], kept: Kept) -> str:
        path = self._path(record)
        now = self._before(path)
        if _sum(now) == record["before"]:
            return f"{shown(path)} is as it was before"
        if now is None or _sum(now) != record["after"]:
            raise ToolFault(f"{shown(path)} was changed since, so the edit is not taken back")
        if record["before"] is None:
            self._root.remove(path, now)
            for folder in reversed(record["folders"]):
                self._root.remove_folder(folder)
            return f"{shown(path)} is removed again"
        data = kept("before")
        if _sum(data) != record["before"]:
            raise ToolFault(f"what was kept of {shown(path)} is not what it held")
        self._root.replace(path, data, before=now, part=f".thinksmith-{secrets.token_hex(8)}.part")
        return f"{shown(path)} is as it was before"

    def _path(self, record: Mapping[str, Any]) -> str:
        if record["root"] != self._root.path:
            raise ToolFault(f"this was done below {record['root']}, not below {self._root.path}")
        return str(record["path"])


def _write(path: str, text: str) -> None:
    """Write a text file: a new one, with the folders above it, or all of one that is there.

    path: the file, relative to the top
    text: all that it is to hold
    """


def _edit(path: str, old: str, new: str, every: bool = False) -> None:
    """Replace a piece of a text file. The piece must stand in it exactly once, with the same spaces and line breaks.

    path: the file, relative to the top
    old: the piece as it stands in the file, with enough around it to stand there only once
    new: what comes in its place; empty takes it out
    every: replace it wherever it stands
    """


# --- bytes


def _sum(data: bytes | None) -> str | None:
    return None if data is None else sha256(data).hexdigest()


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ToolFault("the text holds half of a surrogate pair, which no file can: write it without") from None


def _ends_with_crlf(data: bytes) -> bool:
    """Whether all lines end with CR LF."""
    return b"\r\n" in data and data.count(b"\r\n") == data.count(b"\n")


def _with_crlf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _check_place(data: bytes, wanted: bytes, path: str, old: str, *, every: bool) -> None:
    """Raises ToolFault unless `wanted` stands in `data`, and once (overlapping places count)."""
    if not wanted:
        raise ToolFault("old is empty: give the piece that is to be replaced")
    at = data.find(wanted)
    if at < 0:
        raise ToolFault(f"old does not stand in {shown(path)}{_why_not(data, old)}")
    again = data.find(wanted, at + 1)
    if again >= 0 and not every:
        lines = " and ".join(str(data.count(b"\n", 0, place) + 1) for place in (at, again))
        raise ToolFault(f"old stands in {shown(path)} more than once, in lines {lines}: give more around it")


def _why_not(data: bytes, old: str) -> str:
    """What may be wrong with a piece that was not found."""
    text = data.decode(errors="replace")
    if "\ufffd" in old:
        return ": the signs \ufffd stand for bytes that are no text and cannot be replaced"
    if any(sign in old for sign in "‹⟦"):
        return ": what was shown as ‹ or ⟦ may be < or [ in the file"
    if " ".join(old.split()) in " ".join(text.split()):
        return ": its spaces or line breaks are others"
    first = next((line.strip() for line in old.splitlines() if line.strip()), "")
    at = next((at for at, line in enumerate(text.splitlines(), 1) if first and first in line), 0)
    return f": its first line does, in line {at}, but what follows is other" if at else ": read the file again"


# --- telling


def _told(verb: str, path: str, before: bytes | None, after: bytes) -> str:
    """A line for people: what happens to the file."""
    total = _lines(len(lines_of(after)))
    if before is None:
        return f"{verb} {shown(path)}: {total}, a new file"
    new, gone = counts(before, after)
    return f"{verb} {shown(path)}: {total}, {new:,} of them new" + (f", {gone:,} gone" if gone else "")


def _lines(count: int) -> str:
    return f"{count:,} line{'' if count == 1 else 's'}"


def _done(record: Mapping[str, Any]) -> Result:
    return Result(f"done: {record['told']}")
