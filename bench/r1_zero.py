"""R1-Zero in small: `thinksmith grpo r1-zero-tiny`, and what became of checking and backtracking on held-out problems.

Goals: accuracy, the share of attempts that check themselves and the share of those that go back rise, each by a paired
difference whose 95 % interval excludes zero; and they rise because they pay: in the first third of training, of eight
attempts at one problem by the same weights, those that check or go back are right more often than the others.

Habits are found by rules on words (`thinksmith.audit`). An attempt has worked if it computes anything; most of
tiny-base's attempts are bare guesses. What pays is looked at among all attempts and, as guesses are mostly wrong and
have no habits, also among those that worked. Who goes back does so because a first try failed, so among those that
worked this comparison is against the luckier. `--quick` is a few steps: it shows that the whole loop runs, and in what
time. Runs that were begun before (same folder) go on. As a contrast the same is done on equations, where a check hardly
ever changes the answer: told, without a goal.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _result import finish
from thinksmith.audit.segments import find_segments
from thinksmith.evaluate.report import read_metrics
from thinksmith.evaluate.statistics.stats import accuracy, paired
from thinksmith.recipes.load import load, to_toml
from thinksmith.records import Attempt
from thinksmith.store.store import Store
from thinksmith.training.rl.recipe import GRPORecipe

RECIPE = "r1-zero-tiny"
QUICK = {"steps": 5, "training.decay": 2, "training.save_every": 0, "evaluation.n": 60, "evaluation.every_n": 60}
RUNS: dict[str, dict[str, object]] = {
    "countdown": {},
    # Where a check hardly pays: a contrast, without a goal.
    "equations": {"problems": "equations", "evaluation.problems": "equations", "steps": 32, "training.decay": 8},
}
GAIN = 0.20
RISING = ["checks", "goes back"]
PAYING = "either against all others"
MOST_SECONDS = 50.0
Table = list[dict[str, float | str]]


@dataclass(frozen=True, slots=True)
class Read:
    """An attempt, read: was it right, did it compute, check itself, go back?"""

    problem: str
    correct: bool
    worked: bool
    check: bool
    backtrack: bool

    @property
    def habit(self) -> bool:
        return self.check or self.backtrack


Asked = Callable[[Read], bool]
HABITS: Mapping[str, Asked] = {
    "checks": lambda one: one.check,
    "goes back": lambda one: one.backtrack,
    "checks or goes back": lambda one: one.habit,
}


def read(attempt: Attempt) -> Read:
    kinds = {segment.kind for segment in find_segments(attempt.trace.thinking)}
    worked = not kinds.isdisjoint(("compute", "check", "backtrack"))
    return Read(attempt.problem.id, attempt.verdict.correct, worked, "check" in kinds, "backtrack" in kinds)


def measured(store: Store, stage: str, name: str) -> list[Read]:
    """The held-out attempts before or after training."""
    (run,) = [run for run in store.runs() if run.kind == "eval" and run.name.split()[-2:] == [stage, name]]
    return [read(each.attempt) for each in store.attempts(run.id)]


def trained_on(store: Store) -> list[Read]:
    """The training attempts in the order in which they were made; those of steps that were done again count once."""
    runs = [run for run in reversed(store.runs()) if run.kind == "grpo"]
    attempts = (each.attempt for run in runs for each in store.attempts(run.id))
    return [read(attempt) for attempt in {(a.problem.id, a.sample): a for a in attempts}.values()]


def shares(before: Sequence[Read], after: Sequence[Read]) -> Table:
    """Each share before and after, on the same problems, with the paired difference. All in 0..1."""
    rows: Table = []
    for name, asked in {"right": lambda one: one.correct, "worked": lambda one: one.worked, **HABITS}.items():
        was, now = ({one.problem: [float(asked(one))] for one in part} for part in (before, after))
        difference = paired(was, now)
        row: dict[str, float | str] = {"share": name, "before": accuracy(was).mean, "after": accuracy(now).mean}
        rows.append(rounded(row | {"gain": difference.mean, "low": difference.low, "high": difference.high}))
    return rows


def among_worked(before: Sequence[Read], after: Sequence[Read]) -> Table:
    """The habits' shares of the held-out attempts that worked: without what comes of working instead of guessing."""
    rows: Table = []
    for name, asked in HABITS.items():
        for when, part in (("before", before), ("after", after)):
            found = accuracy({one.problem: [float(asked(one))] for one in part if one.worked})
            row: dict[str, float | str] = {"habit": name, "when": when, "n": found.problems}
            rows.append(rounded(row | {"share": found.mean, "low": found.low, "high": found.high}))
    return rows


def given(before: Sequence[Read], after: Sequence[Read]) -> Table:
    """How often the held-out attempts are right that have a habit, against those that worked without, and guesses."""
    kinds: Mapping[str, Asked] = {
        **HABITS,
        "worked, neither": lambda one: one.worked and not one.habit,
        "guessed": lambda one: not one.worked,
    }
    rows: Table = []
    for when, part in (("before", before), ("after", after)):
        for name, asked in kinds.items():
            scores = {one.problem: [float(one.correct)] for one in part if asked(one)}
            row: dict[str, float | str] = {"when": when, "attempts that": name, "n": len(scores)}
            if scores:
                found = accuracy(scores)
                row |= {"right": found.mean, "low": found.low, "high": found.high}
            rows.append(rounded(row))
    return rows


def pays(attempts: Sequence[Read], of: Asked, against: Asked) -> dict[str, float]:
    """At the same problem, by the same weights: the share that is right of those attempts, less that of the others.

    The mean over the problems at which there were both, with its 95 % interval.
    """
    ours: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for one in attempts:
        if of(one):
            ours.setdefault(one.problem, []).append(float(one.correct))
        elif against(one):
            others.setdefault(one.problem, []).append(float(one.correct))
    if not ours.keys() & others.keys():
        return {"problems": 0}
    found = paired(others, ours)
    return {"problems": found.problems, "difference": found.mean, "low": found.low, "high": found.high}


def payment(attempts: Sequence[Read]) -> Table:
    """`pays` in the first, second and last third of training."""
    rows: Table = []
    comparisons: Mapping[str, tuple[Asked, Asked]] = {
        "working against guessing": (lambda one: one.worked, lambda one: True),
        "checking against all others": (lambda one: one.check, lambda one: True),
        "going back against all others": (lambda one: one.backtrack, lambda one: True),
        "either against all others": (lambda one: one.habit, lambda one: True),
        "checking against working without": (lambda one: one.check, lambda one: one.worked),
        "going back against working without": (lambda one: one.backtrack, lambda one: one.worked),
    }
    for name, (of, against) in comparisons.items():
        for third, when in enumerate(("first", "second", "last")):
            part = attempts[third * len(attempts) // 3 : (third + 1) * len(attempts) // 3]
            rows.append(rounded({"comparison": name, "third": when, **pays(part, of, against)}))
    return rows


def course(folder: Path, every: int) -> Table:
    """The run in a few rows: means of the training attempts over `every` steps, and the held-out accuracy after."""
    columns = ("accuracy", "check_share", "backtrack_share", "thinking_tokens", "truncated_share", "entropy")
    rows = read_metrics(folder / "metrics.jsonl")
    found: Table = []
    for first in range(0, len(rows), every):
        part = rows[first : first + every]
        row = {"to_step": part[-1]["step"], **{name: sum(each[name] for each in part) / len(part) for name in columns}}
        found.append(rounded(row | {"held_out": part[-1].get("held_out_accuracy", float("nan"))}))
    return [{name: value for name, value in row.items() if value == value} for row in found]


def rounded(row: Mapping[str, float | str]) -> dict[str, float | str]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def train(folder: Path, overrides: Mapping[str, object]) -> float:
    """Run the command, as a user does, with a store of its own; returns its seconds (0 if it had been run before)."""
    if (folder / "run" / "result.json").exists():
        return 0.0
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / f"{RECIPE}.toml"
    recipe.write_text(to_toml(load(RECIPE, GRPORecipe, overrides)), encoding="utf-8")
    command = [sys.executable, "-m", "thinksmith", "grpo", str(recipe), "--out", str(folder / "run")]
    began = time.perf_counter()
    environment = {**os.environ, "THINKSMITH_STORE": str(folder / "store.db")}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"the command ended with exit code {done.returncode}")
    return time.perf_counter() - began


def figures_of(folder: Path, every: int) -> dict[str, Any]:
    """All that is told of a run; tables are shown as well."""
    with Store.open(folder / "store.db") as store:
        before, after = (measured(store, stage, "run") for stage in ("before", "after"))
        attempts = trained_on(store)
    figures = {
        "held_out_problems": len(before),
        "training_attempts": len(attempts),
        "train_seconds": round(sum(row["seconds"] for row in read_metrics(folder / "run" / "metrics.jsonl")), 1),
        "shares": shares(before, after),
        "among_those_that_worked": among_worked(before, after),
        "right_given": given(before, after),
        "course": course(folder / "run", every),
        "what_pays": payment(attempts),
    }
    for name, value in figures.items():
        if isinstance(value, list):
            show(f"{folder.name}: {name}", value)
    return figures


def show(title: str, rows: Table) -> None:
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, under 50 s")
    parser.add_argument("--folder", type=Path, help="keep the runs here, and go on with those that are there")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="thinksmith-r1-zero-"))
    if options.quick:
        # A few steps cannot reach the goals of the whole; what they can show is that nothing is broken.
        seconds = train(folder / "countdown", QUICK)
        figures = {"countdown": figures_of(folder / "countdown", 1)}
        finish("r1_zero", figures, {"most_seconds": MOST_SECONDS}, seconds <= MOST_SECONDS)
        return
    for name, overrides in RUNS.items():
        train(folder / name, overrides)
    figures = {name: figures_of(folder / name, 8) for name in RUNS}
    goals = {"accuracy_gain": GAIN, "rises": RISING, "pays_in_first_third": PAYING}
    finish("r1_zero", figures, goals, holds(figures["countdown"]))


def holds(figures: Mapping[str, Table]) -> bool:
    gains = {row["share"]: row for row in figures["shares"]}
    first = next(row for row in figures["what_pays"] if row["comparison"] == PAYING and row["third"] == "first")
    right = gains["right"]
    rise = all(float(gains[name]["low"]) > 0 for name in RISING)
    return float(right["gain"]) >= GAIN and float(right["low"]) > 0 and rise and float(first.get("low", 0.0)) > 0


if __name__ == "__main__":
    main()
