"""Prompts on their way into the pool: in pieces of a fixed length, each piece kept for prompts that begin alike.

Pieces end at multiples of PIECE, whatever else is going on, so the keys and values of a prompt are the same numbers
whether it is written alone, beside others, or from what an earlier prompt left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from thinksmith.engines.local.cache import BLOCK, Pool, blocks_for
from thinksmith.fit.rounding import round_up

if TYPE_CHECKING:
    from thinksmith.engines.local.rows import Row

PIECE = 512  # tokens of a prompt in one forward pass


@dataclass(eq=False, slots=True)
class Prompt:
    """A prompt that rows of the batch have in common: the blocks of its tokens but the last, and how many are written.

    The last token is the input of a row's first step, so prefill needs no logits.
    """

    ids: tuple[int, ...]
    blocks: list[int]
    rows: list[Row] = field(default_factory=list)
    done: int = 0
    failed: bool = False  # writing it did not work
    sound: bool = False  # a row has sampled a token from it: all of it is numbers

    @property
    def total(self) -> int:
        return len(self.ids) - 1

    @property
    def piece(self) -> tuple[int, ...]:
        """What comes next."""
        return self.ids[self.done : min(self.done + PIECE, self.total)]

    @property
    def width(self) -> int:
        """Columns that the next piece takes."""
        return round_up(len(self.piece), BLOCK)


class PrefixStore:
    """Blocks of prompts' pieces, by all the tokens up to their end. The least recently used go first.

    `limit` in blocks. What was computed by other weights is forgotten.
    """

    def __init__(self, pool: Pool) -> None:
        self.limit = 0
        self.hits = 0
        self.blocks = 0
        self._pool = pool
        self._version: tuple[int, ...] = ()
        self._pieces: OrderedDict[bytes, list[int]] = OrderedDict()

    def use(self, version: tuple[int, ...]) -> None:
        """The weights are these now."""
        if version != self._version:
            self.clear()
            self._version = version

    def find(self, ids: Sequence[int]) -> list[int]:
        """Blocks of the longest known beginning of a prompt, less its last token; the caller gives them back."""
        known = list(takewhile(self._pieces.__contains__, _names(ids[:-1])))
        for name in reversed(known):  # so that of a chain the end goes first
            self._pieces.move_to_end(name)
        found = [block for name in known for block in self._pieces[name]]
        self.hits += len(known)
        self._pool.share(found)
        return found

    def keep(self, prompt: Prompt) -> None:
        """Remember the piece that was just written, if it is a whole one."""
        size = blocks_for(PIECE)
        if prompt.done % PIECE or not prompt.done or size > self.limit:
            return
        *_, name = _names(prompt.ids[: prompt.done])
        if name in self._pieces:
            return
        end = blocks_for(prompt.done)
        self._pieces[name] = prompt.blocks[end - size : end]
        self._pool.share(self._pieces[name])
        self.blocks += size
        while self.blocks > self.limit:
            self.forget()

    def forget(self) -> bool:
        """Let the least recently used piece go; was there one?"""
        if not self._pieces:
            return False
        _, old = self._pieces.popitem(last=False)
        self._pool.give(old, wipe=True)
        self.blocks -= len(old)
        return True

    def clear(self) -> None:
        while self.forget():
            pass


def together(prompts: Iterable[Prompt], tokens: int, padded: int, enough: int) -> list[list[Prompt]]:
    """Cut pieces into passes of at most `tokens`: such as begin at the same column and have the same width, or are
    padded to it: up to `padded` columns, and only while a pass has less than `enough` tokens."""
    passes: list[list[Prompt]] = []
    for prompt in sorted(prompts, key=lambda prompt: (prompt.done, prompt.width)):
        held = passes[-1] if passes else []
        wider = bool(held) and prompt.width > held[-1].width
        pads = wider and (len(held) * prompt.width > enough or prompt.width > padded or prompt.done > 0)
        if not held or pads or prompt.done != held[-1].done or (len(held) + 1) * prompt.width > tokens:
            passes.append([])
        passes[-1].append(prompt)
    return passes


def _names(ids: Sequence[int]) -> Iterator[bytes]:
    """Of each whole piece, and all tokens before it."""
    name = b""
    for end in range(PIECE, len(ids) + 1, PIECE):
        piece = np.asarray(ids[end - PIECE : end], dtype="<i4").tobytes()
        name = blake2b(name + piece, digest_size=32).digest()
        yield name
