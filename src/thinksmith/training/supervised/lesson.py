"""What a trainer learns from, and how: SFT and DPO are each one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from thinksmith.training.optimizer import Optimizers
from thinksmith.training.rows import Metrics


class Lesson(Protocol):
    """Samples in memory. `sizes`: tokens of each."""

    @property
    def sizes(self) -> Sequence[int]: ...

    def learn(self, indices: Sequence[int], optimizers: Optimizers, lr_scale: float) -> Metrics:
        """One optimiser step on these samples, of all ranks together; its row of metrics. Raises NotFiniteError."""

    def measure(self) -> Metrics:
        """How well the held-out samples are known, under names that begin with `held_out_`; {} where there are none."""


@contextmanager
def in_training(model: Any) -> Iterator[None]:
    """Training mode, which is what makes transformers recompute layers, where the recipe wants that; and dropout."""
    model.train()
    try:
        yield
    finally:
        model.eval()
