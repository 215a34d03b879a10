"""Prompts on their way into the cache: in pieces of a fixed length, each piece kept for prompts that begin alike.

Pieces end at multiples of PIECE, whatever else is going on, so the keys and values of a prompt are the same numbers
whether it is written alone, beside others, or from what an earlier prompt left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch

from thinksmith.engines.local.cache import ROWS, SlotCache, round_up
from thinksmith.engines.local.rows import Row

PIECE = 512  # tokens of a prompt in one forward pass
PREFILL_TOKENS = 8192  # at most in one forward pass, padding included
PREFILL_PADDED = 192  # longer pieces are never padded: a CPU's fused attention sums in another order from here on
PREFILL_ENOUGH = 1024  # with so many a pass is efficient: rather another one than more padding


@dataclass(eq=False, slots=True)
class Fill:
    """A prompt that is being written, without its last token, into the slots of `rows`; `done` tokens are."""

    prompt: tuple[int, ...]
    rows: list[Row]
    done: int = 0

    @property
    def total(self) -> int:
        return len(self.prompt) - 1

    @property
    def piece(self) -> tuple[int, ...]:
        """What comes next."""
        return self.prompt[self.done : min(self.done + PIECE, self.total)]

    @property
    def width(self) -> int:
        """Columns that the next piece takes; a CPU's last bits depend on them otherwise."""
        return round_up(len(self.piece), ROWS)


def together(fills: Iterable[Fill]) -> list[list[Fill]]:
    """Cut fills into passes: pieces that begin at the same column, of one width, or padded while they are small."""
    passes: list[list[Fill]] = []
    for fill in sorted(fills, key=lambda fill: (fill.done, fill.width)):
        held = passes[-1] if passes else []
        wider = bool(held) and fill.width > held[-1].width
        pads = wider and (len(held) * fill.width > PREFILL_ENOUGH or fill.width > PREFILL_PADDED or fill.done > 0)
        new = not held or pads or fill.done != held[-1].done or (len(held) + 1) * fill.width > PREFILL_TOKENS
        if new:
            passes.append([])
        passes[-1].append(fill)
    return passes


class PrefixStore:
    """Keys and values of prompts' pieces, by all the tokens up to their end. The least recently used go first.

    `limit` in bytes. What was computed by other weights is forgotten.
    """

    def __init__(self) -> None:
        self.limit = 0
        self.bytes = 0
        self.hits = 0
        self._version: tuple[int, ...] = ()
        self._pieces: OrderedDict[bytes, list[torch.Tensor]] = OrderedDict()

    def use(self, version: tuple[int, ...]) -> None:
        """The weights are these now."""
        if version != self._version:
            self.clear()
            self._version = version

    def restore(self, fill: Fill, cache: SlotCache, slots: Sequence[int]) -> None:
        """Write what is known of the prompt into the slots, and count it as done."""
        while fill.done + PIECE <= fill.total and (held := self._pieces.get(_name(fill.prompt, fill.done + PIECE))):
            self._pieces.move_to_end(_name(fill.prompt, fill.done + PIECE))
            columns = slice(fill.done, fill.done + PIECE)
            for index, (keys, values) in enumerate(zip(held[::2], held[1::2], strict=True)):
                for buffer, piece in zip(cache.layer(index, keys[None], values[None]), (keys, values), strict=True):
                    buffer[torch.tensor(slots, device=buffer.device), :, columns] = piece
            fill.done += PIECE
            self.hits += 1

    def keep(self, fill: Fill, cache: SlotCache, slot: int) -> None:
        """Remember the piece that was just written."""
        if fill.done % PIECE or not fill.done:
            return
        columns = slice(fill.done - PIECE, fill.done)
        pairs = zip(cache.keys, cache.values, strict=True)
        piece = [buffer[slot, :, columns].clone() for pair in pairs for buffer in pair]
        name, size = _name(fill.prompt, fill.done), sum(tensor.nbytes for tensor in piece)
        if name in self._pieces or size > self.limit:
            return
        self._pieces[name] = piece
        self.bytes += size
        while self.bytes > self.limit:
            _, old = self._pieces.popitem(last=False)
            self.bytes -= sum(tensor.nbytes for tensor in old)

    def clear(self) -> None:
        self._pieces.clear()
        self.bytes = 0


def _name(prompt: Sequence[int], end: int) -> bytes:
    """Of a prompt's first `end` tokens."""
    return blake2b(np.asarray(prompt[:end], dtype="<i4").tobytes(), digest_size=32).digest()
