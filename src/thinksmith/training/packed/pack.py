"""Groups of completions as one row of tokens without padding: each prompt once, then its completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from thinksmith.training.batches import Example
from thinksmith.training.packed.layout import Crossing, Layout, Segment


@dataclass(frozen=True, slots=True)
class Pack:
    """One row of N tokens, of which M are learnt.

    `positions_N`: a token's place in its own sequence. `before_M`: where in the row the token stands that a learnt one
    follows (for a completion's first token the end of its prompt). `rows_M`: which of `indices` a learnt token belongs
    to, in whole runs and in order; `indices` says which example each is.
    """

    ids_N: Tensor
    positions_N: Tensor
    before_M: Tensor
    targets_M: Tensor
    rows_M: Tensor
    indices: tuple[int, ...]
    layout: Layout

    @property
    def tokens(self) -> int:
        return len(self.ids_N)


def pack(examples: Sequence[Example], indices: Sequence[int], device: torch.device) -> Pack:
    """One row of the examples at `indices`; those of one prompt must stand side by side."""
    ids: list[int] = []
    positions: list[int] = []
    before: list[int] = []
    targets: list[int] = []
    rows: list[int] = []
    segments: list[Segment] = []
    crossings: list[Crossing] = []
    for prompt, members in _groups(examples, indices):
        seen = Segment(len(ids), len(ids) + len(prompt))
        segments.append(seen)
        ids += prompt
        positions += range(len(prompt))
        for row, example in members:
            start, completion = len(ids), example.completion_ids
            segments.append(Segment(start, start + len(completion)))
            # A token follows the one on its left, the first the end of the prompt.
            follows = [seen.end - 1, *range(start, start + len(completion) - 1)]
            if example.given:
                learnt = sorted(set(range(len(completion))) - set(example.given))
                before += [follows[at] for at in learnt]
                targets += [completion[at] for at in learnt]
                rows += [row] * len(learnt)
            else:
                before += follows[: len(completion)]
                targets += completion
                rows += [row] * len(completion)
            ids += completion
            positions += range(len(prompt), len(prompt) + len(completion))
        crossings.append(Crossing(seen, Segment(seen.end, len(ids))))

    def whole(numbers: list[int]) -> Tensor:
        return torch.from_numpy(np.array(numbers, dtype=np.int64)).to(device)  # twice as fast as from the list

    layout = Layout(segments, [each for each in crossings if each.seers.length and each.seen.length], device)
    return Pack(whole(ids), whole(positions), whole(before), whole(targets), whole(rows), tuple(indices), layout)


def packs(
    examples: Sequence[Example], tokens: int, device: torch.device, units: Sequence[Sequence[int]] | None = None
) -> Iterator[Pack]:
    """Every example once, in rows of at most `tokens` tokens (at least one example, or unit, each).

    Examples of one prompt keep together as far as they fit; the longest groups come first, so that memory that does not
    do shows at once. The sum over rows does not depend on how they are cut. `units`: indices of examples of one prompt
    that are never parted; every example is in one.
    """
    for chosen in _rows(examples, tokens, units):
        yield pack(examples, chosen, device)


def largest_row(examples: Sequence[Example], tokens: int) -> int:
    """Tokens of the largest row that `packs` makes of them; 0 where there are none."""
    rows = ([examples[index] for index in chosen] for chosen in _rows(examples, tokens))
    return max((_tokens(row) for row in rows), default=0)


def _tokens(row: Sequence[Example]) -> int:
    prompts = {example.prompt_ids for example in row}
    return sum(map(len, prompts)) + sum(len(example.completion_ids) for example in row)


def _rows(
    examples: Sequence[Example], tokens: int, units: Sequence[Sequence[int]] | None = None
) -> Iterator[list[int]]:
    """The indices of each row."""
    if units is None:
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for index, example in enumerate(examples):
            by_prompt.setdefault(example.prompt_ids, []).append(index)
        parts = [part for group in by_prompt.values() for part in _cut(examples, group, tokens)]
    else:
        parts = [list(unit) for unit in units]
    parts.sort(key=lambda part: -_size(examples, part))
    return _filled(examples, parts, tokens)


def _cut(examples: Sequence[Example], group: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """A group that is too long for one row in parts of similar size, with the prompt in each."""
    order = sorted(group, key=lambda i: -len(examples[i].completion_ids))
    prompt = len(examples[order[0]].prompt_ids)
    room = max(1, tokens - prompt)
    total = sum(len(examples[i].completion_ids) for i in order)
    count = min(len(order), -(-total // room))
    while True:
        # The longest first, each to the part that has least: so parts are of a size.
        parts: list[list[int]] = [[] for _ in range(count)]
        sizes = [0] * count
        for i in order:
            least = sizes.index(min(sizes))
            parts[least].append(i)
            sizes[least] += len(examples[i].completion_ids)
        if max(sizes) <= room or count == len(order):
            break
        count += 1
    yield from (sorted(part) for part in parts if part)


def _filled(examples: Sequence[Example], parts: Sequence[list[int]], tokens: int) -> Iterator[list[int]]:
    """Parts, the largest first, put together to rows: each goes where it fits first (first-fit decreasing)."""
    rows: list[list[int]] = []
    used: dict[int, int] = {}  # tokens of the rows into which the smallest part would still go
    least = _size(examples, parts[-1]) if parts else 0
    for part in parts:
        size = _size(examples, part)
        at = next((at for at, taken in used.items() if taken + size <= tokens), None)
        if at is None:
            at = len(rows)
            rows.append([])
        rows[at] += part
        used[at] = used.get(at, 0) + size
        if used[at] + least > tokens:
            del used[at]
    for indices in rows:  # parts of one group may have met again
        first: dict[tuple[int, ...], int] = {}
        for index in indices:
            first.setdefault(examples[index].prompt_ids, len(first))
        yield sorted(indices, key=lambda index: first[examples[index].prompt_ids])


def _size(examples: Sequence[Example], part: Sequence[int]) -> int:
    return len(examples[part[0]].prompt_ids) + sum(len(examples[i].completion_ids) for i in part)


def _groups(
    examples: Sequence[Example], indices: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], list[tuple[int, Example]]]]:
    """(prompt, its (row, example)s), as they stand side by side."""
    start = 0
    while start < len(indices):
        prompt = examples[indices[start]].prompt_ids
        end = start
        while end < len(indices) and examples[indices[end]].prompt_ids == prompt:
            end += 1
        yield prompt, [(row, examples[indices[row]]) for row in range(start, end)]
        start = end
