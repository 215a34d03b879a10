"""One arm with one seed: it is trained in a folder of its own, and what that took is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from thinksmith.distill.examples import examples_of, set_thinking, turn_of
from thinksmith.distill.lessons.recipe import Arm, LessonRecipe, grpo_of, sft_of
from thinksmith.distill.sample import Sample
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.evaluate.report import read_metrics
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.problems.load import load as load_problems
from thinksmith.training.batches import Example
from thinksmith.training.rl.grpo import train as train_grpo
from thinksmith.training.rows import Metrics
from thinksmith.training.run_folder import open_folder, read_json, versions, write_json
from thinksmith.training.supervised.sft import SFT
from thinksmith.training.supervised.train import train as train_sft

# Operations for each token and parameter: of a forward pass, and of one with its backward pass (Kaplan et al. 2020,
# arXiv:2001.08361, section 2.1).
FORWARD, BOTH = 2.0, 6.0


@dataclass(frozen=True, slots=True)
class Trained:
    """`model`: the name or folder of the weights. `flops` and `seconds` of the training of this arm and of those that
    it goes on after; what the teacher sampled is not in them."""

    model: str
    flops: float = 0.0
    seconds: float = 0.0


def train_arm(
    lesson: LessonRecipe,
    arm: Arm,
    seed: int,
    before: Trained,
    samples: Sequence[Sample],
    folder: Path,
    on_step: Callable[[Metrics], None] = lambda row: None,
) -> Trained:
    """The arm's weights; resumed where it was stopped, and taken as they are where it is done. Raises UserError."""
    if arm.how == "none":
        return before
    done = read_json(folder / "done.json")
    if done:
        return Trained(str(folder / "model"), done["flops"], done["seconds"])
    policy = load_policy(before.model)
    if arm.how == "sft":
        _sft(lesson, arm, seed, policy, samples, folder, on_step)
    else:
        _grpo(lesson, arm, seed, policy, folder, on_step)
    rows = read_metrics(folder / "metrics.jsonl")
    size = sum(parameter.numel() for parameter in policy.model.parameters())
    group = grpo_of(lesson, arm, seed).rollout.num_generations if arm.how == "grpo" else 0
    flops = before.flops + size * sum(_operations(row, group) for row in rows)
    found = Trained(str(folder / "model"), flops, before.seconds + sum(row["seconds"] for row in rows))
    write_json(folder / "done.json", {"flops": found.flops, "seconds": found.seconds})
    return found


def _operations(row: Metrics, group: int) -> float:
    """Of a step, for each parameter; `group`: completions of each group that was drawn."""
    sampled = row.get("groups_drawn", 0.0) * group * row.get("completion_tokens", 0.0)
    return BOTH * row["computed_tokens"] + FORWARD * sampled


def _sft(
    lesson: LessonRecipe,
    arm: Arm,
    seed: int,
    policy: Policy,
    samples: Sequence[Sample],
    folder: Path,
    on_step: Callable[[Metrics], None],
) -> None:
    recipe = sft_of(lesson, arm, seed, policy.name)
    set_thinking(policy, recipe.thinking)
    examples: Sequence[Example] = examples_of(samples, policy, turn_of(policy), recipe.batch.max_length).examples
    if arm.cut:
        examples = cut(examples, arm.cut)
    if not examples:
        raise UserError(f"{lesson.title}: none of the {len(samples)} traces can be learnt by {policy.name}")
    open_folder(folder, recipe, {"model": policy.name, "weights_hash": policy.weights_hash(), "versions": versions()})
    train_sft(
        policy,
        SFT(policy, examples, max_grad_norm=recipe.training.max_grad_norm, micro_tokens=recipe.training.micro_tokens),
        recipe,
        folder,
        on_step=on_step,
    )


def cut(examples: Sequence[Example], length: int) -> list[Example]:
    """What packing by mere concatenation makes of them: all tokens one after the other, cut after each `length`.

    In a row every token sees all that stand before it, those of other samples too; only tokens of completions are
    learnt, as in the examples themselves. The last row may be shorter. A row's first token has nothing before it.
    """
    ids: list[int] = []
    learnt: list[bool] = []
    for example in examples:
        ids += (*example.prompt_ids, *example.completion_ids)
        given = set(example.given)
        learnt += [False] * len(example.prompt_ids)
        learnt += [at not in given for at in range(len(example.completion_ids))]
    rows = []
    for start in range(0, len(ids), length):
        row, wanted = tuple(ids[start : start + length]), learnt[start + 1 : start + length]
        if any(wanted):
            rows.append(Example(row[:1], row[1:], tuple(at for at, each in enumerate(wanted) if not each)))
    return rows


def _grpo(
    lesson: LessonRecipe, arm: Arm, seed: int, policy: Policy, folder: Path, on_step: Callable[[Metrics], None]
) -> None:
    recipe = grpo_of(lesson, arm, seed, policy.name)
    problems = load_problems(recipe.problems, recipe.rollout.pool, split="train", seed=seed, all_if_fewer=True)
    open_folder(folder, recipe, {"model": policy.name, "weights_hash": policy.weights_hash(), "versions": versions()})
    engine = LocalEngine(policy)
    try:
        train_grpo(policy, engine, problems, recipe, folder, on_step=on_step)
    finally:
        engine.close()
