"""Reward against wall-clock beside TRL's GRPOTrainer, on the quickstart task: tiny-base on problems of all families.

The same recipe on both sides: problems in the same order, group size, steps, lengths, loss, optimiser, learning rate
and schedule, precision; rewards by the same function (`training/rl/rewards/trl.py` on TRL's side). Nothing is saved or
logged. Both sides run in turns, seed by seed. The reward of a step is the mean over its completions, smoothed over the
last 5 steps; `share` is the time in which ours reaches TRL's last smoothed reward, as a share of TRL's whole time.

What is compared is time, so ours makes 16 more steps than TRL's 32: with equally many both end at the same reward but
for luck, and ours after a tenth of the time. `equal_steps` has what 32 of ours came to.

    python bench/grpo_curves.py [--quick] [--seeds N] [--ours]

`--ours` measures our side anew and keeps TRL's curves of the last full run, which take an hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from _grpo_trl import batch_settings, quiet, settings
from _result import RESULTS, finish
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.load import load_policy
from thinksmith.problems.load import load as load_problems
from thinksmith.recipes.load import load as load_recipe
from thinksmith.records import Problem
from thinksmith.training.optimizer import Optimizers, lr_factor
from thinksmith.training.rl.grpo import train
from thinksmith.training.rl.prompts import Prompts
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rl.rewards.trl import as_trl

SEEDS = 5
GOALS = {"share": 0.5}
WINDOW = 5
MORE_STEPS = 16  # of ours
TRL_ROWS = 8  # sequences of one pass: its default
META = ("numbers", "target")  # what verifiers read of these problems


@dataclass
class Curve:
    """After each step: seconds since training began, and the step's mean reward."""

    seconds: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    @property
    def smoothed(self) -> list[float]:
        return [statistics.mean(self.rewards[max(0, i + 1 - WINDOW) : i + 1]) for i in range(len(self.rewards))]

    def reaches(self, level: float) -> float | None:
        """When the smoothed reward is first as high as `level`; None if it never is."""
        both = zip(self.seconds, self.smoothed, strict=True)
        # The first steps' means are over fewer than a window: luck, not progress.
        return next((at for step, (at, reward) in enumerate(both, 1) if step >= WINDOW and reward >= level), None)

    def plain(self) -> dict[str, list[float]]:
        return {"seconds": [round(at, 2) for at in self.seconds], "rewards": [round(each, 4) for each in self.rewards]}


def run_ours(recipe: GRPORecipe, problems: Sequence[Problem]) -> Curve:
    policy = load_policy(recipe.model)
    engine, curve = LocalEngine(policy), Curve()
    began = time.perf_counter()

    def on_step(metrics: dict[str, float]) -> None:
        curve.seconds.append(time.perf_counter() - began)
        curve.rewards.append(metrics["reward"])

    with tempfile.TemporaryDirectory() as folder:
        train(policy, engine, problems, recipe, Path(folder), on_step=on_step)
    engine.close()
    return curve


class _Ends(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.curve, self.trainer, self._began = Curve(), None, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        trainer: Any = self.trainer
        self.curve.seconds.append(time.perf_counter() - self._began)
        self.curve.rewards.append(trainer._metrics["train"]["reward"][-1])


def run_trl(recipe: GRPORecipe, problems: Sequence[Problem]) -> Curve:
    from trl import GRPOTrainer

    quiet()
    policy = load_policy(recipe.model)
    rollout, training = recipe.rollout, recipe.training
    optimizer = Optimizers(policy.model, "adamw", training.lr, weight_decay=training.weight_decay).parts[0]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: lr_factor(training.lr_scheduler_type, step, recipe.steps, training.warmup, training.decay),
    )
    ends = _Ends()
    with tempfile.TemporaryDirectory() as folder:
        arguments = settings(
            folder, max_steps=recipe.steps, max_completion_length=rollout.max_tokens, shuffle_dataset=False,
            temperature=rollout.temperature, loss_type=training.loss_type, scale_rewards=training.scale_rewards,
            epsilon=training.epsilon, epsilon_high=training.epsilon_high, max_grad_norm=training.max_grad_norm,
            seed=recipe.seed,
            **batch_settings(
                rollout.prompts, rollout.num_generations, min(TRL_ROWS, rollout.prompts * rollout.num_generations)
            ),
        )  # fmt: skip
        reward = as_trl("correctness", tokenizer=policy.tokenizer, max_tokens=rollout.max_tokens)
        trainer = GRPOTrainer(
            model=policy.model.train(), reward_funcs=reward, args=arguments, optimizers=(optimizer, schedule),
            train_dataset=in_order(recipe, problems), processing_class=policy.tokenizer, callbacks=[ends],
        )  # fmt: skip
        ends.trainer = trainer
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return ends.curve


def in_order(recipe: GRPORecipe, problems: Sequence[Problem]) -> Any:
    """The problems as our run asks them, as a dataset."""
    from datasets import Dataset

    prompts = Prompts(problems, recipe.seed, recipe.curriculum)
    drawn = [one.problem for step in range(recipe.steps) for one in prompts.take(recipe.rollout.prompts, step)]
    return Dataset.from_list(
        [
            {
                "prompt": [dict(message) for message in problem.messages],
                "answer": problem.answer,
                "kind": problem.kind,
                "id": problem.id,
                **{key: problem.meta.get(key) for key in META},
            }
            for problem in drawn
        ]
    )


def compared(seed: int, equal: Curve, ours: Curve, trl: Curve) -> dict[str, Any]:
    level = trl.smoothed[-1]
    at = ours.reaches(level)
    return {
        "seed": seed,
        "share": None if at is None else round(at / trl.seconds[-1], 3),
        "trl_reward": round(level, 4),
        "ours_reward": round(ours.smoothed[-1], 4),
        "equal_steps_reward": round(equal.smoothed[-1], 4),
        "trl_seconds": round(trl.seconds[-1], 1),
        "ours_seconds": round(ours.seconds[-1], 1),
        "equal_steps_seconds": round(equal.seconds[-1], 1),
        "trl_curve": trl.plain(),
        "ours_curve": ours.plain(),
        "equal_steps_curve": equal.plain(),
    }


def known_trl(seed: int) -> Curve:
    """TRL's curve of the last full run."""
    rows = json.loads((RESULTS / "grpo_curves.json").read_text(encoding="utf-8"))["figures"]["runs"]
    found = next(row for row in rows if row["seed"] == seed)["trl_curve"]
    return Curve(found["seconds"], found["rewards"])


def one(seed: int, *, quick: bool, ours_only: bool) -> dict[str, Any]:
    """Both sides with this seed."""
    changed: dict[str, Any] = {"seed": seed, "training.save_every": 0}
    changed |= {"steps": WINDOW, "rollout.prompts": 4, "rollout.max_tokens": 96} if quick else {}
    recipe = load_recipe("quickstart", GRPORecipe, changed)
    problems = load_problems(recipe.problems, recipe.rollout.pool, split="train", seed=seed, all_if_fewer=True)
    longer = recipe.model_copy(update={"steps": recipe.steps + (1 if quick else MORE_STEPS)})
    equal, ours = run_ours(recipe, problems), run_ours(longer, problems)
    return compared(seed, equal, ours, known_trl(seed) if ours_only else run_trl(recipe, problems))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 5 steps of 4 prompts: that it runs")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--ours", action="store_true", help="keep TRL's curves of the last full run")
    options = parser.parse_args()
    rows = []
    for seed in range(1 if options.quick else options.seeds):
        row = one(seed, quick=options.quick, ours_only=options.ours)
        reached = "never as much" if row["share"] is None else f"as much in {row['share']} of the time"
        print(
            f"seed {seed}: TRL {row['trl_reward']:.3f} after {row['trl_seconds']:.0f} s, ours with as many steps "
            f"{row['equal_steps_reward']:.3f} after {row['equal_steps_seconds']:.0f} s, with more "
            f"{row['ours_reward']:.3f} after {row['ours_seconds']:.0f} s, {reached}",
            flush=True,
        )
        rows.append(row)
    shares = [row["share"] for row in rows]
    given = [share for share in shares if share is not None]
    figures = {
        "threads": torch.get_num_threads(),
        "share": round(statistics.median(given), 3) if given else None,
        "slowest_share": max(given, default=None),
        "seeds_that_reach_it": len(given),
        "trl_reward": round(statistics.mean(row["trl_reward"] for row in rows), 4),
        "equal_steps_reward": round(statistics.mean(row["equal_steps_reward"] for row in rows), 4),
        "ours_reward": round(statistics.mean(row["ours_reward"] for row in rows), 4),
        "runs": rows,
    }
    if options.quick:  # 5 steps teach nothing: all that can be shown is that both sides run
        finish("grpo_curves", figures, {}, True)
    else:
        finish("grpo_curves", figures, GOALS, len(given) == len(rows) and max(given) <= GOALS["share"])


if __name__ == "__main__":
    main()
