"""A lesson tried: every arm with every seed, measured on the same problems, and compared problem by problem."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.special import stdtrit

from thinksmith.distill.collect.collect import collect
from thinksmith.distill.collect.goal import Goal
from thinksmith.distill.collect.teachers import open_teachers
from thinksmith.distill.lessons.arms import Trained, train_arm
from thinksmith.distill.lessons.recipe import LessonRecipe, check
from thinksmith.distill.sample import Sample
from thinksmith.engines import open_engine
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.evaluate.statistics.significance import holm
from thinksmith.evaluate.statistics.stats import Accuracy, Difference, Floats, accuracy, paired
from thinksmith.problems.load import load as load_problems
from thinksmith.records import Problem, Sampling
from thinksmith.store.store import Store
from thinksmith.training.rows import Metrics
from thinksmith.training.run_folder import open_folder, versions, write_json


@dataclass(frozen=True, slots=True)
class ArmResult:
    """An arm over all seeds. `seeds_S`: the accuracy of each. `accuracy` counts a problem's attempts by all seeds as
    one cluster. `flops` and `seconds` of training, means over seeds; `tokens` of an answer."""

    name: str
    accuracy: Accuracy
    seeds_S: tuple[float, ...]
    flops: float
    seconds: float
    tokens: float
    truncated: int
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Versus:
    """An arm less the first: `difference` is paired over problems, `seeds` (low, high) is the 95 % interval of the mean
    over seeds, paired by seed (Student); `p_holm`: of the first, for as many comparisons as there are."""

    arm: str
    difference: Difference
    seeds: tuple[float, float]
    p_holm: float

    @property
    def verdict(self) -> str:
        """In words: apart only where both intervals are on one side of 0."""
        for low, high in ((self.difference.low, self.seeds[0]), (-self.difference.high, -self.seeds[1])):
            if low > 0 and high > 0:
                return "better" if self.difference.mean > 0 else "worse"
        return "not told apart"


@dataclass(frozen=True, slots=True)
class Trial:
    lesson: LessonRecipe
    learnt: int
    arms: tuple[ArmResult, ...]
    versus: tuple[Versus, ...]


class Watcher(Protocol):
    """Who looks on."""

    def collecting(self, lesson: LessonRecipe) -> None: ...

    def arm(self, name: str, seed: int) -> None: ...

    def step(self, row: Metrics) -> None: ...

    def measured(self, name: str, seed: int, found: float) -> None: ...


def teach(lesson: LessonRecipe, folder: Path, store: Store, watcher: Watcher) -> Trial:
    """Do all of it in `folder`; called again with the same lesson it goes on where it was stopped. Raises UserError."""
    check(lesson)
    open_folder(folder, lesson, {"versions": versions()})
    samples = _traces(lesson, store, watcher)
    table = lesson.measure
    problems = load_problems(table.problems, table.n, split="test", seed=0)
    runs: dict[str, list[str]] = {name: [] for name in lesson.arms}
    costs: dict[str, list[Trained]] = {name: [] for name in lesson.arms}
    for seed in range(lesson.seeds):  # seed by seed: what was stopped half-way has whole seeds to compare
        done = {"": Trained(lesson.model)}
        for name, arm in lesson.arms.items():
            watcher.arm(name, seed)
            place = folder / f"seed-{seed}" / _plain(name)
            done[name] = train_arm(lesson, arm, seed, done[arm.after], samples, place, watcher.step)
            costs[name].append(done[name])
            run, found = _measure(lesson, name, seed, done[name].model, problems, store)
            runs[name].append(run)
            watcher.measured(name, seed, found)
    trial = trial_of(lesson, len(samples), runs, costs, store)
    write_json(folder / "result.json", as_json(trial))
    return trial


def _plain(name: str) -> str:
    """A folder's name."""
    return "".join(character if character.isalnum() else "-" for character in name)


def _traces(lesson: LessonRecipe, store: Store, watcher: Watcher) -> list[Sample]:
    """The teacher's correct traces; none where no arm learns from them. Raises UserError where there are none."""
    if not any(arm.how == "sft" for arm in lesson.arms.values()):
        return []
    watcher.collecting(lesson)
    table = lesson.traces
    problems = load_problems(table.problems, table.n, split="train", seed=0)
    sampling = Sampling(temperature=1.0, max_tokens=table.max_tokens)
    with open_teachers([table.teacher], lambda info: sampling) as teachers:
        run = collect(problems, teachers, goal=Goal("single", table.k), store=store, name=table.problems).run_id
    correct = [stored.attempt for stored in store.attempts(run) if stored.attempt.verdict.correct]
    if not correct:
        raise UserError(f"{table.teacher} solved none of {table.n} problems of {table.problems}: name another teacher")
    # Not in the order of storing, which is that of ending: a trial that was interrupted would learn in another order.
    return [Sample.of(attempt) for attempt in sorted(correct, key=lambda each: (each.problem.id, each.sample))]


def _measure(
    lesson: LessonRecipe, name: str, seed: int, model: str, problems: Sequence[Problem], store: Store
) -> tuple[str, float]:
    sampling = Sampling(temperature=1.0, max_tokens=lesson.measure.max_tokens, seed=seed)
    engine = open_engine(model)
    try:
        title = f"{lesson.title}: {name}, seed {seed}"
        run, summary = evaluate(problems, engine, sampling=sampling, store=store, name=title, reuse=True)
    finally:
        asyncio.run(engine.aclose())
    return run, summary.accuracy.mean


def trial_of(
    lesson: LessonRecipe,
    learnt: int,
    runs: dict[str, list[str]],
    costs: dict[str, list[Trained]],
    store: Store,
) -> Trial:
    """What the finished evaluations of all arms say."""
    scores = {name: [store.figures(run).scores() for run in each] for name, each in runs.items()}
    arms = []
    for name, by_seed in scores.items():
        joined = _joined(by_seed)
        figures = [store.figures(run) for run in runs[name]]
        arms.append(
            ArmResult(
                name,
                accuracy(joined),
                tuple(float(np.mean([each[0] for each in found.values()])) for found in by_seed),
                float(np.mean([each.flops for each in costs[name]])),
                float(np.mean([each.seconds for each in costs[name]])),
                float(np.mean([each.tokens_N.mean() for each in figures])),
                sum(int(each.of_status("truncated").sum()) for each in figures),
                tuple(runs[name]),
            )
        )
    first = next(arm for arm in arms if arm.name == lesson.first)
    others = [arm for arm in arms if arm.name != lesson.first]
    found = [paired(_joined(scores[first.name]), _joined(scores[arm.name])) for arm in others]
    versus = [
        Versus(arm.name, each, _over_seeds(np.subtract(arm.seeds_S, first.seeds_S)), p)
        for arm, each, p in zip(others, found, holm([each.p for each in found]), strict=True)
    ]
    return Trial(lesson, learnt, tuple(arms), tuple(versus))


def _joined(by_seed: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """A problem's scores of all seeds together."""
    return {name: [score for found in by_seed for score in found[name]] for name in by_seed[0]}


def _over_seeds(differences_S: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean of S paired differences (Student); all there is, -1..1, for a single one."""
    count = len(differences_S)
    if count < 2:
        return -1.0, 1.0
    mean, error = float(differences_S.mean()), float(differences_S.std(ddof=1)) / math.sqrt(count)
    reach = float(stdtrit(count - 1, 0.975)) * error
    return mean - reach, mean + reach


def as_json(trial: Trial) -> dict[str, object]:
    """All figures, for result.json."""
    return {
        "title": trial.lesson.title,
        "claim": trial.lesson.claim,
        "seeds": trial.lesson.seeds,
        "learnt": trial.learnt,
        "arms": [
            {
                "name": arm.name,
                "accuracy": arm.accuracy.mean,
                "low": arm.accuracy.low,
                "high": arm.accuracy.high,
                "problems": arm.accuracy.problems,
                "by_seed": list(arm.seeds_S),
                "flops": arm.flops,
                "seconds": arm.seconds,
                "tokens": arm.tokens,
                "truncated": arm.truncated,
                "runs": list(arm.runs),
            }
            for arm in trial.arms
        ],
        "versus": [
            {
                "arm": each.arm,
                "difference": each.difference.mean,
                "low": each.difference.low,
                "high": each.difference.high,
                "seeds_low": each.seeds[0],
                "seeds_high": each.seeds[1],
                "p_holm": each.p_holm,
                "verdict": each.verdict,
            }
            for each in trial.versus
        ],
    }
