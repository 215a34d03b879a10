"""reasoning-gym as problem families: every gold answer verifies, and what drawing and judging cost.

For each data set that is served, problems of the training split are drawn; each gold answer in a box must be correct,
and a denial of it ("certainly not …") must be wrong. Seconds are on the wall; a draw's include the start of the
generator's process, about a second. Rules of our own judge in this process, the package's scorers in the sandbox.

    python bench/gym.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time

from _result import finish
from thinksmith.problems.gym import gym_problems
from thinksmith.problems.gym_audit import AUDIT, AUDITED, SERVED
from thinksmith.problems.spec import parse_spec
from thinksmith.records import Problem, Trace
from thinksmith.verify import verify
from thinksmith.verify.gym.scorer import SCORERS

GOALS = {"golds_wrong": 0, "denials_correct": 0, "scorer_median_ms_at_most": 500.0}
SLOW = ("futoshiki", "knight_swap", "zebra_puzzles", "puzzle24", "sudoku")
"""Left out of a quick run: their generators take a tenth of a second or more for a problem."""


def correct(problem: Problem, answer: str) -> tuple[bool, float]:
    """Whether a boxed answer is correct, and the seconds that the verdict took."""
    started = time.perf_counter()
    verdict = verify(problem, Trace(thinking="", answer=f"\\boxed{{{answer}}}"))
    return verdict.correct, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the families, 5 problems each")
    quick = parser.parse_args().quick
    own_rules = [name for name in SERVED if name not in (*SLOW, *SCORERS)]
    names = [*own_rules[::5], *SCORERS] if quick else [*SERVED]
    wanted = 5 if quick else 20
    wrong, paid = list[str](), list[str]()
    drawing, own, scored = dict[str, float](), list[float](), list[float]()
    for name in names:
        started = time.perf_counter()
        problems = gym_problems(parse_spec(f"gym/{name}"), wanted, split="train", seed=0, all_if_fewer=True)
        drawing[name] = time.perf_counter() - started
        for problem in problems:
            right, seconds = correct(problem, str(problem.answer))
            (scored if name in SCORERS else own).append(seconds)
            wrong += [] if right else [problem.id]
            paid += [problem.id] if correct(problem, f"certainly not {problem.answer}")[0] else []
        print(f"{name:<28} {len(problems):>3} problems in {drawing[name]:6.2f} s  rule {AUDIT[name].rule}", flush=True)
    slowest = sorted(drawing, key=lambda name: drawing[name])[-5:][::-1]
    figures = {
        "reasoning_gym": AUDITED,
        "families": len(names),
        "problems": len(own) + len(scored),
        "golds_wrong": wrong,
        "denials_correct": paid,
        "draw_median_s": round(statistics.median(drawing.values()), 2),
        "slowest_draws_s": {name: round(drawing[name], 1) for name in slowest},
        "own_rule_median_ms": round(1000 * statistics.median(own), 3),
        "scorer_median_ms": round(1000 * statistics.median(scored), 1),
    }
    holds = not wrong and not paid and figures["scorer_median_ms"] <= GOALS["scorer_median_ms_at_most"]
    finish("gym", figures, GOALS, holds)


if __name__ == "__main__":
    main()
