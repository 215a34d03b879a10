"""The header of a GGUF file: what it says of a model, and which tensors it holds. The tensors are not read.

The format is told in https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian). A
file may come from anyone: every count and length is checked against the file and against a limit before it is used, and
long texts and arrays, such as a tokenizer's 150,000 tokens, are stepped over.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO

from thinksmith.errors import UserError, one_line
from thinksmith.fit.formats.ggml import BLOCKS, BY_ID

Value = str | int | float | bool | tuple[int | float | bool, ...]

MOST_KEYS = 1 << 16
MOST_TENSORS = 1 << 18  # DeepSeek-R1 has about 1,100: experts lie in one tensor
MOST_ELEMENTS = 1 << 22  # texts and arrays in arrays of one file, which are stepped over one by one: some seconds
LONGEST_NAME = 1 << 12
LONGEST_TEXT = 1 << 12  # of a text that is kept
LONGEST_ARRAY = 1 << 12  # of one that is kept, as those with a number for each layer
MOST_DIMENSIONS = 4
DEEPEST = 4
# The kinds of values, by number: as struct reads them. 8 is a text, 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """`dims`: as the file has them, inputs first. `type`: a name of `ggml.BLOCKS`."""

    name: str
    dims: tuple[int, ...]
    type: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """`metadata`: what the file says, without long texts and arrays; `lengths`: how long each array is."""

    path: str
    architecture: str
    metadata: Mapping[str, Value] = field(repr=False)
    lengths: Mapping[str, int] = field(repr=False)
    tensors: tuple[GGUFTensor, ...] = field(repr=False)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors, without what lies between them."""
        return sum(tensor.bytes for tensor in self.tensors)


def read_gguf(path: str | Path) -> Header:
    """The header of the file, of all its parts if it is one of several (`-00001-of-00003.gguf`), which lie beside it.

    Raises UserError for a file that is no GGUF, is cut off, lies about itself or lacks a part.
    """
    parts = [_read_part(part) for part in _parts(Path(path))]
    first = parts[0]
    tensors = tuple(tensor for part in parts for tensor in part.tensors)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise UserError(f"{first.path} cannot be read: it holds two tensors of one name")
    return Header(first.path, first.architecture, first.metadata, first.lengths, tensors)


def _parts(path: Path) -> list[Path]:
    split = SHARD.fullmatch(path.name)
    if split is None:
        return [path]
    count = int(split[3])
    found = []
    for number in range(1, count + 1):
        found.append(path.with_name(f"{split[1]}-{number:05d}-of-{split[3]}.gguf"))
        if not found[-1].is_file():
            raise UserError(f"{found[-1]} is missing: put all {count} parts of the model into one folder")
    if not found:
        raise UserError(f"{path} cannot be read: its name says that it is of no parts")
    return found


def _read_part(path: Path) -> Header:
    if not path.is_file():
        raise UserError(f"{path} is no file")
    try:
        with path.open("rb") as file:
            return _Reader(file, path).header()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None


class _Reader:
    """Reads a header from its start. Nothing is read or skipped that the file does not have."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path
        self.size = path.stat().st_size
        self.at = 0
        self.elements = 0

    def header(self) -> Header:
        if self.read(4) != b"GGUF":
            raise self.bad("it does not begin with GGUF")
        version = self.number("I")
        if version not in (2, 3):
            if version and not version & 0xFFFF:
                raise self.bad("it is big endian; convert the model anew on a little-endian machine")
            raise self.bad(f"it is of version {version}; versions 2 and 3 are known")
        tensors = self.limited("tensors", MOST_TENSORS)
        keys = self.limited("keys", MOST_KEYS)
        metadata: dict[str, Value] = {}
        lengths: dict[str, int] = {}
        for _ in range(keys):
            self.entry(metadata, lengths)
        infos = [self.info() for _ in range(tensors)]
        self.check_data(infos, metadata)
        architecture = metadata.get("general.architecture", "")
        if not isinstance(architecture, str):
            raise self.bad("its architecture is no text")
        return Header(str(self.path), architecture, metadata, lengths, tuple(tensor for tensor, _ in infos))

    def bad(self, why: str) -> UserError:
        return UserError(f"{self.path} cannot be read: {why}")

    def reserve(self, count: int) -> None:
        self.at += count
        if self.at > self.size:
            raise self.bad("it is cut off, or a length in it is wrong; download it again")

    def read(self, count: int) -> bytes:
        self.reserve(count)
        read = self.file.read(count)
        if len(read) < count:
            raise self.bad("it was cut off while it was read")
        return read

    def skip(self, count: int) -> None:
        self.reserve(count)
        self.file.seek(count, 1)

    def number(self, kind: str) -> int:
        value = self.scalar(kind)
        return int(value)

    def scalar(self, kind: str) -> int | float | bool:
        value: int | float | bool = struct.unpack("<" + kind, self.read(struct.calcsize("<" + kind)))[0]
        return value

    def limited(self, what: str, most: int) -> int:
        count = self.number("Q")
        if count > most:
            raise self.bad(f"it claims {count} {what}, more than {most}")
        return count

    def name(self) -> str:
        length = self.number("Q")
        if length > LONGEST_NAME:
            raise self.bad(f"a name in it is {length} bytes long")
        return self.read(length).decode("utf-8", "replace")

    def entry(self, metadata: dict[str, Value], lengths: dict[str, int]) -> None:
        key = self.name()
        if key in metadata or key in lengths:
            raise self.bad("a key stands in it twice")
        kind = self.number("I")
        if kind in SCALARS:
            metadata[key] = self.scalar(SCALARS[kind])
        elif kind == TEXT:
            length = self.number("Q")
            if length <= LONGEST_TEXT:
                metadata[key] = self.read(length).decode("utf-8", "replace")
            else:
                self.skip(length)
        elif kind == ARRAY:
            self.array(key, metadata, lengths)
        else:
            raise self.bad(f"a value in it is of the unknown kind {kind}")

    def array(self, key: str, metadata: dict[str, Value], lengths: dict[str, int]) -> None:
        kind, count = self.number("I"), self.number("Q")
        lengths[key] = count
        if kind in SCALARS and count <= LONGEST_ARRAY:
            metadata[key] = tuple(self.scalar(SCALARS[kind]) for _ in range(count))
        else:
            self.skip_array(kind, count, 1)

    def skip_array(self, kind: int, count: int, depth: int) -> None:
        if kind in SCALARS:
            self.skip(count * struct.calcsize("<" + SCALARS[kind]))
            return
        self.elements += count
        if self.elements > MOST_ELEMENTS:
            raise self.bad(f"its arrays hold more than {MOST_ELEMENTS} texts")
        if kind == TEXT:
            for _ in range(count):
                self.skip(self.number("Q"))
        elif kind == ARRAY and depth < DEEPEST:
            for _ in range(count):
                self.skip_array(self.number("I"), self.number("Q"), depth + 1)
        else:
            raise self.bad("an array in it is nested too deep, or of an unknown kind")

    def info(self) -> tuple[GGUFTensor, int]:
        """A tensor, and where in the data it begins."""
        name = self.name()
        dimensions = self.number("I")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise self.bad(f"a tensor in it has {dimensions} dimensions")
        dims = tuple(self.number("Q") for _ in range(dimensions))
        kind = self.number("I")
        if kind not in BY_ID:
            raise self.bad(f"a tensor in it is of the unknown type {kind}")
        block = BLOCKS[BY_ID[kind]]
        if not all(dims) or dims[0] % block.numbers:
            raise self.bad(f"a tensor of {' × '.join(map(str, dims))} numbers cannot be {BY_ID[kind]}")
        size = block.row(dims[0]) * prod(dims[1:])
        return GGUFTensor(name, dims, BY_ID[kind], size), self.number("Q")

    def check_data(self, infos: list[tuple[GGUFTensor, int]], metadata: Mapping[str, Value]) -> None:
        alignment = metadata.get("general.alignment", 32)
        if isinstance(alignment, bool) or not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise self.bad("its alignment is no sensible number")
        start = -(-self.at // alignment) * alignment
        end = start + max((offset + tensor.bytes for tensor, offset in infos), default=-start)
        if end > self.size:
            raise self.bad(f"it has {self.size} bytes and should have {end}; download it again")
        if sum(tensor.bytes for tensor, _ in infos) > self.size:
            raise self.bad("tensors in it overlap")
