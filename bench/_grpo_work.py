"""What the benches of GRPO train on: models, prompts, and how many tokens each completion gets.

A `Work` says the sizes of a step. Lengths are given, not sampled: they are drawn once from a lognormal distribution and
forced on both sides, so both sides do the same work in every step.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from _fit_training import COMMON, SHAPES
from thinksmith import models
from thinksmith.policy.load import load_policy, load_tokenizer
from thinksmith.policy.policy import Policy
from thinksmith.problems.load import load
from thinksmith.records import Attempt, Problem

CONTEXT = 4096
MODULO = 97  # so that no group has equal rewards


@dataclass(frozen=True)
class Work:
    """A step: `prompts` × `generations` completions, prompts of about `prompt` tokens (0: problems as they are),
    completions of `mean` tokens on average and `most` at most, with the lognormal's `sigma`. `trl_rows`: sequences of
    one forward pass of TRL's (per_device_train_batch_size)."""

    prompts: int
    generations: int
    prompt: int
    mean: int
    sigma: float
    most: int
    trl_rows: int

    @property
    def rows(self) -> int:
        return self.prompts * self.generations


@dataclass(frozen=True)
class Task:
    """A work's problems, and of each by its text how many tokens its completions get."""

    problems: tuple[Problem, ...]
    lengths: dict[str, tuple[int, ...]]

    @property
    def tokens(self) -> int:
        """Of all completions of a step."""
        return sum(sum(each) for each in self.lengths.values())


def task_of(work: Work, policy: Policy, seed: int = 0) -> Task:
    problems = load("mixed", work.prompts, split="train", seed=seed)
    if work.prompt:
        problems = [_longer(work.prompt, policy, index) for index in range(work.prompts)]
    lengths = lengths_of(work, seed)
    return Task(
        tuple(problems),
        {
            problem.text: tuple(lengths[index * work.generations : (index + 1) * work.generations])
            for index, problem in enumerate(problems)
        },
    )


def lengths_of(work: Work, seed: int = 0) -> list[int]:
    """One for each completion, between 2 and `most`; the mean is a little less than asked where many are cut."""
    draw = random.Random(seed)
    raw = [draw.lognormvariate(0, work.sigma) for _ in range(work.rows)]
    return [max(2, min(work.most, round(each * work.rows * work.mean / sum(raw)))) for each in raw]


def _longer(tokens: int, policy: Policy, seed: int) -> Problem:
    """Other problems' texts, one after the other, cut where the prompt would have more tokens."""
    words = " ".join(each.text for each in load("mixed", 40, split="train", seed=seed + 1)).split()
    few, many = 1, len(words)
    while many - few > 1:
        half = (few + many) // 2
        text = " ".join(words[:half])
        fits = len(policy.render(Problem("", text).messages).ids) <= tokens
        few, many = (half, many) if fits else (few, half)
    return Problem(f"bench/train/{seed}", " ".join(words[:few]), "1")


def make_policy(name: str) -> Policy:
    """`tiny` is tiny-base; others have random weights in the shape of that name, and tiny-base's tokenizer. float32 on
    a CPU, bfloat16 on a GPU. The context is long enough for all works."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "tiny":
        policy = load_policy("tiny-base")
        policy.model.config.max_position_embeddings = CONTEXT
        return policy
    torch.manual_seed(0)
    tokenizer = tokenizer_of_tiny()
    kind, fields = SHAPES[name]
    ends: dict[str, Any] = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(kind, **(COMMON | fields | ends))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    return Policy(model, tokenizer, name)


def tokenizer_of_tiny() -> PreTrainedTokenizerBase:
    return load_tokenizer(models.path("tiny-base"))


def text_reward(attempt: Attempt) -> float:
    """Costs nothing and differs within every group."""
    return float(len(attempt.trace.completion) % MODULO)


def text_reward_trl(completions: list[Any], **_: Any) -> list[float]:
    """The same for TRL."""
    return [float(len(completion[0]["content"]) % MODULO) for completion in completions]
