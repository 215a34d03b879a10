"""The KV cache: keys and values of every slot, in buffers that we own.

A slot is a row of the batch. Rows in use are always the first ones, so a step reads views and copies nothing; whoever
takes a row out moves the last one into its place. Buffers grow with what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

COLUMNS = 64  # buffers are whole multiples of this many tokens long
ROWS = 16  # and of this many rows high


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


class SlotCache:
    """Keys and values [rows, heads, columns, dim], a pair for each layer. Column t holds the token at position t."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.rows = 0
        self.columns = 0

    def reserve(self, rows: int, columns: int, used: int, most: int | None = None) -> None:
        """Make room for `rows` rows of `columns` tokens; the first `used` rows keep what they hold.

        More is taken than is asked for, so that what grows is copied few times, but not more than `most` tokens in all,
        nor then more rows than are asked for.
        """
        if rows <= self.rows and columns <= self.columns:
            return
        asked = max(round_up(rows, ROWS), round_up(used, ROWS)), round_up(columns, COLUMNS)
        height = max(asked[0], 2 * self.rows) if rows > self.rows else self.rows
        width = max(asked[1], round_up(self.columns * 3 // 2, COLUMNS)) if columns > self.columns else self.columns
        if most is not None and height * width > most:
            height, width = asked[0], max(asked[1], self.columns)
        self.rows, self.columns = height, width
        for buffers in (self.keys, self.values):
            for layer, old in enumerate(buffers):  # one layer after the other: the peak is one layer above the sum
                buffers[layer] = self._empty(old)
                buffers[layer][:used, :, : old.shape[2]].copy_(old[:used])

    def layer(self, index: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers of a layer, made on first sight of what the model writes ([*, heads, *, dim])."""
        while len(self.keys) <= index:
            self.keys.append(self._empty(keys))
            self.values.append(self._empty(values))
        return self.keys[index], self.values[index]

    def move(self, source: Sequence[int], target: Sequence[int], columns: int) -> None:
        """Copy the first `columns` tokens of rows `source` into rows `target` (disjoint from them)."""
        source_R = torch.tensor(source, device=self.device)
        target_R = torch.tensor(target, device=self.device)
        for buffer in (*self.keys, *self.values):
            part = buffer[:, :, :columns]
            part.index_copy_(0, target_R, part.index_select(0, source_R))

    def clear(self, rows: Sequence[int]) -> None:
        """Forget rows that may hold what is not a number."""
        for buffer in (*self.keys, *self.values):
            buffer[torch.tensor(rows, device=self.device)] = 0

    def release(self) -> None:
        """Give the memory back."""
        self.keys.clear()
        self.values.clear()
        self.rows = self.columns = 0

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        # Zeros, not empty: what a masked column holds is multiplied by 0, and 0 × NaN is NaN.
        return like.new_zeros(self.rows, like.shape[1], self.columns, like.shape[3])
