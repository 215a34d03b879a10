"""Steps of our GRPO, timed, with given lengths."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from _grpo_work import Task, Work
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.policy import Policy
from thinksmith.records import Message, Request, Trace
from thinksmith.training.rl.grpo import train
from thinksmith.training.rl.recipe import GRPORecipe

LR = 1e-6


@dataclass
class Timed:
    """Wall seconds of each step but the first, as a whole and by part; tokens of the completions of a step."""

    seconds: list[float] = field(default_factory=list)
    rollout: list[float] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)

    def extend(self, other: Timed) -> None:
        for name in self.__dataclass_fields__:
            getattr(self, name).extend(getattr(other, name))


class GivenLengths:
    """An engine whose samples have the lengths that the task says, by the text of the prompt."""

    def __init__(self, policy: Policy, task: Task) -> None:
        policy.__dict__["eos_ids"] = frozenset()  # nothing ends by itself
        _remember_prompts(policy)
        self._engine = LocalEngine(policy)
        self._lengths = task.lengths

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        singles = [
            replace(
                request, n=1, sampling=replace(request.sampling, max_tokens=length, seed=request.sampling.seed + at)
            )
            for request in requests
            for at, length in enumerate(self._lengths[request.messages[-1]["content"]])
        ]
        traces = iter(self._engine.sample_all(singles))
        return [[next(traces)[0] for _ in range(request.n)] for request in requests]

    def release(self) -> None:
        self._engine.release()

    def close(self) -> None:
        self._engine.close()


def _remember_prompts(policy: Policy) -> None:
    """A group's prompt is rendered once, as it is where the group is one request."""
    render, known = policy.render, {}

    def remembered(messages: Sequence[Message], prefill: str = "", **more: Any) -> Any:
        text = messages[-1]["content"]
        if text not in known:
            known[text] = render(messages, prefill, **more)
        return known[text]

    policy.render = remembered  # type: ignore[method-assign]


def recipe_of(work: Work, steps: int) -> GRPORecipe:
    """TRL's defaults, where they are not ours."""
    return GRPORecipe.model_validate(
        {
            "steps": steps,
            "rollout": {"prompts": work.prompts, "num_generations": work.generations, "max_tokens": work.most},
            "training": {"lr": LR, "loss_type": "dapo", "epsilon_high": 0.2},
            "rewards": {"_grpo_work:text_reward": 1.0},
        }
    )


def run_ours(policy: Policy, work: Work, task: Task, steps: int) -> Timed:
    """`steps` steps after a first one that is not counted."""
    engine = GivenLengths(policy, task)
    found, ended = Timed(), 0.0

    def on_step(metrics: dict[str, float]) -> None:
        nonlocal ended
        if metrics["kept_share"] < 0.95:
            raise SystemExit(f"only {metrics['kept_share']:.0%} of the completions are trained on: this is less work")
        now = time.perf_counter()
        if metrics["step"] > 1:
            found.seconds.append(now - ended)
            found.rollout.append(metrics["rollout_seconds"])
            found.reward.append(metrics["verify_seconds"])
            found.update.append(metrics["train_seconds"])
            found.tokens.append(metrics["completion_tokens"] * work.rows)
        ended = now

    with tempfile.TemporaryDirectory() as folder:
        train(policy, engine, task.problems, recipe_of(work, steps + 1), Path(folder), on_step=on_step)  # type: ignore[arg-type]
    engine.close()
    return found
