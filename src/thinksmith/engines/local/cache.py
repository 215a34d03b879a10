"""Keys and values in blocks of a fixed number of tokens, in buffers that we own.

A sequence is a list of blocks. Sequences that begin with the same prompt name the same blocks, so a group's prompt is
kept once; a block is free again when nobody names it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from thinksmith.engines.local.memory import touched

BLOCK = 16  # tokens
PADDING = 0  # stands where a table has no further block; stays zero, since 0 × NaN is NaN
SINK = 1  # written by rows that have nothing to say
RESERVED = 2
ALIGNMENT = 64  # bytes: a vector never lies across two lines of a cache


def blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK)


class Pool:
    """Keys and values [blocks, heads, BLOCK, dim], a pair for each layer; with `by_dim` keys are [.., dim, BLOCK].

    On a CPU the buffers are the system's zero pages until they are written to, so a pool is as large as it has been
    used, whatever its size.
    """

    def __init__(self, device: torch.device, *, by_dim: bool = False) -> None:
        self.device = device
        self.by_dim = by_dim
        self.blocks = 0
        self.most = 0  # blocks that were in use at one time: on a CPU no more take memory
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self._free: list[int] = []
        self._uses: list[int] = []

    def open(self, blocks: int) -> None:
        """Forget everything; be of so many blocks."""
        self.release()
        self.blocks = blocks + RESERVED
        self._uses = [0] * self.blocks
        self._free = list(range(self.blocks - 1, RESERVED - 1, -1))  # the first are used first, and again

    @property
    def size(self) -> int:
        """Blocks that sequences may have, together."""
        return max(0, self.blocks - RESERVED)

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Free blocks, which the caller gives back. There must be as many."""
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._uses[block] = 1
        self.most = max(self.most, self.size - self.free)
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """One more names these blocks."""
        for block in blocks:
            self._uses[block] += 1

    def give(self, blocks: Iterable[int], *, wipe: bool = False) -> None:
        """One less does. `wipe`: what is free then may hold what is not a number, and must not outlive it."""
        freed = []
        for block in blocks:
            self._uses[block] -= 1
            if not self._uses[block]:
                freed.append(block)
        if wipe and freed:
            self.clear(freed)
        self._free += freed

    def layer(self, index: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers of a layer, made on first sight of what the model writes ([*, heads, *, dim])."""
        while len(self.keys) <= index:
            self.keys.append(self._zeros(keys, self.by_dim))
            self.values.append(self._zeros(values, False))
        return self.keys[index], self.values[index]

    def clear(self, blocks: Sequence[int]) -> None:
        """Make these blocks zeros."""
        where = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        for buffer in (*self.keys, *self.values):
            buffer[where] = 0

    def release(self) -> None:
        """Give the memory back."""
        self.keys.clear()
        self.values.clear()
        self.blocks = self.most = 0
        self._free = []
        self._uses = []

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        buffers = (*self.keys, *self.values)
        if self.device.type != "cpu":
            return sum(buffer.nbytes for buffer in buffers)
        return sum(touched(buffer, buffer.nbytes * (self.most + RESERVED) // self.blocks) for buffer in buffers)

    def _zeros(self, like: torch.Tensor, by_dim: bool) -> torch.Tensor:
        heads, dim = like.shape[1], like.shape[3]
        shape = (self.blocks, heads, dim, BLOCK) if by_dim else (self.blocks, heads, BLOCK, dim)
        if like.device.type != "cpu":
            return like.new_zeros(shape)
        size = self.blocks * heads * dim * BLOCK * like.element_size()
        raw = torch.from_numpy(np.zeros(size + ALIGNMENT, dtype=np.uint8))
        start = -raw.data_ptr() % ALIGNMENT
        return raw[start : start + size].view(like.dtype).view(shape)
