"""CUDA graphs of decoding steps: one launch instead of some hundreds.

A graph is recorded for each bucket of rows and blocks, when it is first needed. It works on tensors of its own, into
which the inputs of a step are copied, and reads the model's weights and the pool where they were when it was recorded:
whoever moves one of them calls `clear`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from thinksmith.engines.local.memory import out_of_memory
from thinksmith.fit.rounding import round_up

WARM_UP = 2  # runs before the recording: libraries choose their kernels and allocate what they keep
FINE = 8  # blocks: buckets are multiples of it, and of a quarter of the next power of two


def bucket(rows: int, entries: int, most: int) -> tuple[int, int]:
    """The rows (at most `most`) and blocks of the graph that does a step of so many."""
    height = min(most, 1 << max(0, rows - 1).bit_length())
    quarter = (1 << max(0, entries - 1).bit_length()) // 4
    return height, round_up(entries, max(FINE, quarter))


@dataclass(frozen=True, slots=True)
class _Recorded:
    graph: Any
    inputs: Sequence[torch.Tensor]
    output: torch.Tensor


class Graphs:
    """`run` gives what `compute` gives, by graphs; `compute` takes tensors and returns one."""

    def __init__(self, compute: Callable[..., torch.Tensor]) -> None:
        self._compute = compute
        self._recorded: dict[tuple[torch.Size, ...], _Recorded] = {}
        self._memory: Any = None  # that all graphs share, since one runs at a time
        self._works = True

    def run(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The output holds until the next call."""
        if not self._works:
            return self._compute(*inputs)
        shapes = tuple(each.shape for each in inputs)
        try:
            found = self._recorded.get(shapes) or self._record(inputs)
        except Exception as error:  # what a model does may be no matter for a graph
            if out_of_memory(error):
                raise
            warnings.warn(f"decoding goes without CUDA graphs: {error}", RuntimeWarning, stacklevel=2)
            self._works = False
            self.clear()
            return self._compute(*inputs)
        self._recorded[shapes] = found
        for mine, given in zip(found.inputs, inputs, strict=True):
            mine.copy_(given)
        found.graph.replay()
        return found.output

    def clear(self) -> None:
        """Forget all graphs and give their memory back."""
        self._recorded.clear()
        self._memory = None

    def _record(self, inputs: Sequence[torch.Tensor]) -> _Recorded:
        own = [each.clone() for each in inputs]
        aside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):  # a step may be done again: it writes the same to the same places
                self._compute(*own)
        torch.cuda.current_stream().wait_stream(aside)
        self._memory = self._memory or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            output = self._compute(*own)
        return _Recorded(graph, own, output)
