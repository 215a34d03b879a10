"""A whole distillation: collect a teacher's traces, curate them, teach the student, compare who can do what now.

All lies in one folder and goes on where it was stopped: what was collected is in the store, curation is repeated to the
same set, learning resumes from its last checkpoint, and evaluations at the attempt after the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from thinksmith.distill.collect.budget import Budget
from thinksmith.distill.collect.collect import Collected, collect
from thinksmith.distill.collect.goal import Goal
from thinksmith.distill.collect.teachers import named, open_teachers
from thinksmith.distill.collect.work import Watcher as Collecting
from thinksmith.distill.curate.curate import Curated, Progress, curate
from thinksmith.distill.curate.writing import Output
from thinksmith.distill.learn import Learnt, sft
from thinksmith.distill.learn import Watcher as Learning
from thinksmith.distill.recipe import DistillRecipe, check, lesson_of
from thinksmith.engines import open_engine
from thinksmith.engines.contract import Engine, EngineInfo
from thinksmith.errors import UserError
from thinksmith.evaluate.cards import advised
from thinksmith.evaluate.comparing.compare import Comparison, compare
from thinksmith.evaluate.comparing.compare_report import write_report
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.policy.fresh import fresh_policy
from thinksmith.problems.instruct import instructed
from thinksmith.problems.load import load_checked
from thinksmith.records import Attempt, Problem, Sampling
from thinksmith.store.store import Store
from thinksmith.training.model_folder import save_model, trained_in
from thinksmith.training.run_folder import open_folder, versions, write_json


class Watcher(Protocol):
    """Who looks on. Each step's own watcher is asked for as the step begins."""

    def collecting(self, problems: int) -> Collecting: ...

    def curating(self) -> Progress: ...

    def learning(self) -> Learning: ...

    def measuring(self, who: str, attempts: int) -> Callable[[Attempt], None]: ...


@dataclass(frozen=True, slots=True)
class Distilled:
    """What came of it. `runs`: the evaluations by who was measured ("student before", "student", a teacher's name);
    `comparison` is of the student with each of the others."""

    folder: Path
    collected: Collected
    curated: Curated
    learnt: Learnt
    runs: dict[str, str]
    comparison: Comparison


def distill(recipe: DistillRecipe, folder: Path, store: Store, watcher: Watcher) -> Distilled:
    """Do all of it in `folder`; called again with the same recipe it goes on where it was stopped.

    Raises UserError for a recipe that cannot be, whatever a step raises, and where the budget ended before any problem
    had what was wanted (a larger one goes on). Ctrl-C raises KeyboardInterrupt.
    """
    check(recipe)
    goal = Goal(recipe.collect.strategy, recipe.collect.k, recipe.collect.most)
    budget = Budget.parse(recipe.collect.budget) if recipe.collect.budget else None
    asked = _problems(recipe, recipe.problems, recipe.n or None, "train")
    held_out = _problems(recipe, recipe.compare.problems or recipe.problems, recipe.compare.n, "test")
    _apart(asked, held_out)
    open_folder(folder, recipe, {"versions": versions()})
    student = _student(recipe, folder)
    with open_teachers(recipe.collect.teachers, _sampling_of(recipe)) as teachers:
        collected = collect(
            asked,
            teachers,
            goal=goal,
            store=store,
            name=recipe.problems,
            budget=budget,
            watcher=watcher.collecting(len(asked)),
        )
    if collected.stopped == "budget" and not collected.reached:
        raise UserError(f"the budget of {budget} ended before any problem was done: set a larger collect.budget")
    options = recipe.curate.model_copy(update={"seed": recipe.curate.seed or recipe.seed})
    curated = curate(
        [collected.run_id], options, Output(folder / "set"), store=store.where, on_progress=watcher.curating()
    )
    learnt = sft(lesson_of(recipe, student, str(folder / "set")), folder / "sft", watcher.learning())
    runs = _measured(recipe, student, learnt, held_out, store, watcher)
    comparison = compare(store, [runs["student"], *(run for name, run in runs.items() if name != "student")])
    write_report(folder / "report.html", comparison, store)
    write_json(folder / "result.json", _result(collected, curated, learnt, runs, comparison))
    return Distilled(folder, collected, curated, learnt, runs, comparison)


def _problems(recipe: DistillRecipe, spec: str, n: int | None, split: str) -> tuple[Problem, ...]:
    loaded = load_checked(spec, n, split=split, seed=recipe.seed)
    return tuple(instructed(loaded.problems, recipe.instruction))


def _apart(asked: Sequence[Problem], held_out: Sequence[Problem]) -> None:
    """UserError where a problem is both taught and measured."""
    texts = {problem.text for problem in asked}
    both = [problem.id for problem in held_out if problem.text in texts]
    if both:
        raise UserError(
            f"{len(both)} problems are both taught and measured ({both[0]}): name others in compare.problems"
        )


def _student(recipe: DistillRecipe, folder: Path) -> str:
    """The student's name; a fresh one is made in the folder first."""
    if not recipe.scratch:
        return recipe.student
    made = folder / "student"
    if not (made / "config.json").exists():
        policy = fresh_policy(recipe.student, recipe.scratch, recipe.seed)
        save_model(made, policy.model, policy.tokenizer)
    return str(made)


def _sampling_of(recipe: DistillRecipe) -> Callable[[EngineInfo], Sampling]:
    """Of each teacher: as its makers advise, but for what the recipe says."""
    table = recipe.collect
    bounds = {"max_tokens": table.max_tokens, "max_thinking_tokens": table.think, "seed": recipe.seed}
    return lambda info: advised(info, {"temperature": table.temperature, **bounds})


def _measured(
    recipe: DistillRecipe, student: str, learnt: Learnt, problems: Sequence[Problem], store: Store, watcher: Watcher
) -> dict[str, str]:
    """The runs that measure the student as it is now, as it was, and the teachers. One that is there is taken."""
    table = recipe.compare
    who = {"student": str(trained_in(learnt.folder)), "student before": student}
    if table.teachers:
        who |= {name: name for name, _ in map(named, recipe.collect.teachers)}
    runs = {}
    for name, model in who.items():
        with _opened(model) as engine:
            given = {"temperature": table.temperature, "max_tokens": table.max_tokens, "seed": recipe.seed}
            runs[name], _ = evaluate(
                problems,
                engine,
                sampling=advised(engine.info, given),
                store=store,
                name=f"{table.problems or recipe.problems}, {name}",
                samples=table.samples,
                reuse=True,
                on_attempt=watcher.measuring(name, len(problems) * table.samples),
            )
    return runs


@contextmanager
def _opened(model: str) -> Iterator[Engine]:
    engine = open_engine(model)
    try:
        yield engine
    finally:
        asyncio.run(engine.aclose())


def _result(
    collected: Collected, curated: Curated, learnt: Learnt, runs: dict[str, str], comparison: Comparison
) -> dict[str, object]:
    accuracy = {side.run.id: side.accuracy for side in comparison.sides}
    return {
        "collected": collected.run_id,
        "set": curated.hash,
        "learnt": learnt.samples,
        "runs": runs,
        "accuracy": {
            name: {"mean": accuracy[run].mean, "low": accuracy[run].low, "high": accuracy[run].high}
            for name, run in runs.items()
        },
    }
