"""When to write a checkpoint: every so many steps, or as often as costs little."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from thinksmith.training import checkpoint
from thinksmith.training.optimizer import Optimizers

SHARE = 20  # the time between two saves is at least so many times what one takes


class Saver:
    """Saves after the first step that it sees, after the last (`steps`), after one whose score is the best so far, and

    every > 0: after every `every`-th step;
    every = 0: after a step that ends when 20 times the last save's duration have passed since, so that saving takes
    less than a twentieth of the time. Which steps are saved then depends on the clock; what is saved does not.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizers: Optimizers,
        *,
        steps: int,
        every: int = 0,
        keep: int = 2,
        base: str = "",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._folder, self._model, self._optimizers = folder, model, optimizers
        self._steps, self._every, self._keep, self._base = steps, every, keep, base
        self._clock = clock
        self._next: float | None = None  # the time after which a save is cheap again; None before the first
        self.seconds = 0.0  # what the last save took

    def load(self) -> tuple[int, dict[str, Any]]:
        """`checkpoint.load` of the folder."""
        return checkpoint.load(self._folder, self._model, self._optimizers, base=self._base)

    def after(self, step: int, extra: Callable[[], Mapping[str, Any]], *, score: float | None = None) -> bool:
        """Tell that `step` steps are finished; was their state saved? `extra` is called only then. Raises as
        `checkpoint.save` does."""
        if not self.due(step, score):
            return False
        began = self._clock()
        checkpoint.save(
            self._folder,
            step,
            self._model,
            self._optimizers,
            extra(),
            base=self._base,
            keep=self._keep,
            score=score,
        )
        ended = self._clock()
        self.seconds = ended - began
        self._next = ended + SHARE * self.seconds
        return True

    def end(self) -> None:
        """The step that comes next is the last one, whatever was planned."""
        self._steps = 0

    def due(self, step: int, score: float | None) -> bool:
        """Would `after` save now?"""
        if self._next is None or step >= self._steps or self._is_best(score):
            return True
        return step % self._every == 0 if self._every else self._clock() >= self._next

    def _is_best(self, score: float | None) -> bool:
        known = checkpoint.best(self._folder)
        return score is not None and score == score and (known is None or score > known.score)
