"""The journal of a run: what was thought, what was about to be done, what came of it, each written before the next
begins. So a run that was killed goes on where it was, and no effect is had twice.

A folder: `journal.jsonl` (a line an entry, a sum before each), `kept/` (bytes that an undo needs, by their sha256) and
`observations/` (what tools gave, whole). A line reaches the kernel before anything else happens, which `kill -9` cannot
take back; around effects it reaches the disk, so a power cut cannot either. What was half written when the process died
is cut off. One process writes at a time: the file is locked.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from thinksmith.agent.contract import Intent, Observation, Part
from thinksmith.errors import UserError
from thinksmith.records import ToolCall, Trace
from thinksmith.store.attempts import trace_from_json, trace_to_json

Place = tuple[int, int]
"""(step, call within it), both from 0."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A step's trace, as it was sampled."""

    part: Part
    why: str
    trace: Trace
    seconds: float


@dataclass(frozen=True, slots=True)
class Begun:
    """A call with an effect that was begun."""

    call: ToolCall
    group: str
    summary: str
    record: Mapping[str, Any]


@dataclass(slots=True)
class Journal:
    """Make one with `create` or `open`. `head` is what the run was started with (JSON). `thoughts`, `results`, `texts`
    are those of earlier processes: what this one adds is on the disk, and need not be held as well."""

    folder: Path
    head: Mapping[str, Any]
    thoughts: dict[int, Thought] = field(default_factory=dict)
    begun: dict[Place, Begun] = field(default_factory=dict)
    results: dict[Place, Observation] = field(default_factory=dict)
    always: set[str] = field(default_factory=set)
    undone: set[Place] = field(default_factory=set)
    texts: dict[Place, str] = field(default_factory=dict)
    """What tools gave, where it was short."""
    ended: Mapping[str, Any] | None = None
    _file: int = -1

    @classmethod
    def create(cls, folder: Path, head: Mapping[str, Any]) -> Journal:
        """A new journal. Raises UserError where the folder cannot be made or has one already."""
        try:
            (folder / "kept").mkdir(parents=True, exist_ok=True)
            (folder / "observations").mkdir(exist_ok=True)
            os.chmod(folder, 0o700)  # it holds what the tools gave: the owner's files and rows
            file = os.open(folder / "journal.jsonl", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror or error}; name another store") from error
        journal = cls(folder, dict(head), _file=file)
        journal._lock()
        journal._write({"kind": "head", "head": dict(head)}, safe=True)
        return journal

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """One that is there, to go on with. Raises UserError where it is none, or another process has it."""
        path = folder / "journal.jsonl"
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        journal = cls(folder, {}, _file=file)
        journal._lock()
        try:
            journal._read()
        except UserError:
            journal.close()
            raise
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)  # the lock goes with it
            self._file = -1

    # What happens

    def thought(self, step: int, thought: Thought) -> None:
        self._write(
            {
                "kind": "thought",
                "step": step,
                "part": thought.part,
                "why": thought.why,
                "seconds": thought.seconds,
                "trace": trace_to_json(thought.trace),
            }
        )

    def begin(self, place: Place, call: ToolCall, group: str, intent: Intent | None) -> None:
        """An effect is about to be had: on the disk when this returns, with all that its undo needs."""
        intent = intent or Intent(call["name"])
        names = {name: self._keep(data) for name, data in intent.kept.items()}
        record = {**intent.record, "kept": names}
        self.begun[place] = Begun(call, group, intent.summary, record)
        told = {"call": call, "group": group, "summary": intent.summary, "record": record}
        self._write({"kind": "begin", "place": place, **told}, safe=True)

    def result(self, place: Place, observation: Observation, whole: str) -> None:
        """What came of a call; `whole` is what the tool gave, kept beside where the observation is cut."""
        if observation.handle:
            self._store(self.folder / "observations" / f"{observation.handle}.txt", whole.encode())
        told = {"observation": asdict(observation), "text": "" if observation.handle else whole}
        self._write({"kind": "result", "place": place, **told}, safe=place in self.begun)

    def allow(self, tool: str) -> None:
        """This tool need not be asked about again."""
        self.always.add(tool)
        self._write({"kind": "always", "tool": tool})

    def undo(self, place: Place) -> None:
        self.undone.add(place)
        self._write({"kind": "undone", "place": place}, safe=True)

    def end(self, answer: str, why: str) -> None:
        self.ended = {"answer": answer, "why": why}
        self._write({"kind": "end", **self.ended}, safe=True)

    # What is there

    def kept(self, place: Place, name: str) -> bytes:
        """The bytes that the intent of this call kept. Raises UserError where they are gone or were changed."""
        key = str(self.begun[place].record["kept"][name])
        path = self.folder / "kept" / key
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        if sha256(data).hexdigest() != key:
            raise UserError(f"{path} was changed, so it is not used")
        return data

    def gave(self, place: Place) -> str:
        """What a tool gave, whole."""
        return self.texts.get(place) or self.whole(self.results[place].handle) or ""

    def whole(self, handle: str) -> str | None:
        """What a tool gave, by the handle of its observation; None for an unknown one."""
        if not all(part.isdecimal() for part in handle.split("-")):  # a model's word: it names no path
            return None
        try:
            return (self.folder / "observations" / f"{handle}.txt").read_text(encoding="utf-8")
        except OSError:
            return None

    # Inside

    def _keep(self, data: bytes) -> str:
        key = sha256(data).hexdigest()
        path = self.folder / "kept" / key
        if not path.exists():
            self._store(path, data, safe=True)
        return key

    def _store(self, path: Path, data: bytes, *, safe: bool = False) -> None:
        part = path.with_suffix(".part")
        try:
            with open(part, "wb") as file:
                file.write(data)
                if safe:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UserError(_full(self.folder, error)) from error

    def _write(self, entry: Mapping[str, Any], *, safe: bool = False) -> None:
        text = json.dumps(entry, ensure_ascii=True)
        line = f"{crc32(text.encode()):08x} {text}\n".encode()
        try:
            size = os.fstat(self._file).st_size
            written = os.write(self._file, line)
            if written < len(line):  # the disk is full: half a line must not stand before the next
                os.ftruncate(self._file, size)
                raise OSError(28, "No space left on device")
            if safe:
                os.fsync(self._file)
        except OSError as error:
            raise UserError(_full(self.folder, error)) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UserError(f"{self.folder.name} is at work in another process: wait for its end, or stop it") from None

    def _read(self) -> None:
        """All entries up to the first that is not whole; it is cut off. That can only be the last: raises UserError
        where whole ones stand behind it, since what they tell of would be done again."""
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            good = 0
            for line in file:
                entry = _entry(line)
                if entry is None:
                    if any(map(_entry, file)):
                        raise UserError(
                            f"{self.folder}/journal.jsonl was damaged after {good:,} bytes: it is left as it is"
                        )
                    break
                self._take(entry)
                good += len(line)
            file.seek(0, os.SEEK_END)
            if file.tell() > good:
                os.ftruncate(self._file, good)
        if not self.head:
            raise UserError(f"{self.folder} holds no journal of an agent's run")

    def _take(self, entry: Mapping[str, Any]) -> None:
        kind = entry["kind"]
        place: Place = tuple(entry["place"]) if "place" in entry else (0, 0)
        if kind == "head":
            self.head = entry["head"]
        elif kind == "thought":
            trace = trace_from_json(entry["trace"])
            self.thoughts[entry["step"]] = Thought(entry["part"], entry["why"], trace, entry["seconds"])
        elif kind == "begin":
            self.begun[place] = Begun(entry["call"], entry["group"], entry["summary"], entry["record"])
        elif kind == "result":
            self.results[place] = Observation(**entry["observation"])
            self.texts[place] = entry["text"]
        elif kind == "always":
            self.always.add(entry["tool"])
        elif kind == "undone":
            self.undone.add(place)
        elif kind == "end":
            self.ended = {"answer": entry["answer"], "why": entry["why"]}


def _entry(line: bytes) -> Any:
    """The entry of a line; None for one that is not whole."""
    if not line.endswith(b"\n") or len(line) < 11:
        return None
    text = line[9:-1]
    return json.loads(text) if line[:9] == b"%08x " % crc32(text) else None


def _full(folder: Path, error: OSError) -> str:
    return f"cannot write {folder}: {error.strerror or error}; free some space, then go on with --resume {folder.name}"
