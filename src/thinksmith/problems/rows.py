"""Rows of a file, one at a time, each with its number: JSON Lines (also gzipped) and Parquet.

A row that cannot be read is still a row, with its fault: the reader goes on, so that the faults can be counted.
What breaks the file as a whole (missing, unreadable, damaged) is a UserError.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from thinksmith.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_BOM = b"\xef\xbb\xbf"
_PARQUET_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts from 1: the line in JSON Lines (blank lines are counted, not given), else the row."""

    number: int
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def read_rows(path: Path, shown: str) -> Iterator[Row]:
    """The rows of a file, in order; `shown` is how messages call it. Memory does not grow with the file.

    Raises UserError if the file is missing, unreadable, damaged or of another format.
    """
    if shown.endswith(".parquet"):
        yield from _parquet(path, shown)
    elif shown.endswith((".jsonl", ".jsonl.gz")):
        yield from _json_lines(path, shown)
    else:
        raise UserError(f"{shown}: only {', '.join(SUFFIXES)} are read; convert it to one of these")


def _json_lines(path: Path, shown: str) -> Iterator[Row]:
    number = offset = 0
    with _explained(shown), opened(path) as lines:
        while True:
            try:
                line = lines.readline()
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UserError(f"{shown}:{number + 1}: the gzip data is damaged or cut off here ({error})") from None
            if not line:
                return
            number += 1
            skipped = len(_BOM) if number == 1 and line.startswith(_BOM) else 0
            if line[skipped:].strip():
                yield json_row(number, line[skipped:], offset + skipped)
            offset += len(line)


def opened(path: Path) -> BufferedIOBase:
    """The file's bytes, unpacked where its name ends in .gz."""
    # Bytes, not text: the offset of a byte that is no UTF-8 is to be told, and U+2028 must not end a line.
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


def json_row(number: int, line: bytes, offset: int = 0, *, surrogates: bool = False) -> Row:
    """The row of one line, which begins at byte `offset` of its file. Halves of surrogate pairs, which are no
    characters, are a fault unless `surrogates` are wanted."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"byte {offset + error.start} of the file, 0x{line[error.start]:02x}"
        return Row(number, fault=f"not UTF-8 ({place}); save the file as UTF-8")
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        return Row(number, fault=f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets thousands deep
        return Row(number, fault=f"JSON that cannot be read: {_first_line(error)}")
    if not isinstance(values, dict):
        return Row(number, fault=f"{describe(values)}, not a JSON object")
    if not surrogates and b"\\ud" in line.lower() and not _is_unicode(values):
        return Row(number, fault="half of a surrogate pair (\\ud…), which is no character")
    return Row(number, values)


def _is_unicode(values: dict[str, Any]) -> bool:
    try:
        json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parquet(path: Path, shown: str) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    with _explained(shown):
        try:
            with ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                    for values in batch.to_pylist():
                        number += 1
                        yield Row(number, values)
        except (ArrowException, UnicodeDecodeError) as error:
            after = f" after row {number}" if number else ""
            raise UserError(f"{shown}: not readable as Parquet{after} ({_first_line(error)})") from error


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{shown}: there is no such file") from None
    except IsADirectoryError:
        raise UserError(f"{shown}: is a folder; name a file in it") from None
    except OSError as error:
        raise UserError(f"{shown}: cannot be read ({error.strerror or _first_line(error)})") from error


def describe(value: object) -> str:
    """What a value of JSON or Parquet is, for people."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
