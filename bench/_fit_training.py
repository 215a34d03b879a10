"""How much memory training takes, beside what `thinksmith.fit` says; each setting in a process of its own.

python bench/_fit_training.py [--quick]        # a table, and a JSON list as the last line
python bench/_fit_training.py --one NAME       # one setting, in this process
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

MEGA = 1e6
COMMON = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": 0, "max_position_embeddings": 4096}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("qwen2", {"vocab_size": 1024, "hidden_size": 160, "intermediate_size": 416, "num_hidden_layers": 6,
                       "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "25m": ("qwen2", {"vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 10,
                      "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "120m": ("llama", {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12,
                       "num_attention_heads": 12, "num_key_value_heads": 4, "tie_word_embeddings": False}),
    "0.5b": ("qwen2", {"vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                       "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "0.6b": ("qwen3", {"vocab_size": 8192, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                       "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
                       "tie_word_embeddings": True}),
    "1.5b": ("qwen2", {"vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
                       "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True}),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A model's shape, the fields of a `Training`, and whether it is quick."""

    shape: str
    training: dict[str, Any]
    quick: bool = False


def grpo(prompts: int, count: int, prompt: int, most: int, micro: int, **more: Any) -> dict[str, Any]:
    return {"method": "grpo", "prompts": prompts, "num_generations": count, "prompt_tokens": prompt,
            "max_tokens": most, "micro_tokens": micro, **more}  # fmt: skip


def sft(batch: int, length: int, micro: int, **more: Any) -> dict[str, Any]:
    return {"method": "sft", "batch": batch, "length": length, "micro_tokens": micro, **more}


LORA = {"tuning": "lora", "lora_rank": 16}
SETTINGS = {
    "tiny sft": Setting("tiny", sft(32, 512, 8192), quick=True),
    "tiny grpo": Setting("tiny", grpo(16, 16, 32, 224, 8192), quick=True),
    "25m sft": Setting("25m", sft(8, 1024, 4096), quick=True),
    "25m sft muon": Setting("25m", sft(8, 512, 2048, optimizer="muon")),
    "25m grpo": Setting("25m", grpo(4, 16, 64, 192, 4096)),
    "120m sft": Setting("120m", sft(4, 512, 1024)),
    "120m sft bf16": Setting("120m", sft(4, 512, 1024, precision="bf16")),
    "120m sft mixed": Setting("120m", sft(4, 512, 1024, precision="mixed")),
    "120m grpo": Setting("120m", grpo(2, 8, 64, 192, 1024)),
    "120m grpo lora": Setting("120m", grpo(2, 8, 64, 192, 1024, **LORA)),
    "0.5b sft": Setting("0.5b", sft(1, 64, 64)),
    "0.5b sft bf16": Setting("0.5b", sft(2, 256, 256, precision="bf16")),
    "0.5b sft lora": Setting("0.5b", sft(2, 512, 512, **LORA)),
    "0.5b grpo lora": Setting("0.5b", grpo(1, 4, 32, 96, 256, **LORA)),
    "0.6b sft bf16": Setting("0.6b", sft(2, 256, 256, precision="bf16")),
    "1.5b sft lora bf16": Setting("1.5b", sft(1, 256, 256, precision="bf16", **LORA)),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", choices=SETTINGS)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(SETTINGS[arguments.one])))
        return
    names = [name for name, each in SETTINGS.items() if (each.quick or not arguments.quick) and arguments.only in name]
    print(json.dumps([in_child(name) for name in names]))


def in_child(name: str) -> dict[str, Any]:
    """One setting, measured in a process of its own, as bytes: `before` the model came, the `peak`, `predicted`."""
    command = [sys.executable, __file__, "--one", name]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    if out.returncode:
        raise SystemExit(f"{name} failed with {out.returncode}: {out.stderr[-2000:]}")
    row: dict[str, Any] = {"name": name, **json.loads(out.stdout.splitlines()[-1])}
    process, growth = row["predicted"] / row["peak"] - 1, row["predicted_growth"] / (row["peak"] - row["before"]) - 1
    print(
        f"{name:22} peak {row['peak'] / MEGA:7,.0f} MB, predicted {row['predicted'] / MEGA:7,.0f} ({process:+.1%}); "
        f"growth {(row['peak'] - row['before']) / MEGA:7,.0f}, predicted {row['predicted_growth'] / MEGA:7,.0f} "
        f"({growth:+.1%}) {row['at']}",
        flush=True,
    )
    return row


def measure(setting: Setting) -> dict[str, Any]:
    import torch

    from thinksmith.fit.memory.runtime import runtime_items
    from thinksmith.fit.memory.training import Training, training_memory
    from thinksmith.fit.shapes.configs import shape_of
    from thinksmith.fit.speed.device import Device
    from thinksmith.training.fits import map_blocks

    training = Training(**setting.training)
    if training.method == "grpo":
        import thinksmith.training.rl.run  # noqa: F401  all that is loaded for a run
    map_blocks(torch.device("cpu"))
    warm_up()
    gc.collect()
    before = status("VmRSS")
    policy = make_policy(setting.shape, torch.bfloat16 if training.precision == "bf16" else torch.float32)
    if training.tuning == "lora":
        from thinksmith.policy.adapter import LoRA, add_lora

        add_lora(policy, LoRA(training.lora_rank))
    made = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    train_sft(policy, training) if training.method == "sft" else train_grpo(policy, training)
    peak = status("VmHWM")

    device = Device("here", "this machine", "cpu", 1 << 40, 1.0, {})
    estimate = training_memory(shape_of(policy.model.config.to_dict(), setting.shape), training, device)
    runtime = sum(item.bytes for item in runtime_items("local", device)) + estimate.named("trainer")
    return {
        "shape": setting.shape, "training": setting.training, "before": before, "model": made - before, "peak": peak,
        "predicted": estimate.total, "predicted_growth": estimate.total - runtime, "at": estimate.peak,
        "items": {f"{item.phase}/{item.name}": item.bytes for item in estimate.items},
    }  # fmt: skip


def warm_up() -> None:
    """All that a process loads or makes once: a first training step, and a first request, of the smallest model."""
    from thinksmith.fit.memory.training import Training

    policy = make_policy("tiny", None)
    train_sft(policy, Training(length=16, batch=2))
    train_grpo(policy, Training(**grpo(1, 2, 8, 8, 64)))


def make_policy(name: str, dtype: Any) -> Any:
    """Random weights, and a vocabulary of numbers."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    from thinksmith.policy.policy import Policy

    kind, fields = SHAPES[name]
    config = AutoConfig.for_model(kind, **COMMON, **fields)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype or torch.float32).eval()
    words = {f"<{index}>": index for index in range(1024)}
    made = Tokenizer(WordLevel(words, unk_token="<0>"))
    made.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return Policy(model, tokenizer, name)


def train_sft(policy: Any, training: Any) -> None:
    from thinksmith.training.batches import Example
    from thinksmith.training.sft import SFTConfig, sft

    ids = tuple(8 + index % 512 for index in range(training.length - 1))
    config = SFTConfig(
        steps=2, optimizer=training.optimizer, micro_tokens=training.micro_tokens or training.length,
        bf16=training.precision == "mixed",
    )  # fmt: skip
    sft(policy.model, lambda step: [Example((1,), ids)] * training.batch, config, pad_id=0)


def train_grpo(policy: Any, training: Any) -> None:
    """Two steps as `grpo.train` makes them. Random weights earn nothing, so the rewards are made up."""
    from thinksmith.engines.local.engine import LocalEngine
    from thinksmith.records import Problem
    from thinksmith.training.optimizer import Optimizers
    from thinksmith.training.rl.prompts import Prompts
    from thinksmith.training.rl.recipe import GRPORecipe
    from thinksmith.training.rl.rewards import scorer
    from thinksmith.training.rl.rollout import roll_out
    from thinksmith.training.rl.update import update

    sizes = {"prompts": training.prompts, "num_generations": training.num_generations}
    recipe = GRPORecipe.model_validate(
        {
            "rollout": sizes | {"max_tokens": training.max_tokens},
            "training": {"lr": 1e-5, "optimizer": training.optimizer, "micro_tokens": training.micro_tokens},
        }
    )
    problems = [
        Problem(str(index), " ".join(f"<{8 + (index + each) % 512}>" for each in range(training.prompt_tokens)),
                "1")
        for index in range(training.prompts)
    ]  # fmt: skip
    engine, optimizers = LocalEngine(policy), Optimizers(policy.model, training.optimizer, 1e-5)
    prompts, rewarded = Prompts(problems, 0, recipe.curriculum), scorer(recipe.rewards, max_tokens=training.max_tokens)
    for step in range(2):
        drawn = roll_out(engine, prompts, recipe.rollout, rewarded, seed=0, step=step)
        engine.release()
        rewards = tuple(float(index % 2) for index in range(len(drawn.attempts)))
        update(policy, replace(drawn, rewards=rewards), recipe, optimizers, 1.0)


def status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
