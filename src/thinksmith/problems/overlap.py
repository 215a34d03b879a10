"""Which problems of an evaluation stand in a text: what would be learnt by heart instead of being learnt.

As in the decontamination of GPT-3 (Brown et al. 2020, arXiv:2005.14165, appendix C) and Open-R1: a problem of at least
`n` words (8) is in a question that shares any n words on end with it, after normalisation (`problems.wording`; signs do
not count). A shorter one is in a question that says the same as a whole, signs of mathematics included. What a model
wrote is long and shares some phrase with everything, so there a problem, or a gold answer of at least n words (a worked
solution), must stand with half of its n-grams. A short gold answer, such as 42, tells nothing alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thinksmith.problems.wording import Hashes, Wording, grams
from thinksmith.records import Problem

_BITS = 22  # of the table that tells most grams of a text at once from those that are looked for
_TOLD = 12  # words of an overlap that are told


@dataclass(frozen=True, slots=True)
class Hit:
    """Problem `id` of `evaluation` stands in a text: which `part` of it, in the `question` or in the `trace`.

    `share` (0..1) of its n-grams were found, 1 for a whole text. `words` are the first that are shared.
    """

    evaluation: str
    id: str
    part: Literal["problem", "gold"]
    where: Literal["question", "trace"]
    share: float
    words: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A text that is looked for, and how many different grams it has."""

    evaluation: str
    id: str
    part: Literal["problem", "gold"]
    grams: int


class Overlap:
    """The problems of evaluations, to be looked for. It can be pickled, for other processes."""

    def __init__(self, evaluations: Mapping[str, Iterable[Problem]], *, n: int = 8, share: float = 0.5) -> None:
        self.n, self.share = n, share
        self._entries: list[_Entry] = []
        self._wholes: dict[int, list[int]] = {}
        found: list[tuple[Hashes, int]] = []
        for evaluation, problems in evaluations.items():
            for problem in problems:
                found += self._add(evaluation, problem)
        grams_G = np.concatenate([each for each, _ in found]) if found else np.zeros(0, dtype=np.uint64)
        owner_G = np.repeat([owner for _, owner in found], [len(each) for each, _ in found]).astype(np.int64)
        order = np.argsort(grams_G, kind="stable")
        self._grams_G, self._owner_G = grams_G[order], owner_G[order]
        self._table = np.zeros(1 << _BITS, dtype=np.bool_)
        self._table[_places(grams_G)] = True

    def __len__(self) -> int:
        """How many problems are looked for."""
        return sum(entry.part == "problem" for entry in self._entries)

    def _add(self, evaluation: str, problem: Problem) -> list[tuple[Hashes, int]]:
        found = []
        texts = [message["content"] for message in problem.messages if message["role"] != "system"]
        bare = problem.meta.get("prompt")  # without the frame in which it is asked
        asked = Wording.of(bare if isinstance(bare, str) else "\n".join(texts))
        own_G = np.unique(grams(asked.words_alone, self.n))
        self._entries.append(_Entry(evaluation, problem.id, "problem", len(own_G)))
        if len(own_G):
            found.append((own_G, len(self._entries) - 1))
        elif asked.whole:
            self._wholes.setdefault(asked.whole, []).append(len(self._entries) - 1)
        for gold in (problem.answer, problem.meta.get("solution")):
            own_G = np.unique(grams(Wording.of(gold).words_alone, self.n)) if isinstance(gold, str) else own_G[:0]
            if len(own_G):
                self._entries.append(_Entry(evaluation, problem.id, "gold", len(own_G)))
                found.append((own_G, len(self._entries) - 1))
        return found

    def hits(self, question: str, wholes: Sequence[str], said: Wording) -> list[Hit]:
        """Every problem that stands in a sample: in its `question`, as one of the texts `wholes`, or in what the model
        `said`. Each problem once a part and place."""
        if not self._entries:
            return []
        found: dict[tuple[int, str], Hit] = {}
        asked = Wording.of(question)
        for at, (share, words) in self._found(asked).items():
            if self._entries[at].part == "problem":
                found[at, "question"] = self._hit(at, "question", share, words)
        for text in map(Wording.of, wholes if self._wholes else ()):
            for at in self._wholes.get(text.whole, ()):
                found[at, "question"] = self._hit(at, "question", 1.0, text.words)
        for at, (share, words) in self._found(said).items():
            if share >= self.share:
                found[at, "trace"] = self._hit(at, "trace", share, words)
        return list(found.values())

    def _found(self, text: Wording) -> dict[int, tuple[float, Sequence[str]]]:
        """For each entry with a gram in the text: the share of its grams, and the words of the first that is shared."""
        own_G = grams(text.words_alone, self.n)
        maybe = np.flatnonzero(self._table[_places(own_G)])
        if not len(maybe):
            return {}
        grams_M, first_M = np.unique(own_G[maybe], return_index=True)
        low_M = np.searchsorted(self._grams_G, grams_M, "left")
        high_M = np.searchsorted(self._grams_G, grams_M, "right")
        count: dict[int, int] = {}
        first: dict[int, int] = {}
        for low, high, place in zip(low_M.tolist(), high_M.tolist(), maybe[first_M].tolist(), strict=True):
            for at in self._owner_G[low:high].tolist():
                count[at] = count.get(at, 0) + 1
                first[at] = min(first.get(at, place), place)
        only = [word for word in text.words if word[0].isalnum() or word[0] == "_"] if count else []
        return {at: (count[at] / self._entries[at].grams, only[first[at] : first[at] + self.n]) for at in sorted(count)}

    def _hit(self, at: int, where: Literal["question", "trace"], share: float, words: Sequence[str]) -> Hit:
        entry = self._entries[at]
        return Hit(entry.evaluation, entry.id, entry.part, where, round(share, 4), " ".join(words[:_TOLD]))


def _places(grams_G: Hashes) -> NDArray[np.int64]:
    return (grams_G >> np.uint64(64 - _BITS)).astype(np.int64)
