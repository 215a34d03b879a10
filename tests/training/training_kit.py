"""What the training tests share: a reasoning model so small that chance alone finds right answers, and plain records.

Its vocabulary is nine words, so a random model closes its thinking and says one of the answers often enough for
reinforcement learning to have something to start from.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from thinksmith.policy.policy import Policy
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.training.batches import Example
from thinksmith.training.rl.rollout import Rollout

WORDS = ("<unk>", "<pad>", "<end>", "<user>", "<think>", "</think>", "hm", "yes", "no")
TEMPLATE = (
    "{%- for message in messages -%}{{ '<user> ' + message['content'] + ' ' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<think> ' }}{%- endif -%}"
)
TIMINGS = (
    "seconds", "rollout_seconds", "verify_seconds", "train_seconds", "evaluate_seconds", "rollout_tokens_per_s",
    "train_tokens_per_s", "memory_gb",
)  # fmt: skip


def word_tokenizer() -> transformers.PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<end>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def small_model(architecture: str, vocab: int, *, seed: int = 0, spread: float = 0.1) -> Any:
    """A random model in float32, 2 layers; `spread` is the standard deviation of its weights."""
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        initializer_range=spread,
        pad_token_id=1,
        eos_token_id=2,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, f"{architecture}ForCausalLM")(config).eval()


def word_policy(seed: int = 0) -> Policy:
    return Policy(small_model("Qwen2", len(WORDS), seed=seed), word_tokenizer(), "words")


def save_words(folder: Path) -> Path:
    """The same as an ordinary model folder."""
    policy = word_policy()
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return folder


def random_examples(count: int, vocab: int, seed: int = 0) -> list[Example]:
    """Examples of very different lengths."""
    rng = Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocab) for _ in range(rng.randint(low, high)))

    return [Example(ids(1, 20), ids(1, 40)) for _ in range(count)]


def attempt(text: str = "", *, status: str = "correct", score: float = 1.0, **trace: Any) -> Attempt:
    """An attempt whose answer is `text`."""
    return Attempt(Problem("p/1", "?", "1"), Trace("", text, **trace), Verdict(status, score))  # type: ignore[arg-type]


def rollout_of(traces: Sequence[Trace], groups: Sequence[int], rewards: Sequence[float | None]) -> Rollout:
    attempts = tuple(
        Attempt(Problem(f"p/{g}", "?", "1"), t, Verdict("wrong")) for t, g in zip(traces, groups, strict=True)
    )
    return Rollout(attempts, tuple(groups), tuple(rewards), tuple({"correctness": r} for r in rewards))


def untimed(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without what the clock decides."""
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def in_child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code beside the tests, with one thread as they have."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True)
