"""The families that the project owns, and how a model's trace and answer to one of their problems look."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from thinksmith.errors import UserError
from thinksmith.problems import arithmetic, chains, countdown, divisors, equations, products, words
from thinksmith.problems.family import Family
from thinksmith.problems.writer import Style, Writer
from thinksmith.records import Problem

FAMILIES: dict[str, Family] = {
    module.FAMILY.name: module.FAMILY for module in (arithmetic, chains, countdown, equations, divisors, words)
}
"""Those of `mixed`, of which the embedded models were made."""
EVERY: dict[str, Family] = {**FAMILIES, products.FAMILY.name: products.FAMILY}
"""Those that have a name."""
# Drawn from a family until this many candidates in a row were seen already: the family is then taken to be exhausted.
_PATIENCE = 20_000


@dataclass(frozen=True, slots=True)
class Solution:
    """A written solution: the thinking, the answer as a model would say it, and whether that answer is right."""

    thinking: str
    answer: str
    direct: bool
    slipped: bool


def stream(name: str, given: Mapping[str, str], *, split: str, seed: int) -> Iterator[Problem]:
    """Problems of one family and split without end, as drawn: the same one may come again."""
    family = EVERY[name]
    settings = family.settings(given)
    rng = Random(f"{seed}:{name}:{split}")
    while True:
        problem = family.generate(rng, settings)
        if problem.meta["split"] == split:
            yield problem


def sample(
    name: str, given: Mapping[str, str], n: int, *, split: str, seed: int, all_if_fewer: bool = False
) -> list[Problem]:
    """n different problems. Where the family has fewer at this difficulty: those, or a UserError."""
    chosen: dict[str, Problem] = {}
    misses = 0
    for problem in stream(name, given, split=split, seed=seed):
        if problem.id in chosen:
            misses += 1
        else:
            chosen[problem.id], misses = problem, 0
        if len(chosen) >= n:
            break
        if misses > _PATIENCE:
            if all_if_fewer and chosen:
                break
            raise UserError(
                f"{name} has only {len(chosen)} different {split} problems at this difficulty; ask for fewer than {n}"
            )
    return list(chosen.values())


def mixture(n: int, *, split: str, seed: int) -> list[Problem]:
    """n different problems, the families of `FAMILIES` in equal shares, interleaved."""
    share = -(-n // len(FAMILIES))
    columns = [sample(name, {}, share, split=split, seed=seed) for name in FAMILIES]
    return list(itertools.islice((p for row in zip(*columns, strict=True) for p in row), n))


def write_solution(problem: Problem, rng: Random, style: Style) -> Solution:
    """Let the symbolic solver think aloud in the given style."""
    family = EVERY[str(problem.meta["family"])]
    if rng.random() < style.direct:
        right = rng.random() < style.guess_right
        answer = str(problem.answer) if right else family.guess(problem, rng)
        return Solution(rng.choice(_HUNCHES).format(a=answer), _say(answer), True, not right)
    writer = Writer(rng, style)
    answer = family.solve(problem, writer)
    return Solution(writer.text, _say(answer), False, writer.slips > 0)


_HUNCHES = ("It should be {a}.", "I guess {a}.", "Looks like {a}.", "Quick answer: {a}.")


def _say(answer: str) -> str:
    return f"The answer is {answer}."
