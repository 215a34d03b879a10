"""Who sees whom in a packed row: prompts, each once, and completions that see their prompt and themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from thinksmith.training.packed.buckets import Buckets
from thinksmith.training.packed.flex import Flex
from thinksmith.training.packed.native.plan import Plan


@dataclass(frozen=True, slots=True)
class Segment:
    """A prompt, or a completion: tokens start..end of the row, each of which sees those before it."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Crossing:
    """Completions that lie one after the other (`seers`), each of whose tokens sees the whole of a prompt (`seen`)."""

    seen: Segment
    seers: Segment


class Layout:
    """A row of `tokens` tokens. What a way to compute its attention needs is made when it is first asked for."""

    def __init__(self, segments: Sequence[Segment], crossings: Sequence[Crossing], device: torch.device) -> None:
        self.tokens = sum(segment.length for segment in segments)
        self.segments, self.crossings, self._device = tuple(segments), tuple(crossings), device

    @cached_property
    def buckets(self) -> Buckets:
        """For torch's products."""
        return Buckets(self.segments, self.tokens, self._device)

    @cached_property
    def plan(self) -> Plan:
        """For the code in C."""
        return Plan.of([(each.start, each.end, *self._seen_by(each)) for each in self.segments])

    @cached_property
    def flex(self) -> Flex:
        """For a GPU."""
        prompts = {crossing.seen.start: crossing.seers.end for crossing in self.crossings}
        return Flex.of([(each.start, each.end, prompts.get(each.start)) for each in self.segments], self._device)

    def _seen_by(self, segment: Segment) -> tuple[int, int]:
        """Start and end of the prompt that a segment sees beside itself; nothing for a prompt."""
        for crossing in self.crossings:
            if crossing.seers.start <= segment.start < crossing.seers.end:
                return crossing.seen.start, crossing.seen.end
        return segment.start, segment.start
