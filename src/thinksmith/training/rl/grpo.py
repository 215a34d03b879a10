"""Group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300): roll out, compare within the group, update.

The same weights are sampled and trained. A run folder holds all that is needed to repeat or to resume it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from thinksmith.engines.contract import Engine, Releases
from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy
from thinksmith.records import Attempt, Problem
from thinksmith.training.alarms import Alarm
from thinksmith.training.model_folder import save_trained
from thinksmith.training.optimizer import Optimizers, lr_factor
from thinksmith.training.ranks import ALONE, Ranks
from thinksmith.training.reference import Reference, reference_of
from thinksmith.training.rl.alarms import alarms
from thinksmith.training.rl.gathered import gathered
from thinksmith.training.rl.metrics import describe
from thinksmith.training.rl.prompts import Prompts
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rl.rewards import scorer
from thinksmith.training.rl.rollout import Rollout, roll_out
from thinksmith.training.rl.update import update
from thinksmith.training.rows import Metrics, add_row, keep_rows, memory_gb
from thinksmith.training.saver import Saver
from thinksmith.training.sharding import load_shares, optimizers_of, save_whole, whole
from thinksmith.training.step import NotFiniteError, spoilt


def train(
    policy: Policy,
    engine: Engine,
    problems: Sequence[Problem],
    recipe: GRPORecipe,
    folder: Path,
    *,
    on_step: Callable[[Metrics], None] = lambda metrics: None,
    on_attempts: Callable[[Sequence[Attempt]], object] = lambda attempts: None,
    on_alarm: Callable[[Alarm], object] = lambda alarm: None,
    measure: Callable[[int], Metrics] = lambda step: {},
    micro_tokens: int = 0,
    ranks: Ranks = ALONE,
) -> None:
    """Train `policy` in place on `problems` for `recipe.steps` steps, resuming from the folder's last checkpoint.

    Writes metrics.jsonl (a row per finished step), checkpoints/ and at the end model/, or adapter/ where an adapter was
    trained. `measure(step)` is asked after every `evaluation.every` steps for `held_out_accuracy` and what belongs to
    it. Ctrl-C leaves the last checkpoint, from which the same call goes on. Raises UserError where the disk is full or
    a loss is not finite; the last checkpoint stays.

    Of several `ranks` each asks `rollout.prompts` problems a step, and the loss is that of all. All read the folder;
    the first alone writes there, measures, and calls `on_step` and `on_alarm`. `on_attempts` gets each rank's own.
    """
    training = recipe.training
    optimizers = optimizers_of(policy.model, training.optimizer, training.lr, weight_decay=training.weight_decay)
    prompts = Prompts(problems, recipe.seed, recipe.curriculum)
    reference = reference_of(policy) if training.beta else None  # before a checkpoint is loaded
    saver = Saver(
        folder / "checkpoints",
        policy.model,
        optimizers,
        steps=recipe.steps,
        every=training.save_every,
        keep=training.save_total_limit,
        base=_weights_hash(policy),
    )
    torch.manual_seed(recipe.seed + ranks.rank)  # of dropout; sampling has its own
    start, extra = load_shares(saver, policy.model)
    if extra:
        prompts.restore(extra["prompts"])
    policy.touch()
    if ranks.size > 1:  # a hash of all weights takes seconds where they are large
        ranks.require_same("what training starts from", (start, _weights_hash(policy), prompts.state()))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    history = keep_rows(path, start) if ranks.first else []
    loop = _Loop(policy, engine, prompts, recipe, optimizers, reference, micro_tokens, ranks)
    for step in range(start, recipe.steps):
        began = time.perf_counter()
        try:
            rollout, metrics = loop.step(step)
        except NotFiniteError as error:
            raise UserError(spoilt(step, error)) from None
        on_attempts((*rollout.attempts, *rollout.wasted))
        del rollout  # the next one wants the memory of its traces
        every = recipe.evaluation.every
        if every and (step + 1) % every == 0:
            with whole(policy.model):
                metrics |= ranks.by_first(partial(_timed, "evaluate_seconds", measure, step + 1))
        metrics["seconds"] = time.perf_counter() - began
        metrics["memory_gb"] = max(ranks.gather(memory_gb(policy.device)))
        if ranks.first:
            # The row first: one too many is dropped when the run is resumed, one too few could not be had again.
            add_row(path, metrics)
        save_whole(
            saver,
            step + 1,
            lambda: {"prompts": prompts.state()},
            score=metrics.get("held_out_accuracy"),
            model=policy.model,
            optimizers=optimizers,
            ranks=ranks,
        )
        if ranks.first:
            history.append(metrics)
            on_step(metrics)
            for alarm in alarms(history):
                on_alarm(alarm)
    with whole(policy.model):
        ranks.by_first(partial(save_trained, policy, folder))


class _Loop:
    """What a step needs and does not change from step to step."""

    def __init__(
        self,
        policy: Policy,
        engine: Engine,
        prompts: Prompts,
        recipe: GRPORecipe,
        optimizers: Optimizers,
        reference: Reference | None,
        micro_tokens: int,
        ranks: Ranks,
    ) -> None:
        self._policy, self._engine, self._prompts, self._recipe = policy, engine, prompts, recipe
        self._optimizers, self._reference = optimizers, reference
        self._micro_tokens, self._ranks = micro_tokens, ranks
        self._scorer = scorer(recipe.rewards, max_tokens=recipe.rollout.max_tokens)

    def step(self, step: int) -> tuple[Rollout, Metrics]:
        """Roll out and update, as the step after `step` finished ones."""
        recipe, training = self._recipe, self._recipe.training
        if self._ranks.size > 1:  # a checkpoint has the random state of one rank only
            torch.manual_seed((recipe.seed + step) * self._ranks.size + self._ranks.rank)
        began = time.perf_counter()
        with whole(self._policy.model):
            rollout = roll_out(
                self._engine,
                self._prompts,
                recipe.rollout,
                self._scorer,
                seed=recipe.seed,
                step=step,
                ranks=self._ranks,
                agent=recipe.agent,
            )
        if isinstance(self._engine, Releases):
            self._engine.release()  # the backward pass wants the memory; what was cached of prompts is void after it
        rolled = time.perf_counter()
        everyone = gathered(rollout, self._ranks)
        metrics = {"step": step + 1, **describe(everyone), **self._prompts.metrics(step)}
        described = time.perf_counter()
        scale = lr_factor(training.lr_scheduler_type, step, recipe.steps, training.warmup, training.decay)
        metrics |= update(
            self._policy,
            rollout,
            recipe,
            self._optimizers,
            scale,
            reference=self._reference,
            micro_tokens=self._micro_tokens,
            ranks=self._ranks,
        )
        ended = time.perf_counter()
        sampled = sum(attempt.trace.tokens for attempt in (*everyone.attempts, *everyone.wasted))
        return rollout, metrics | {
            "lr": training.lr * scale,
            "rollout_tokens_per_s": sampled / everyone.sample_seconds if everyone.sample_seconds else 0.0,
            "train_tokens_per_s": metrics["trained_tokens"] / (ended - described),
            "rollout_seconds": rolled - began - rollout.verify_seconds,
            "verify_seconds": rollout.verify_seconds,
            "train_seconds": ended - described,
        }


def _timed(name: str, measure: Callable[[int], Metrics], step: int) -> Metrics:
    began = time.perf_counter()
    return {**measure(step), name: time.perf_counter() - began}


def _weights_hash(policy: Policy) -> str:
    with whole(policy.model):
        return policy.weights_hash()
