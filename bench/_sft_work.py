"""What the benches of SFT learn from: traces of random tokens with lognormal lengths, the same on both sides."""

from __future__ import annotations

import random
from dataclasses import dataclass

from thinksmith.training.batches import Example

FIRST, LAST = 3, 700  # ids that are drawn: in every vocabulary, and none of them special


@dataclass(frozen=True)
class Work:
    """`samples` traces of an optimiser step: prompts of 20 to 40 tokens, completions of `mean` tokens on average and
    `most` at most, with the lognormal's `sigma`."""

    samples: int
    mean: int
    sigma: float
    most: int

    @property
    def longest(self) -> int:
        """The most tokens that a sample may have."""
        return 40 + self.most


def examples_of(work: Work, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(FIRST, LAST) for _ in range(count))

    raw = [draw.lognormvariate(0, work.sigma) for _ in range(work.samples)]
    lengths = [max(2, min(work.most, round(each * work.samples * work.mean / sum(raw)))) for each in raw]
    return [Example(ids(draw.randint(20, 40)), ids(length)) for length in lengths]
