"""The models and the workloads of `rollout.py`."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

from thinksmith.policy.policy import Policy

WORKLOADS = ("equal", "lognormal", "group")
Parts = tuple[int, int, int]
MODELS = {"cpu": ["tiny", "25m", "0.6b"], "cuda": ["1.5b"]}
COMMON = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": 0, "tie_word_embeddings": True}


@dataclass(frozen=True)
class Workload:
    """Prompts, and for each the tokens that its `samples` samples get."""

    prompts: list[list[int]]
    lengths: list[int]
    samples: int = 1

    @property
    def tokens(self) -> int:
        return self.samples * sum(self.lengths)

    @property
    def rows(self) -> list[tuple[list[int], int]]:
        """The prompt and the length of every sample."""
        return [pair for pair in zip(self.prompts, self.lengths, strict=True) for _ in range(self.samples)]

    def part(self, divisor: int) -> Workload:
        """The longest request, the one `divisor` places behind it, and so on: as unequal as the whole."""
        falling = sorted(range(len(self.lengths)), key=lambda index: -self.lengths[index])
        kept = sorted(falling[::divisor])
        return replace(self, prompts=[self.prompts[i] for i in kept], lengths=[self.lengths[i] for i in kept])

    def shortened(self, length: int) -> Workload:
        return replace(self, lengths=[min(length, each) for each in self.lengths])


@dataclass(frozen=True)
class Shape:
    """A model, how large its workloads are, and which part (1/n) of them the slow peers do: never so few requests that
    those which a peer has at one time are not refilled."""

    config: Any
    requests: Parts = (128, 256, 16)  # of equal, lognormal and group
    prompt: int = 512  # tokens of a prompt of `group`
    mean: int = 128  # tokens of a completion on average,
    most: int = 1024  # and at most
    parts: dict[str, Parts] = field(default_factory=dict)
    slots: int = 256
    allowance: float = 100.0  # seconds that the engine's repetitions of one workload may take

    @property
    def full(self) -> bool:
        """Are these the workloads that the goals are about?"""
        whole = Shape(self.config)
        return (self.requests, self.prompt, self.mean, self.most) == (
            whole.requests, whole.prompt, whole.mean, whole.most,
        )  # fmt: skip


SHAPES: dict[str, Shape] = {
    "tiny": Shape(
        Qwen2Config(
            vocab_size=1024, hidden_size=160, intermediate_size=416, num_hidden_layers=6, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=2048, **COMMON,
        ),
        parts={
            "generate_static": (1, 2, 1), "generate_batch": (1, 2, 4),
        },
    ),
    "25m": Shape(
        Qwen2Config(
            vocab_size=8192, hidden_size=384, intermediate_size=1536, num_hidden_layers=10, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=2048, **COMMON,
        ),
        parts={
            "generate": (1, 8, 4), "generate_static": (1, 8, 4), "generate_sorted": (1, 2, 1),
            "generate_batch": (4, 4, 8), "llama.cpp": (1, 2, 2),
        },
        allowance=75.0,
    ),
    "0.6b": Shape(
        Qwen3Config(
            vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
            num_key_value_heads=8, head_dim=128, max_position_embeddings=4096, **COMMON,
        ),
        requests=(16, 16, 1), prompt=64, mean=16, most=64, slots=16, allowance=25.0,
    ),
    "1.5b": Shape(
        Qwen2Config(
            vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
            num_key_value_heads=2, max_position_embeddings=4096, **COMMON,
        ),
    ),
}  # fmt: skip


def short(shape: Shape) -> Shape:
    """For --quick."""
    return replace(shape, mean=32, most=256, prompt=128, parts={"generate_batch": (4, 4, 8)})


def device_type() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def make_policy(shape: Shape, device: torch.device) -> Policy:
    """Random weights, float32 on a CPU and bfloat16 on a GPU; a vocabulary of numbers and no end of turn."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        network = AutoModelForCausalLM.from_config(shape.config, dtype=dtype).eval()
    words = {f"<{index}>": index for index in range(shape.config.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="<0>")))
    return Policy(network, tokenizer, "bench")


def workloads(shape: Shape) -> dict[str, Workload]:
    draw = random.Random(0)
    equal, unequal, groups = shape.requests

    def prompts(count: int, shortest: int, longest: int) -> list[list[int]]:
        ids = range(8, shape.config.vocab_size)
        return [[draw.choice(ids) for _ in range(draw.randint(shortest, longest))] for _ in range(count)]

    raw = [draw.lognormvariate(0, 0.9) for _ in range(unequal)]
    lengths = [max(1, min(shape.most, round(each * unequal * shape.mean / sum(raw)))) for each in raw]
    return {
        "equal": Workload(prompts(equal, 20, 40), [shape.mean] * equal),
        "lognormal": Workload(prompts(unequal, 20, 40), lengths),
        "group": Workload(prompts(groups, shape.prompt, shape.prompt), [shape.mean] * groups, samples=16),
    }
