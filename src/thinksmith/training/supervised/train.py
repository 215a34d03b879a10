"""The loop of SFT and DPO: draw samples, step, measure, save; a run that was killed goes on where its checkpoint is.

A run folder gets metrics.jsonl (a row for each finished step), checkpoints/ and at the end model/, or adapter/.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy
from thinksmith.training import checkpoint
from thinksmith.training.alarms import Alarm
from thinksmith.training.model_folder import save_trained
from thinksmith.training.optimizer import Optimizers, lr_factor
from thinksmith.training.ranks import ALONE, Ranks
from thinksmith.training.rows import Metrics, add_row, keep_rows, memory_gb
from thinksmith.training.saver import Saver
from thinksmith.training.sharding import load_shares, optimizers_of, save_whole, whole
from thinksmith.training.step import NotFiniteError, spoilt
from thinksmith.training.supervised.alarms import alarms, given_up, score
from thinksmith.training.supervised.lesson import Lesson
from thinksmith.training.supervised.order import Order
from thinksmith.training.supervised.recipe import TaughtRecipe

MEASUREMENTS = 10  # in a run whose recipe does not say


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to: `steps` of `planned` ones, fewer where it stopped early. `before` and `after`: what was
    measured before the first step, and of the weights that are the result; {} where nothing is. `kept_step`: the step
    whose weights these are."""

    steps: int
    planned: int
    before: Metrics
    after: Metrics
    kept_step: int


def order_of(lesson: Lesson, recipe: TaughtRecipe) -> Order:
    return Order(lesson.sizes, recipe.seed, samples=recipe.batch.samples, tokens=recipe.batch.tokens)


def planned_steps(lesson: Lesson, recipe: TaughtRecipe) -> int:
    """Optimiser steps of the whole run."""
    return recipe.steps or order_of(lesson, recipe).steps(recipe.epochs)


def train(
    policy: Policy,
    lesson: Lesson,
    recipe: TaughtRecipe,
    folder: Path,
    *,
    measure: Callable[[int], Metrics] = lambda step: {},
    on_step: Callable[[Metrics], None] = lambda metrics: None,
    on_alarm: Callable[[Alarm], object] = lambda alarm: None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train `policy` in place, resuming from the folder's last checkpoint.

    `measure(step)` is asked beside the lesson's own measure, by the first rank alone, for `held_out_accuracy` and what
    belongs to it (step 0: before training). Ctrl-C leaves the last checkpoint, from which the same call goes on. Raises
    UserError where the disk is full or a loss is not finite; the last checkpoint stays.
    """
    steps = planned_steps(lesson, recipe)
    loop = _Loop(policy, lesson, recipe, folder, steps, measure, ranks)
    start = loop.load()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    history = ranks.by_first(lambda: keep_rows(path, start))
    if loop.before is None:
        loop.before = _held_out(loop.measured(0))
    step, patience, by = start, recipe.evaluation.patience, recipe.evaluation.by
    while step < steps and not given_up(history, patience, by):
        metrics = loop.step(step)
        step += 1
        history.append(metrics)
        ends = step == steps or given_up(history, patience, by)
        if ranks.first:
            # The row first: one too many is dropped when the run is resumed, one too few could not be had again.
            add_row(path, metrics)
        loop.save(step, metrics, ends=ends)
        if ranks.first:
            on_step(metrics)
            for alarm in alarms(history):
                on_alarm(alarm)
    measured = [row for row in history if score(row, by) is not None]
    kept = loop.best(measured) if measured and recipe.evaluation.keep == "best" else step
    after = next((_held_out(row) for row in measured if row["step"] == kept), {})
    with whole(policy.model):
        ranks.by_first(partial(save_trained, policy, folder))
    return Trained(step, steps, loop.before, after, kept)


class _Loop:
    """What a step needs and does not change from step to step."""

    def __init__(
        self,
        policy: Policy,
        lesson: Lesson,
        recipe: TaughtRecipe,
        folder: Path,
        steps: int,
        measure: Callable[[int], Metrics],
        ranks: Ranks,
    ) -> None:
        self._policy, self._lesson, self._recipe = policy, lesson, recipe
        self._steps, self._measure, self._ranks = steps, measure, ranks
        self._order = order_of(lesson, recipe)
        self._folder = folder / "checkpoints"
        training = recipe.training
        self._optimizers: Optimizers = optimizers_of(
            policy.model, training.optimizer, training.lr, weight_decay=training.weight_decay
        )
        with whole(policy.model):
            self._base = policy.weights_hash()
        self._saver = Saver(
            self._folder,
            policy.model,
            self._optimizers,
            steps=steps,
            every=training.save_every,
            keep=training.save_total_limit,
            base=self._base,
        )
        self._warmup, self._decay = (math.ceil(share * steps) for share in (training.warmup, training.decay))
        self._every = recipe.evaluation.every or max(1, steps // MEASUREMENTS)
        self.before: Metrics | None = None

    def load(self) -> int:
        """The finished steps of the newest checkpoint, whose state is restored."""
        torch.manual_seed(self._recipe.seed + self._ranks.rank)  # of dropout
        start, extra = load_shares(self._saver, self._policy.model)
        if extra:
            try:
                self._order.restore(extra["order"])
            except ValueError as error:
                raise UserError(f"{self._folder} is of a run with other data ({error}); name another folder") from None
            self.before = dict(extra["before"])
        self._policy.touch()
        if self._ranks.size > 1:
            self._ranks.require_same("what training starts from", (start, self._base, self._order.state()))
        return start

    def step(self, step: int) -> Metrics:
        """The step after `step` finished ones, and what is measured after it."""
        if self._ranks.size > 1:  # a checkpoint has the random state of one rank only
            torch.manual_seed((self._recipe.seed + step) * self._ranks.size + self._ranks.rank)
        began = time.perf_counter()
        training = self._recipe.training
        scale = lr_factor(training.lr_scheduler_type, step, self._steps, self._warmup, self._decay)
        try:
            metrics = {"step": step + 1, **self._lesson.learn(self._order.next(), self._optimizers, scale)}
        except NotFiniteError as error:
            raise UserError(spoilt(step, error)) from None
        learnt = time.perf_counter() - began
        metrics |= {
            "epoch": self._order.epochs,
            "lr": training.lr * scale,
            "train_tokens_per_s": metrics["trained_tokens"] / learnt,
            "train_seconds": learnt,
        }
        if (step + 1) % self._every == 0 or step + 1 == self._steps:
            metrics |= self.measured(step + 1)
        metrics["seconds"] = time.perf_counter() - began
        metrics["memory_gb"] = max(self._ranks.gather(memory_gb(self._policy.device)))
        return metrics

    def measured(self, step: int) -> Metrics:
        """Of the weights after `step` steps."""
        began = time.perf_counter()
        found = self._lesson.measure()
        with whole(self._policy.model):
            found |= self._ranks.by_first(partial(self._measure, step))
        return {**found, "evaluate_seconds": time.perf_counter() - began} if found else {}

    def save(self, step: int, metrics: Metrics, *, ends: bool) -> None:
        if ends:
            self._saver.end()
        save_whole(
            self._saver,
            step,
            lambda: {"order": self._order.state(), "before": self.before or {}},
            score=score(metrics, self._recipe.evaluation.by),
            model=self._policy.model,
            optimizers=self._optimizers,
            ranks=self._ranks,
        )

    def best(self, measured: list[Metrics]) -> int:
        """Load the weights of the best measured step; which that is."""
        scores = [score(row, self._recipe.evaluation.by) or 0.0 for row in measured]
        step = int(measured[scores.index(max(scores))]["step"])
        checkpoint.load_weights(self._folder / f"step-{step:06d}.pt", self._policy.model, base=self._base)
        self._policy.touch()
        return step


def _held_out(row: Metrics) -> Metrics:
    return {name: value for name, value in row.items() if name.startswith("held_out_")}
