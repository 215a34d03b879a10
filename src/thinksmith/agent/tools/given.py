"""What a function gave, as text for a model: bounded, whatever it is."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import fractions
import json
import pathlib
import uuid
from typing import Any

from thinksmith.agent.contract import Result

LARGEST = 4_000_000  # characters

_AS_WRITTEN = (datetime.date, datetime.time, decimal.Decimal, fractions.Fraction, pathlib.PurePath, uuid.UUID)


def result_of(value: Any) -> Result:
    """Text as it is, bytes decoded, all else as JSON, of each at most LARGEST characters. Raises TypeError for what is
    none of these."""
    if isinstance(value, Result):
        return dataclasses.replace(value, text=value.text[:LARGEST])
    if value is None:
        return Result("")
    if isinstance(value, str):
        return Result(value[:LARGEST])
    if isinstance(value, bytes | bytearray | memoryview):
        return Result(bytes(value[:LARGEST]).decode(errors="replace"))
    return Result(_json(value))


def _json(value: Any) -> str:
    """As JSON, written piece by piece and no further than LARGEST."""
    pieces, length = [], 0
    for piece in json.JSONEncoder(ensure_ascii=False, default=_plain).iterencode(value):
        pieces.append(piece)
        length += len(piece)
        if length > LARGEST:
            break
    return "".join(pieces)[:LARGEST]


def _plain(value: Any) -> Any:
    """What JSON does not know, as something that it does."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, bytes | bytearray):
        return bytes(value[:LARGEST]).decode(errors="replace")
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, _AS_WRITTEN):
        return str(value)
    raise TypeError(f"a tool gives text, bytes or what JSON can hold, not {type(value).__name__}")
