"""The peak memory of GRPO steps in this process, ours or TRL's; `grpo_memory.py` asks for each in a process of its own.

    python bench/_grpo_passes.py NAME SIDE        # a JSON object as the last line

`update`: completions are made up, so there is no rollout; an optimiser step on short ones, so that the optimiser has
its states, and one on those asked for. `step`: two whole steps of ours, with the rollout. What is counted begins before
the model comes, after a first small step has loaded and made all that a process has once. The C library maps blocks one
by one on both sides, so it takes what is used and no more (`training/fits.py`).
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from _fit_training import COMMON, SHAPES, status
from _grpo_ours import GivenLengths
from _grpo_work import Task, text_reward_trl, tokenizer_of_tiny
from thinksmith.fit.memory.training import training_memory
from thinksmith.fit.shapes.configs import shape_of
from thinksmith.fit.speed.device import Device
from thinksmith.policy.policy import Policy
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.training.adapt import adapt
from thinksmith.training.fits import map_blocks
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.rl.grpo import train
from thinksmith.training.rl.memory import grpo_training, room_for
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rl.rollout import Rollout
from thinksmith.training.rl.update import update

STEPS = 2
FIRST = 16  # tokens of an update's first completions, which are there for the optimiser's states
# So small a decoder under so large a head that logits are nearly all there is.
HEAD = {"vocab_size": 151936, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}  # fmt: skip


@dataclass(frozen=True)
class Passes:
    """`prompts` × `generations` completions of `length` tokens each, after prompts of about 20."""

    shape: str
    prompts: int
    generations: int
    length: int
    what: str = "update"
    lora: bool = False
    bf16: bool = False
    checkpointing: bool = False
    quick: bool = False
    trl: dict[str, int] = field(default_factory=dict)  # TRL's sequences of a pass, by the side's name


TRL = {"trl": 8, "trl-1": 1}  # its default; the least
PASSES: dict[str, Passes] = {
    "vocab 512": Passes("head", 1, 8, 512, checkpointing=True, trl=TRL),
    "vocab 1024": Passes("head", 1, 8, 1024, checkpointing=True, trl=TRL),
    "vocab 2048": Passes("head", 1, 8, 2048, checkpointing=True, trl=TRL),
    "vocab 4096": Passes("head", 1, 8, 4096, checkpointing=True, trl=TRL),
    "vocab quick": Passes("head", 1, 8, 64, checkpointing=True, trl={"trl": 8}, quick=True),
    "tiny step": Passes("tiny", 8, 8, 128, "step", quick=True),
    "tiny step checkpointed": Passes("tiny", 16, 16, 256, "step", checkpointing=True),
    "25m step": Passes("25m", 4, 8, 192, "step"),
    "25m step lora": Passes("25m", 4, 8, 192, "step", lora=True),
    "0.5b step lora bf16": Passes("0.5b", 1, 4, 64, "step", lora=True, bf16=True),
    "1.5b lora bf16": Passes("1.5b", 1, 8, 1024, lora=True, bf16=True, checkpointing=True),
}  # fmt: skip


def main() -> None:
    print(json.dumps(measure(PASSES[sys.argv[1]], sys.argv[2])))


def measure(passes: Passes, side: str) -> dict[str, Any]:
    """Bytes: `before` the model came, its `weights`, the `peak`; of ours also what fit `predicted`."""
    map_blocks(torch.device("cpu"))
    small = Passes("small", 1, 8, 16, passes.what, passes.lora, passes.bf16, passes.checkpointing)
    policy = policy_of(small)
    run(small, policy, recipe_of(small, policy), side, 8)
    del policy
    gc.collect()
    before = status("VmRSS")
    policy = policy_of(passes)
    weights, recipe = status("VmRSS") - before, recipe_of(passes, policy)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    began = time.perf_counter()
    run(passes, policy, recipe, side, passes.trl.get(side, 8))
    found = {
        "before": before, "weights": weights, "peak": status("VmHWM"), "seconds": time.perf_counter() - began,
    }  # fmt: skip
    return found | (predicted(passes, policy, recipe) if side == "ours" else {})


def run(passes: Passes, policy: Policy, recipe: GRPORecipe, side: str, rows: int) -> None:
    if side != "ours":
        run_trl(passes, policy, rows)
    elif passes.what == "step":
        run_steps(passes, policy, recipe)
    else:
        run_updates(passes, policy, recipe)


def policy_of(passes: Passes) -> Policy:
    """Random weights, and tiny-base's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    small = HEAD | {"vocab_size": 1024}
    kind, fields = {"head": ("qwen2", HEAD), "small": ("qwen2", small)}.get(passes.shape) or SHAPES[passes.shape]
    tokenizer = tokenizer_of_tiny()
    ends = {"eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 8192}
    config = AutoConfig.for_model(kind, **(COMMON | fields | ends))
    torch.manual_seed(0)
    dtype = torch.bfloat16 if passes.bf16 else torch.float32
    return Policy(AutoModelForCausalLM.from_config(config, dtype=dtype).eval(), tokenizer, passes.shape)


def recipe_of(passes: Passes, policy: Policy) -> GRPORecipe:
    """With the tokens of a pass that the trainer chooses by itself."""
    recipe = GRPORecipe.model_validate(
        {
            "steps": STEPS,
            "rollout": {"prompts": passes.prompts, "num_generations": passes.generations, "max_tokens": passes.length},
            "training": {
                "lr": 1e-6,
                "tuning": "lora" if passes.lora else "full",
                "gradient_checkpointing": passes.checkpointing,
            },
            "rewards": {"_grpo_work:text_reward": 1.0},
        }
    )
    room = room_for(policy, recipe, problems_of(passes))
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"micro_tokens": room})})


def problems_of(passes: Passes) -> list[Problem]:
    return [Problem(f"bench/{index}", f"How much is {100 + index} times 60?", "1") for index in range(passes.prompts)]


def run_updates(passes: Passes, policy: Policy, recipe: GRPORecipe) -> None:
    adapt(policy, recipe)
    optimizers = Optimizers(policy.model, "adamw", recipe.training.lr)
    for step in range(STEPS):
        update(policy, made_up(passes, policy, passes.length if step else FIRST), recipe, optimizers, 1.0)


def made_up(passes: Passes, policy: Policy, length: int) -> Rollout:
    """A rollout of random tokens; every second one is rewarded."""
    draw = torch.Generator().manual_seed(length)
    attempts = []
    for problem in problems_of(passes):
        prompt = policy.render(problem.messages).ids
        for index in range(passes.generations):
            ids = tuple(torch.randint(3, 700, (length,), generator=draw).tolist())
            trace = Trace("", "", token_ids=ids, logprobs=(-10.0,) * len(ids), prompt_ids=prompt)
            attempts.append(Attempt(problem, trace, Verdict("wrong"), index))
    count = len(attempts)
    groups = tuple(index // passes.generations for index in range(count))
    rewards = tuple(float(index % 2) for index in range(count))
    return Rollout(tuple(attempts), groups, rewards, tuple({"made up": reward} for reward in rewards))


def run_steps(passes: Passes, policy: Policy, recipe: GRPORecipe) -> None:
    problems = tuple(problems_of(passes))
    adapt(policy, recipe)
    task = Task(problems, {problem.text: (passes.length,) * passes.generations for problem in problems})
    engine: Any = GivenLengths(policy, task)
    with tempfile.TemporaryDirectory() as folder:
        train(policy, engine, problems, recipe, Path(folder))
    engine.close()


def run_trl(passes: Passes, policy: Policy, rows: int) -> None:
    """TRL's trainer on random tokens, by its `rollout_func`."""
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    from _grpo_trl import batch_settings, dataset_of, quiet, settings  # not in a process of ours: they take memory

    quiet()
    draw = torch.Generator().manual_seed(0)
    lengths = iter((FIRST, passes.length))

    def rollout(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        length = next(lengths)
        own = [list(policy.render(prompt).ids) for prompt in prompts]
        drawn = [torch.randint(3, 700, (length,), generator=draw).tolist() for _ in prompts]
        return {"prompt_ids": own, "completion_ids": drawn, "logprobs": None}

    with tempfile.TemporaryDirectory() as folder:
        arguments = settings(
            folder, max_steps=STEPS, max_completion_length=passes.length, shuffle_dataset=False,
            gradient_checkpointing=passes.checkpointing, **batch_settings(passes.prompts, passes.generations, rows),
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=policy.model.train(), reward_funcs=text_reward_trl, args=arguments,
            train_dataset=dataset_of(problems_of(passes), STEPS), processing_class=policy.tokenizer,
            rollout_func=rollout,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def predicted(passes: Passes, policy: Policy, recipe: GRPORecipe) -> dict[str, Any]:
    """What fit says of the recipe, as `thinksmith grpo` asks it before the first step."""
    training = grpo_training(policy, recipe, problems_of(passes))
    device = Device("here", "this machine", "cpu", 1 << 40, 1.0, {})
    estimate = training_memory(shape_of(policy.model.config.to_dict(), passes.shape), training, device)
    runtime = estimate.named("process") + estimate.named("trainer")
    return {
        "predicted": estimate.total,
        "predicted_growth": estimate.total - runtime,
        "at": estimate.peak,
        "micro_tokens": training.micro_tokens,
        "items": {f"{item.phase}/{item.name}": item.bytes for item in estimate.items},
    }


if __name__ == "__main__":
    main()
