"""A whole GRPO run: measure, train, measure again on the same problems, compare, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from thinksmith.audit.audit import audit
from thinksmith.engines.contract import Engine
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.evaluate.report import read_metrics, render_report, training_report
from thinksmith.evaluate.stats import Difference, paired
from thinksmith.evaluate.summary import Summary, scores_by_problem
from thinksmith.policy.load import load_policy
from thinksmith.problems.load import load as load_problems
from thinksmith.records import Attempt, Problem, Sampling
from thinksmith.store.store import Store, config_hash
from thinksmith.training.fits import check_fits, grpo_training
from thinksmith.training.rl.grpo import Metrics, train
from thinksmith.training.rl.recipe import EvaluationTable, GRPORecipe
from thinksmith.training.rl.rewards import combine
from thinksmith.training.run_folder import open_folder, versions, write_json
from thinksmith.verify import require

Stage = Literal["before", "training", "after"]


class Watcher(Protocol):
    """Who looks on while a run goes: the command line draws, a script may ignore it all."""

    def stage(self, stage: Stage, total: int) -> None: ...

    def attempt(self, attempt: Attempt) -> None: ...

    def step(self, metrics: Metrics) -> None: ...


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. `solved_now`: attempts (before, after) at problems that failed before and are solved now."""

    folder: Path
    run_id: str
    before: Summary
    after: Summary
    difference: Difference
    solved_now: tuple[tuple[Attempt, Attempt], ...]
    train_seconds: float
    seconds: float


def run(recipe: GRPORecipe, folder: Path, store: Store, watcher: Watcher) -> Result:
    """Do all of it in `folder`; called again with the same recipe it goes on where it was stopped."""
    began = time.perf_counter()
    # What the recipe may have wrong is looked at before anything is written or computed.
    combine(recipe.rewards)
    held_out, pool = _problems(recipe)
    for kind in {problem.kind for problem in (*held_out, *pool)}:
        require(kind)
    policy = load_policy(recipe.model)
    check_fits(policy, grpo_training(policy, recipe, pool))
    engine = LocalEngine(policy)
    base_hash = policy.weights_hash()
    open_folder(folder, recipe, {"model": policy.name, "weights_hash": base_hash, "versions": versions()})

    before = _measure("before", held_out, engine, recipe, folder, store, watcher)
    watcher.stage("training", recipe.steps)
    training_began = time.perf_counter()
    config = {"folder": folder.name, "recipe": recipe.model_dump(mode="json")}
    identity = ("grpo", recipe.problems, policy.name, base_hash, config)
    unfinished = store.unfinished("grpo", config_hash(*identity))
    run_id = unfinished.id if unfinished else store.start_run(*identity)
    train(
        policy,
        engine,
        pool,
        recipe,
        folder,
        on_step=watcher.step,
        on_attempts=partial(store.add, run_id),
    )
    train_seconds = time.perf_counter() - training_began
    after = _measure("after", held_out, engine, recipe, folder, store, watcher)

    difference = paired(scores_by_problem(before.attempts), scores_by_problem(after.attempts))
    solved_now = _solved_now(before.attempts, after.attempts)
    store.finish_run(run_id, {"before": asdict(before.summary), "after": asdict(after.summary)})
    result = Result(
        folder,
        run_id,
        before.summary,
        after.summary,
        difference,
        solved_now,
        train_seconds,
        time.perf_counter() - began,
    )
    _write(result, recipe)
    return result


@dataclass(frozen=True, slots=True)
class _Measured:
    summary: Summary
    attempts: tuple[Attempt, ...]


def _problems(recipe: GRPORecipe) -> tuple[list[Problem], list[Problem]]:
    """The held-out problems and the training pool; raises UserError where a problem is in both."""
    table = recipe.evaluation
    held_out = load_problems(table.problems, table.n, split="test", seed=recipe.seed)
    pool = load_problems(recipe.problems, recipe.rollout.pool, split="train", seed=recipe.seed, all_if_fewer=True)
    shared = {problem.id for problem in held_out} & {problem.id for problem in pool}
    if shared:
        raise UserError(f"{len(shared)} problems are both trained and measured ({min(shared)}); name other splits")
    return held_out, pool


def _measure(
    stage: Literal["before", "after"],
    problems: Sequence[Problem],
    engine: Engine,
    recipe: GRPORecipe,
    folder: Path,
    store: Store,
    watcher: Watcher,
) -> _Measured:
    table: EvaluationTable = recipe.evaluation
    watcher.stage(stage, len(problems))
    attempts: list[Attempt] = []

    def keep(attempt: Attempt) -> None:
        attempts.append(attempt)
        watcher.attempt(attempt)

    sampling = Sampling(temperature=table.temperature, max_tokens=table.max_tokens, seed=recipe.seed)
    name = f"{table.problems} {stage} {folder.name}"
    # A run that is resumed after its first measurement does not make that again.
    resumed = stage == "before" and (folder / "metrics.jsonl").exists()
    _, summary = evaluate(problems, engine, sampling=sampling, store=store, name=name, reuse=resumed, on_attempt=keep)
    return _Measured(summary, tuple(attempts))


def _solved_now(before: Sequence[Attempt], after: Sequence[Attempt]) -> tuple[tuple[Attempt, Attempt], ...]:
    """Pairs of attempts at problems failed before and solved now, the most telling first: a trace that checks or goes
    back, and that one can read at a glance."""
    old = {attempt.problem.id: attempt for attempt in before}
    pairs = [(old[new.problem.id], new) for new in after if new.verdict.correct]
    pairs = [(was, new) for was, new in pairs if not was.verdict.correct]

    def telling(pair: tuple[Attempt, Attempt]) -> tuple[bool, bool, int, str]:
        was, new = pair
        found = audit(new.trace, new.problem)
        clean = found.first_false is None or found.has_backtrack
        habit = clean and (found.has_check or found.has_backtrack)
        return (not habit, was.verdict.status != "wrong", abs(new.trace.thinking_tokens - 60), new.problem.id)

    return tuple(sorted(pairs, key=telling))


def _write(result: Result, recipe: GRPORecipe) -> None:
    write_json(
        result.folder / "result.json",
        {
            "run": result.run_id,
            "before": asdict(result.before),
            "after": asdict(result.after),
            "difference": asdict(result.difference),
            "train_seconds": result.train_seconds,
            "seconds": result.seconds,
        },
    )
    report = training_report(
        read_metrics(result.folder / "metrics.jsonl"),
        title=f"{recipe.model} on {recipe.problems}: GRPO",
        model=recipe.model,
        before=result.before,
        after=result.after,
        difference=result.difference,
        recipe=recipe.model_dump(),
        versions=versions(),
        examples=result.solved_now[:3],
    )
    render_report(result.folder / "report.html", report)
