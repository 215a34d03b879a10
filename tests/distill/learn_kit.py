"""Traces to learn from, as the families' own solvers write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

from thinksmith.distill.formats import write_samples
from thinksmith.distill.sample import Sample
from thinksmith.problems.families import write_solution
from thinksmith.problems.load import load
from thinksmith.problems.writer import Style

CLOCK = ("seconds", "train_seconds", "evaluate_seconds", "train_tokens_per_s", "memory_gb")


def traces(count: int, *, seed: int = 0, each: int = 1, wrong: int = 0) -> list[Sample]:
    """`each` right traces of `count` problems, and `wrong` ones whose answer is another."""
    found: list[Sample] = []
    for number, problem in enumerate(load("mixed", count, split="train", seed=seed)):
        rng = Random(f"{seed}:{number}")
        for _ in range(each + wrong):
            solved = write_solution(problem, rng, Style())
            found.append(
                Sample(
                    problem.id,
                    problem.messages,
                    solved.thinking,
                    solved.answer,
                    problem.answer,
                    problem.kind,
                    "correct",
                )
            )
        for at in range(len(found) - wrong, len(found)):
            found[at] = replace(found[at], answer=f"The answer is {rng.randrange(1000)}.", status="wrong")
    return found


def saved(samples: list[Sample], path: Path) -> Path:
    write_samples(samples, path)
    return path
