"""What samples are read from, in parts of a few megabytes that processes can share.

A source is a set folder, a file of any known format, or a run of the store (by its id, the beginning of one, `last`, or
its name). A part can be pickled; reading it gives entries, a sample or a fault each, with the place where it stands.
Nothing but one part's text is ever in memory. A gzipped file cannot be entered in its middle, so it is one part.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thinksmith.distill.formats.known import Format, detect, samples_of
from thinksmith.distill.formats.row import BadRow
from thinksmith.distill.formats.write import ESCAPED
from thinksmith.distill.sample import Sample
from thinksmith.errors import UserError, one_line
from thinksmith.problems.rows import SUFFIXES, Row, json_row, opened
from thinksmith.store.schema import unescape

PART_BYTES = 4 << 20
"""Of JSON lines; a part ends with the line that passes it. Parts do not depend on how many processes read them."""
PART_ATTEMPTS = 512
"""Of a run; so many rows of Parquet at the least, in whole row groups."""
_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at a place (`file:line`, `file:row` or the number of an attempt): a sample, or why there is none.
    `row` counts the rows of its part from 0, blank lines left out; one row may hold several samples."""

    where: str
    sample: Sample | None
    fault: str = ""
    row: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a source. `start` and `stop` are bytes of JSON lines, row groups of Parquet, unused of a gzipped file;
    `first` is the number of its first line or row. Of a run it has the `attempts`' numbers, in the store `path`."""

    shown: str
    path: str
    kind: Literal["jsonl", "gz", "parquet", "run"]
    format: Format | None = None
    start: int = 0
    stop: int = 0
    first: int = 1
    attempts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Something that was named, and its parts. `about` says what it is, for people: a format, or a run's model."""

    name: str
    about: str
    parts: tuple[Part, ...]


def open_source(name: str, store: str | None = None) -> Source:
    """What `name` names: a set folder, a file, or a run of the store at `store` (default: the user's).

    Raises UserError where there is nothing of that name, or a format that is not known.
    """
    path = Path(name).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # too long, a NUL in it
        is_folder = is_file = False
    if is_folder:
        files = [path / f"data{suffix}" for suffix in (".jsonl", ".parquet") if (path / f"data{suffix}").is_file()]
        if not files:
            raise UserError(f"{name}: is a folder without data.jsonl or data.parquet; name a set or a file")
        return _file(files[0], str(files[0]), name)
    if is_file:
        return _file(path, name, name)
    if name.endswith(SUFFIXES):
        raise UserError(f"{name}: there is no such file")
    return _run(name, store)


def _file(path: Path, shown: str, name: str) -> Source:
    if not shown.endswith(SUFFIXES):
        raise UserError(f"{shown}: only {', '.join(SUFFIXES)} are read; convert it to one of these")
    with _explained(shown):
        if shown.endswith(".parquet"):
            parts = _parquet_parts(path, shown)
        elif shown.endswith(".gz"):
            parts = [Part(shown, str(path), "gz", _first_format(path, shown))]
        else:
            parts = _line_parts(path, shown, _first_format(path, shown))
    return Source(name, parts[0].format.name if parts and parts[0].format else "", tuple(parts))


def _first_format(path: Path, shown: str) -> Format:
    """The format that the first good row tells."""
    part = Part(shown, str(path), "gz" if shown.endswith(".gz") else "jsonl", stop=path.stat().st_size)
    fault = ""
    for _, row in _lines(part):
        if not row.fault:
            return detect(row.values, f"{shown}:{row.number}")
        fault = fault or f"{shown}:{row.number}: {row.fault}"
    raise UserError(fault or f"{shown} has no rows")


def _line_parts(path: Path, shown: str, known: Format) -> list[Part]:
    """Cuts after lines. One pass over the file counts them, so that places can be told."""
    parts: list[Part] = []
    start, first, lines, at = 0, 1, 0, 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            end = block.rfind(b"\n") + 1
            lines += block.count(b"\n")
            if end and at + end - start >= PART_BYTES:
                parts.append(Part(shown, str(path), "jsonl", known, start, at + end, first))
                start, first = at + end, lines + 1
            at += len(block)
    return [*parts, Part(shown, str(path), "jsonl", known, start, at, first)] if at > start else parts


def _parquet_parts(path: Path, shown: str) -> list[Part]:
    from pyarrow.parquet import ParquetFile

    parts: list[Part] = []
    with ParquetFile(path) as file:
        known = detect(file.schema_arrow.names, shown)
        start, first, count = 0, 1, 0
        for group in range(file.num_row_groups):
            count += file.metadata.row_group(group).num_rows
            if count >= PART_ATTEMPTS or group == file.num_row_groups - 1:
                parts.append(Part(shown, str(path), "parquet", known, start, group + 1, first))
                start, first, count = group + 1, first + count, 0
    if not parts:
        raise UserError(f"{shown} has no rows")
    return parts


def _run(name: str, store: str | None) -> Source:
    from thinksmith.store.store import DRAWS, Store

    with Store.open(store) as kept:
        try:
            run = kept.run(name)
        except UserError:
            named = [run for run in kept.runs() if run.name == name and run.kind != DRAWS]
            if not named:
                raise
            run = named[0]
        numbers = kept.figures(run.id).ids_N.tolist()
    if not numbers:
        raise UserError(f"the run {run.id} has no attempts yet")
    place = "" if store is None else store
    cut = [tuple(numbers[at : at + PART_ATTEMPTS]) for at in range(0, len(numbers), PART_ATTEMPTS)]
    return Source(run.id, f"run of {run.model}", tuple(Part(run.id, place, "run", attempts=each) for each in cut))


def read(part: Part, wanted: Collection[int] | None = None) -> Iterator[Entry]:
    """The entries of a part, in order; those of the `wanted` rows alone, if these are given, which is quicker.

    Raises UserError for what breaks the file as a whole.
    """
    if part.kind == "run":
        from thinksmith.store.store import Store

        with Store.open(part.path or None) as store:
            numbers = [each for row, each in enumerate(part.attempts) if wanted is None or row in wanted]
            rows = {each: row for row, each in enumerate(part.attempts)}
            for stored in store.read(numbers):
                yield Entry(f"{part.shown}:{stored.id}", Sample.of(stored.attempt), row=rows[stored.id])
        return
    known = part.format
    assert known is not None
    with _explained(part.shown):
        for at, row in _parquet_rows(part, wanted) if part.kind == "parquet" else _lines(part, wanted):
            where = f"{part.shown}:{row.number}"
            if row.fault:
                yield Entry(where, None, row.fault, at)
                continue
            escaped = row.values.pop(ESCAPED.decode(), False)
            try:
                found = list(samples_of(_unescaped(row.values) if escaped else row.values, known))
            except BadRow as fault:
                yield Entry(where, None, str(fault), at)
                continue
            yield from (Entry(where, sample, row=at) for sample in found)


def _lines(part: Part, wanted: Collection[int] | None = None) -> Iterator[tuple[int, Row]]:
    """The rows of JSON lines, each with its index; blank lines are counted by the rows' numbers alone."""
    number, at, index = part.first, part.start, 0
    with opened(Path(part.path)) as file:
        file.seek(part.start)
        while part.kind == "gz" or at < part.stop:
            try:
                line = file.readline()
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UserError(f"{part.shown}:{number}: the gzip data is damaged or cut off here ({error})") from None
            if not line:
                return
            skipped = len(_BOM) if at == 0 and line.startswith(_BOM) else 0
            if line[skipped:].strip():
                if wanted is None or index in wanted:
                    yield index, json_row(number, line[skipped:], at + skipped, surrogates=True)
                index += 1
            at += len(line)
            number += 1


def _parquet_rows(part: Part, wanted: Collection[int] | None) -> Iterator[tuple[int, Row]]:
    from pyarrow.parquet import ParquetFile

    begin = 0
    with ParquetFile(part.path) as file:
        escaped = ESCAPED in (file.schema_arrow.metadata or {})
        for batch in file.iter_batches(batch_size=_BATCH, row_groups=range(part.start, part.stop)):
            indices = [at for at in range(len(batch)) if wanted is None or begin + at in wanted]
            some = batch if len(indices) == len(batch) else batch.take(indices)
            for at, values in zip(indices, some.to_pylist(), strict=True):
                yield begin + at, Row(part.first + begin + at, _unescaped(values) if escaped else values)
            begin += len(batch)


_BATCH = 256  # rows at a time: few enough to hold


def _unescaped(value: Any) -> Any:
    if isinstance(value, str):
        return unescape(value)
    if isinstance(value, list):
        return [_unescaped(each) for each in value]
    if isinstance(value, dict):
        return {unescape(name): _unescaped(each) for name, each in value.items()}
    return value


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """What breaks a file as a whole, in one line."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{shown}: cannot be read ({error.strerror or one_line(error)})") from error
    except Exception as error:
        if not type(error).__module__.startswith("pyarrow"):
            raise
        raise UserError(f"{shown}: not readable as Parquet ({one_line(error)})") from error
