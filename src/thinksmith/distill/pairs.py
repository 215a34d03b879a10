"""Pairs for DPO: of one problem a trace that is right and one that is wrong, after the same prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from thinksmith.distill.examples import Made
from thinksmith.distill.sample import Sample
from thinksmith.training.batches import Example
from thinksmith.training.supervised.dpo import Pair

UNJUDGED = "never judged"
OTHER = "neither right nor wrong"
ALONE = "without a counterpart"
MOST = 10_000  # pairs of one problem that are looked at


@dataclass(frozen=True, slots=True)
class Paired:
    """`pairs`, and of which problem each is. `dropped`: samples that are in none, by reason."""

    pairs: tuple[Pair, ...]
    problems: tuple[str, ...]
    dropped: Mapping[str, int]


def pairs_of(made: Made, wrong: Sequence[str], most: int, seed: int) -> Paired:
    """At most `most` different pairs of each problem, drawn by the seed and the problem alone. `wrong`: the statuses of
    traces that are to be avoided."""
    by_prompt: dict[tuple[str, tuple[int, ...]], tuple[list[Example], list[Example]]] = {}
    dropped = dict(made.dropped)

    def drop(reason: str, count: int = 1) -> None:
        if count:
            dropped[reason] = dropped.get(reason, 0) + count

    for sample, example in zip(made.samples, made.examples, strict=True):
        side = _side(sample, wrong)
        if side is None:
            drop(OTHER if sample.status else UNJUDGED)
            continue
        both = by_prompt.setdefault((sample.id, example.prompt_ids), ([], []))
        both[side].append(example)
    pairs: list[Pair] = []
    problems: list[str] = []
    for (problem, _), (rights, wrongs) in by_prompt.items():
        if not rights or not wrongs:
            drop(ALONE, len(rights) + len(wrongs))
            continue
        chosen = _drawn(rights, wrongs, most, Random(f"{seed}:{problem}"))
        pairs += chosen
        problems += [problem] * len(chosen)
    return Paired(tuple(pairs), tuple(problems), dropped)


def _side(sample: Sample, wrong: Sequence[str]) -> int | None:
    """0 for a right one, 1 for a wrong one."""
    if sample.status == "correct":
        return 0
    return 1 if sample.status in wrong else None


def _drawn(rights: Sequence[Example], wrongs: Sequence[Example], most: int, rng: Random) -> list[Pair]:
    """Different pairs; traces are used as evenly as can be, so none comes twice before all have come once."""
    rights, wrongs = rng.sample(rights, len(rights)), rng.sample(wrongs, len(wrongs))
    if len(rights) * len(wrongs) > MOST:
        return [
            Pair(rights[i % len(rights)], wrongs[i % len(wrongs)])
            for i in range(min(most, max(len(rights), len(wrongs))))
        ]
    every = [(i, j) for i, j in product(range(len(rights)), range(len(wrongs))) if rights[i] != wrongs[j]]
    used_right, used_wrong = [0] * len(rights), [0] * len(wrongs)
    found: list[Pair] = []
    while every and len(found) < most:
        best = min(every, key=lambda pair: (used_right[pair[0]] + used_wrong[pair[1]], pair))
        every.remove(best)
        used_right[best[0]] += 1
        used_wrong[best[1]] += 1
        found.append(Pair(rights[best[0]], wrongs[best[1]]))
    return found
