"""Which samples a step learns from: every epoch all of them once, in an order shuffled anew."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any


class Order:
    """Draws batches of whole samples; where it stands is plain data, for a checkpoint.

    `sizes`: tokens of each sample. A batch has `samples` samples, or where `tokens` is not 0 as many as fit into that
    (at least one). It never reaches over the end of an epoch, so the last one of an epoch may be smaller.
    """

    def __init__(self, sizes: Sequence[int], seed: int, *, samples: int, tokens: int = 0) -> None:
        self._sizes, self._seed = sizes, seed
        self._samples, self._tokens = samples, tokens
        self.epoch = 0  # finished
        self._at = 0  # samples of this epoch that were drawn
        self._shuffled = self._shuffle()

    def next(self) -> list[int]:
        """The indices of the next batch."""
        batch: list[int] = []
        left = self._tokens
        for place in range(self._at, len(self._shuffled)):  # a slice would copy all that is left
            index = self._shuffled[place]
            left -= self._sizes[index]
            if batch and (left < 0 if self._tokens else len(batch) == self._samples):
                break
            batch.append(index)
        self._at += len(batch)
        if self._at == len(self._shuffled):
            self.epoch, self._at = self.epoch + 1, 0
            self._shuffled = self._shuffle()
        return batch

    @property
    def epochs(self) -> float:
        """How often the data were gone through so far."""
        return self.epoch + self._at / len(self._shuffled)

    def steps(self, epochs: int) -> int:
        """The batches of the first `epochs` epochs."""
        walk = Order(self._sizes, self._seed, samples=self._samples, tokens=self._tokens)
        count = 0
        while walk.epoch < epochs:
            walk.next()
            count += 1
        return count

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "at": self._at, "samples": len(self._sizes)}

    def restore(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the state is of other samples."""
        if state["samples"] != len(self._sizes):
            raise ValueError(f"the position is in {state['samples']} samples, and here are {len(self._sizes)}")
        self.epoch, self._at = int(state["epoch"]), int(state["at"])
        self._shuffled = self._shuffle()

    def _shuffle(self) -> list[int]:
        order = list(range(len(self._sizes)))
        Random(f"{self._seed}:{self.epoch}").shuffle(order)
        return order
