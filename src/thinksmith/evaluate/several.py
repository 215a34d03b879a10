"""Several runs that differ in their seeds alone, taken as one evaluation with that many more attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thinksmith.errors import UserError
from thinksmith.evaluate.by import accuracy_among
from thinksmith.store.figures import Figures
from thinksmith.store.store import Run

if TYPE_CHECKING:
    from thinksmith.evaluate.report import Table


def same_but_seeds(runs: Sequence[Run]) -> None:
    """UserError where runs differ in more than their seeds: they are no one evaluation."""

    def identity(run: Run) -> Any:
        sampling = {key: value for key, value in run.config.get("sampling", {}).items() if key != "seed"}
        return run.kind, run.model, run.weights_hash, {**run.config, "sampling": sampling}

    for run in runs[1:]:
        if identity(run) != identity(runs[0]):
            raise UserError(
                f"{runs[0].id} and {run.id} differ in more than their seeds: compare them with thinksmith compare"
            )


def joined(each: Sequence[Figures]) -> Figures:
    """The attempts of all runs as those of one: sample numbers go on from run to run."""
    if len(each) == 1:
        return each[0]
    problems = {problem.id: problem for figures in each for problem in figures.problems}
    answers = {answer: 0 for figures in each for answer in figures.answers}
    place = {name: at for at, name in enumerate(sorted(problems))}
    answers = {answer: at for at, answer in enumerate(answers)}
    columns: dict[str, list[Any]] = {name: [] for name in Figures.__dataclass_fields__ if name.endswith("_N")}
    begin = 0
    for figures in each:
        problem_P = np.array([place[problem.id] for problem in figures.problems], dtype=np.int64)
        answer_A = np.array([*(answers[answer] for answer in figures.answers), -1], dtype=np.int64)  # -1 is the last
        for name, parts in columns.items():
            parts.append(getattr(figures, name))
        columns["problem_N"][-1] = problem_P[figures.problem_N]
        columns["answer_N"][-1] = answer_A[figures.answer_N]
        columns["sample_N"][-1] = figures.sample_N + begin
        begin += int(figures.sample_N.max(initial=-1)) + 1
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.lexsort((whole["sample_N"], whole["problem_N"]))
    sorted_columns: dict[str, Any] = {name: values[order] for name, values in whole.items()}
    return replace(each[0], problems=tuple(problems[name] for name in place), answers=tuple(answers), **sorted_columns)


def spread(accuracies: Sequence[float]) -> float:
    """The standard deviation between the seeds (n - 1 in the denominator), 0..1."""
    return float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0


def seed_table(runs: Sequence[Run], each: Sequence[Figures]) -> tuple[Table, ...]:
    """The accuracy of each seed and their spread, as a table of the report; none for one run."""
    from thinksmith.evaluate.report import Table

    if len(runs) < 2:
        return ()
    found = [accuracy_among(figures) for figures in each]
    rows = tuple(
        (
            str(run.config.get("sampling", {}).get("seed", "–")),
            f"{value.mean:.1%}",
            f"[{value.low:.1%}, {value.high:.1%}]",
            run.id,
        )
        for run, value in zip(runs, found, strict=True)
        if value
    )
    apart = spread([value.mean for value in found if value])
    return (
        Table(
            "By seed",
            ("seed", "accuracy", "95 % interval", "run"),
            rows,
            f"between seeds: ± {100 * apart:.1f} points (standard deviation)",
        ),
    )
