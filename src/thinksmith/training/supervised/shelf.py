"""Many examples in little memory: four bytes a token, where a tuple of Python's numbers takes about forty."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import overload

from thinksmith.training.batches import Example


class Shelf(Sequence[Example]):
    """Each example is put together when it is asked for."""

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        self._ids = array("i")
        self._ends = array("q", [0])  # where each example ends, which is where the next one begins
        self._prompts = array("i")  # how many of its tokens are the prompt's
        self._given = array("i")  # positions that are not learnt, of all examples
        self._given_ends = array("q", [0])
        for example in examples:
            self.add(example)

    def add(self, example: Example) -> None:
        self._ids.extend(example.prompt_ids)
        self._ids.extend(example.completion_ids)
        self._ends.append(len(self._ids))
        self._prompts.append(len(example.prompt_ids))
        self._given.extend(example.given)
        self._given_ends.append(len(self._given))

    @property
    def sizes(self) -> list[int]:
        """Tokens of each."""
        return [end - start for start, end in pairwise(self._ends)]

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} examples, and none is number {index}")
        start, end = self._ends[place], self._ends[place + 1]
        middle = start + self._prompts[place]
        given = self._given[self._given_ends[place] : self._given_ends[place + 1]]
        return Example(tuple(self._ids[start:middle]), tuple(self._ids[middle:end]), tuple(given))
