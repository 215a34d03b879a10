"""A whole GRPO run: measure, train, measure again on the same problems, compare, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from thinksmith.agent.trained import write_manner
from thinksmith.audit.audit import audit
from thinksmith.engines.contract import Engine
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import SINGLE, evaluate
from thinksmith.evaluate.held_out import held_out_accuracy
from thinksmith.evaluate.statistics.stats import Difference, paired
from thinksmith.evaluate.summary import Summary, scores_by_problem
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.problems.instruct import instructed
from thinksmith.problems.load import load as load_problems
from thinksmith.records import Attempt, Problem, Sampling
from thinksmith.store.store import Store, config_hash
from thinksmith.training.adapt import adapt, check_precision
from thinksmith.training.alarms import Alarm
from thinksmith.training.model_folder import trained_in
from thinksmith.training.ranks import ALONE, Ranks
from thinksmith.training.rl.calling import Calling, calling
from thinksmith.training.rl.check import check
from thinksmith.training.rl.episodes import named, trained_as
from thinksmith.training.rl.grpo import train
from thinksmith.training.rl.memory import room_for
from thinksmith.training.rl.recipe import EvaluationTable, GRPORecipe
from thinksmith.training.rl.rewards import scorer
from thinksmith.training.rl.room import check_lengths
from thinksmith.training.rl.warmup import warm_up
from thinksmith.training.rows import Metrics
from thinksmith.training.run_folder import open_folder, read_facts, read_json, versions, write_json
from thinksmith.training.sharding import check_sharding, shard, whole
from thinksmith.training.track import check_trackers, open_trackers

Stage = Literal["before", "warmup", "warmed", "training", "after"]
Measured = Literal["before", "warmed", "after"]


class Watcher(Protocol):
    """Who looks on while a run goes: the command line draws, a script may ignore it all."""

    def stage(self, stage: Stage, total: int) -> None: ...

    def attempt(self, attempt: Attempt) -> None: ...

    def warming(self, step: int, loss: float) -> None: ...

    def step(self, metrics: Metrics) -> None: ...

    def alarm(self, alarm: Alarm) -> None: ...


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. `solved_now`: attempts (before, after) at problems that failed before and are solved now.
    `warmed`: between warm-up and GRPO, where there was one; `calls`: when tools were called, by the measurement, where
    the problems say which need one."""

    folder: Path
    run_id: str
    before: Summary
    after: Summary
    difference: Difference
    solved_now: tuple[tuple[Attempt, Attempt], ...]
    train_seconds: float
    seconds: float
    warmed: Summary | None = None
    calls: Mapping[Measured, Calling] = field(default_factory=dict)


def run(recipe: GRPORecipe, folder: Path, store: Store, watcher: Watcher, ranks: Ranks = ALONE) -> Result:
    """Do all of it in `folder`; called again with the same recipe it goes on where it was stopped.

    Several `ranks` train together, each on its own prompts; the first measures and writes, and the others wait for it.
    """
    began = time.perf_counter()
    # What the recipe may have wrong is looked at before anything is written or computed.
    scorer(recipe.rewards, max_tokens=recipe.rollout.max_tokens)
    check_trackers(recipe.track)
    if recipe.warmup and ranks.size > 1:
        raise UserError("[warmup] is done by one process: run it alone first, or leave [warmup] out")
    check_sharding(recipe.training, ranks, copies=bool(recipe.training.beta) and recipe.training.tuning == "full")
    held_out, pool = _problems(recipe)
    check(recipe, pool, held_out)
    policy = load_policy(recipe.model)
    base_hash = policy.weights_hash()
    adapt(policy, recipe)
    check_lengths(recipe, policy, pool, held_out)
    check_precision(recipe, policy)
    if recipe.training.sharding == "full":
        shard(policy, ranks)
    micro_tokens = min(ranks.gather(_room(policy, recipe, pool)))
    engine = LocalEngine(policy)
    facts = {"model": policy.name, "weights_hash": base_hash, "versions": versions(), "micro_tokens": micro_tokens}
    ranks.by_first(partial(open_folder, folder, recipe, facts))
    micro_tokens = int(read_facts(folder).get("micro_tokens", micro_tokens))  # a resumed run cuts as it did

    measure = partial(_measure, engine=engine, recipe=recipe, folder=folder, store=store, watcher=watcher)
    with whole(policy.model):
        measured: dict[Measured, _Measured] = {"before": ranks.by_first(partial(measure, "before", held_out))}
    if recipe.warmup:
        watcher.stage("warmup", recipe.warmup.steps)
        warm_up(policy, pool, recipe, folder / "warmup", on_step=watcher.warming)
        measured["warmed"] = measure("warmed", held_out)
    if ranks.first:
        watcher.stage("training", recipe.steps)
    training_began = time.perf_counter()
    config = {"folder": folder.name, "recipe": recipe.model_dump(mode="json")}
    identity = ("grpo", recipe.problems, policy.name, base_hash, config)
    run_id = ranks.by_first(partial(_run_id, store, folder, identity))
    with open_trackers(
        recipe.track if ranks.first else (), folder, recipe.model_dump(mode="json"), folder.name
    ) as trackers:

        def on_step(metrics: Metrics) -> None:
            watcher.step(metrics)
            trackers.log(int(metrics["step"]), metrics)

        train(
            policy,
            engine,
            pool,
            recipe,
            folder,
            on_step=on_step,
            on_attempts=partial(store.add, run_id),
            on_alarm=watcher.alarm,
            measure=partial(_held_out, held_out[: recipe.evaluation.every_n], engine, recipe, folder, store),
            micro_tokens=micro_tokens,
            ranks=ranks,
        )
    if recipe.agent:
        ranks.by_first(partial(write_manner, trained_in(folder), trained_as(recipe.agent)))
    train_seconds = time.perf_counter() - training_began
    with whole(policy.model):
        after = ranks.by_first(partial(measure, "after", held_out))
    before, measured = measured["before"], {**measured, "after": after}

    difference = paired(scores_by_problem(before.attempts), scores_by_problem(after.attempts))
    solved_now = _solved_now(before.attempts, after.attempts)
    result = Result(
        folder,
        run_id,
        before.summary,
        after.summary,
        difference,
        solved_now,
        train_seconds,
        time.perf_counter() - began,
        measured["warmed"].summary if "warmed" in measured else None,
        {stage: found for stage, each in measured.items() if (found := calling(each.attempts))},
    )
    ranks.by_first(partial(_write, result, recipe))
    if ranks.first:  # last: until then the same command goes on with this run
        store.finish_run(run_id, {"before": asdict(before.summary), "after": asdict(after.summary)})
    return result


def _room(policy: Policy, recipe: GRPORecipe, pool: Sequence[Problem]) -> int:
    """What a micro-batch may have. Of shares no estimate is made."""
    return room_for(policy, recipe, pool) if recipe.training.sharding == "none" else recipe.training.micro_tokens


def _run_id(store: Store, folder: Path, identity: tuple[str, str, str, str, dict[str, Any]]) -> str:
    """The run that the folder's result is of, the unfinished one of this folder and recipe, or a new one."""
    done = read_json(folder / "result.json").get("run")
    if isinstance(done, str) and any(run.id == done for run in store.runs()):
        return done
    unfinished = store.unfinished("grpo", config_hash(*identity))
    return unfinished.id if unfinished else store.start_run(*identity)


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
    return instructed(held_out, recipe.instruction), instructed(pool, recipe.instruction)


def _measure(
    stage: Measured,
    problems: Sequence[Problem],
    *,
    engine: Engine,
    recipe: GRPORecipe,
    folder: Path,
    store: Store,
    watcher: Watcher,
) -> _Measured:
    watcher.stage(stage, len(problems))
    attempts: list[Attempt] = []

    def keep(attempt: Attempt) -> None:
        attempts.append(attempt)
        watcher.attempt(attempt)

    # A run that is resumed after its first measurement does not make that again.
    resumed = stage != "after" and (folder / "metrics.jsonl").exists()
    name = f"{recipe.evaluation.problems} {stage} {folder.name}"
    _, summary = evaluate(
        problems,
        engine,
        sampling=_sampling(recipe),
        store=store,
        name=name,
        strategy=_strategy(recipe),
        reuse=resumed,
        on_attempt=keep,
    )
    return _Measured(summary, tuple(attempts))


def _held_out(
    problems: Sequence[Problem], engine: Engine, recipe: GRPORecipe, folder: Path, store: Store, step: int
) -> Metrics:
    """Held-out accuracy with its 95 % interval, as a part of the step's metrics."""
    name = f"{recipe.evaluation.problems} step {step} {folder.name}"
    return held_out_accuracy(problems, engine, _sampling(recipe), store, name, strategy=_strategy(recipe))


def _strategy(recipe: GRPORecipe) -> str:
    """What is measured is what is trained: single answers, or the agent's trajectories."""
    return named(recipe.agent).spec if recipe.agent else SINGLE


def _sampling(recipe: GRPORecipe) -> Sampling:
    table: EvaluationTable = recipe.evaluation
    return Sampling(temperature=table.temperature, max_tokens=table.max_tokens, seed=recipe.seed)


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
    # Here, since what draws charts takes 50 MB that training has better use for.
    from thinksmith.evaluate.report import read_metrics, render_report, training_report

    write_json(
        result.folder / "result.json",
        {
            "run": result.run_id,
            "before": asdict(result.before),
            "after": asdict(result.after),
            "difference": asdict(result.difference),
            **({"warmed": asdict(result.warmed)} if result.warmed else {}),
            **({"calls": {stage: asdict(each) for stage, each in result.calls.items()}} if result.calls else {}),
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
