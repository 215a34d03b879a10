"""A nested state of tensors and plain data in one file that is whole or not there, and that cannot run code.

    mark | length of the outline | CRC-32 of the outline | outline | bytes of the tensors | CRC-32 of all before

The outline is the state as torch writes it, with a place for each tensor. The tensors' bytes go straight from their
memory to the file and back, so nothing is held twice. That is also why torch does not write the file itself: it calls
back from C++, where Ctrl-C in the middle of a write would abort the process.
"""

from __future__ import annotations

import io
import os
import pickle
import zlib
from collections.abc import Iterable
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from thinksmith.training.durable import replacing

_MARK = b"thinksmith-state-1\n"
_PLACE = "\0tensor"  # the key of a place: [dtype, shape]
_SUM = 4  # bytes of a CRC-32


class Damaged(Exception):
    """The file is not, to the last bit, what `write_state` wrote."""


def write_state(path: Path, state: Any) -> None:
    """Replace the file. `state`: dicts, lists and tuples of tensors and what torch reads back with `weights_only`.

    Raises OSError where it cannot be written; then, as after Ctrl-C, the old file is still there and nothing beside it.
    """
    tensors: list[Tensor] = []
    outline = io.BytesIO()
    torch.save(_put_places(state, tensors), outline)
    head = outline.getvalue()
    start: list[bytes | memoryview] = [_MARK, len(head).to_bytes(8, "little"), _sum(head), head]
    with replacing(path) as file:
        total = 0
        for data in chain(start, map(_bytes, tensors)):
            total = zlib.crc32(data, total)
            file.write(data)
        file.write(total.to_bytes(_SUM, "little"))


def read_state(path: Path) -> Any:
    """The state, its tensors on the CPU. Raises Damaged, and OSError where the file cannot be read."""
    with path.open("rb") as file:
        reader = _Reader(file)
        if reader.take(len(_MARK)) != _MARK:
            raise Damaged(f"{path} has another beginning")
        length, head_sum = int.from_bytes(reader.take(8), "little"), reader.take(_SUM)
        head = reader.take(length)
        if _sum(head) != head_sum:
            raise Damaged(f"{path} has another outline than was written")
        try:
            outline = torch.load(io.BytesIO(head), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise Damaged(f"{path} cannot be read: {error}") from None
        state = _fill_places(outline, reader)
        if file.read() != reader.total.to_bytes(_SUM, "little"):
            raise Damaged(f"{path} has other bytes than were written")
        return state


class _Reader:
    """Sums what it reads, and never makes room for more than the file holds."""

    def __init__(self, file: BinaryIO) -> None:
        self.total = 0
        self._file = file
        self._left = os.fstat(file.fileno()).st_size - _SUM

    def take(self, size: int) -> bytes:
        self._count(size)
        data = self._file.read(size)
        self.total = zlib.crc32(data, self.total)
        return data

    def tensor(self, dtype: torch.dtype, shape: Iterable[int]) -> Tensor:
        shape = tuple(shape)
        self._count(prod(shape) * dtype.itemsize)
        tensor = torch.empty(shape, dtype=dtype)
        data = _bytes(tensor)
        self._file.readinto(data)  # type: ignore[attr-defined]
        self.total = zlib.crc32(data, self.total)
        return tensor

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Damaged("the file is cut off")


def _put_places(state: Any, tensors: list[Tensor]) -> Any:
    """The state with places for its dense tensors, which are added to `tensors`; the outline keeps those of other
    kinds, such as an 8-bit optimiser's."""
    if type(state) in (Tensor, nn.Parameter) and state.layout is torch.strided and not state.is_quantized:
        tensors.append(state)
        return {_PLACE: [str(state.dtype).removeprefix("torch."), list(state.shape)]}
    if isinstance(state, dict):
        return {key: _put_places(each, tensors) for key, each in state.items()}
    if type(state) in (list, tuple):
        return type(state)(_put_places(each, tensors) for each in state)
    return state


def _fill_places(outline: Any, reader: _Reader) -> Any:
    """The other way: in the same order, which is that of the file."""
    if isinstance(outline, dict):
        if outline.keys() == {_PLACE}:
            dtype, shape = outline[_PLACE]
            return reader.tensor(getattr(torch, dtype), shape)
        return {key: _fill_places(each, reader) for key, each in outline.items()}
    if type(outline) in (list, tuple):
        return type(outline)(_fill_places(each, reader) for each in outline)
    return outline


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a tensor; of one that is not on the CPU, or not in one piece, that of a copy."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _sum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_SUM, "little")
