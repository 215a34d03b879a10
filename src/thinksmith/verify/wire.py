"""How `workers.py` and `worker_main.py` speak: JSON, behind its length in four bytes. Never pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

MAX_MESSAGE = 4 << 20
"""Bytes of one message, either way."""

_LENGTH = struct.Struct("!I")


class TooLarge(ValueError):
    """A message of more than MAX_MESSAGE bytes."""


class Closed(ConnectionError):
    """The other side is gone."""


def encode(message: object) -> bytes:
    """`message` as it goes over the wire. Raises TooLarge, or ValueError if it is no plain data."""
    try:
        body = json.dumps(message, separators=(",", ":")).encode("ascii")
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if len(body) > MAX_MESSAGE:
        raise TooLarge(f"more than {MAX_MESSAGE:,} bytes")
    return _LENGTH.pack(len(body)) + body


def receive(take: Callable[[int], bytes]) -> Any:
    """The next message; `take(n)` gives 1 to n bytes, or none at the end. Raises Closed or ValueError."""
    (length,) = _LENGTH.unpack(_exactly(take, _LENGTH.size))
    if length > MAX_MESSAGE:
        raise ValueError(f"a message of {length:,} bytes")
    try:
        return json.loads(_exactly(take, length))
    except RecursionError:
        raise ValueError("a message that is nested too deep") from None


def _exactly(take: Callable[[int], bytes], size: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        chunk = take(size - len(chunks))
        if not chunk:
            raise Closed("the other side is gone")
        chunks += chunk
    return bytes(chunks)
