"""Makes the embedded models: `python -m thinksmith.recipes.tiny.make FOLDER [--stage pretrain|base|tiny]`.

Three stages: `pretrain` (a common trunk), then two branches: `base` (tiny-base, with the habits of raw text: answers
without thinking, slips that nobody noticed) and `tiny` (the finished reasoner). Each is a TOML file beside this one. An
interrupted stage goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from thinksmith.policy.load import load_tokenizer
from thinksmith.problems.families import FAMILIES, stream, write_solution
from thinksmith.problems.writer import Style
from thinksmith.recipes.tiny.card import write_card
from thinksmith.recipes.tiny.tokenizer import corpus, train_tokenizer
from thinksmith.training.batches import Example
from thinksmith.training.checkpoint import save_model
from thinksmith.training.sft import SFTConfig, SFTStep, sft

HERE = Path(__file__).parent
TRUNK = "pretrain"
STAGES = (TRUNK, "base", "tiny")
# The models that two of the stages end in, and what their cards say they are.
MODELS = {
    "base": (
        "tiny-base",
        "A model that can reason but seldom does: it has the habits of raw text, most answers without working, slips "
        "that nobody noticed. Made to be trained: reinforcement learning has something to gain here.",
    ),
    "tiny": (
        "tiny",
        "The finished reasoner: it works step by step, checks itself and goes back when something does not fit. "
        "It knows arithmetic, chains, countdown, linear equations, gcd and lcm, and short word problems, nothing else.",
    ),
}


def recipe(stage: str) -> dict[str, Any]:
    return tomllib.loads((HERE / f"{stage}.toml").read_text(encoding="utf-8"))


def new_model(shape: dict[str, int], tokenizer: Any, seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 with random weights and the tokenizer's ids."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **shape,
    )
    return Qwen2ForCausalLM(config)


def source(tokenizer: Any, settings: dict[str, Any], longest: int, step: int) -> Sequence[Example]:
    """The examples of one step: problems of the training split, drawn by family weight, solved in the stage's style."""
    rng = Random(f"{settings['seed']}:{step}")
    names = rng.choices(list(FAMILIES), [settings["families"][f] for f in FAMILIES], k=settings["sequences"])
    style = Style(**settings["style"])
    texts: list[tuple[str, str]] = []
    for name in names:
        problem = next(stream(name, {}, split="train", seed=rng.getrandbits(32)))
        solution = write_solution(problem, rng, style)
        prompt = tokenizer.apply_chat_template(problem.messages, tokenize=False, add_generation_prompt=True)
        texts.append((prompt, f"{solution.thinking}\n</think>\n\n{solution.answer}<|im_end|>"))
    encoded = zip(
        tokenizer([prompt for prompt, _ in texts])["input_ids"],
        tokenizer([completion for _, completion in texts])["input_ids"],
        strict=True,
    )
    examples = [Example(tuple(prompt), tuple(completion)) for prompt, completion in encoded]
    return [example for example in examples if example.tokens <= longest]


def run(stage: str, folder: Path) -> None:
    settings = recipe(stage)
    if stage == TRUNK:
        tokenizer = train_tokenizer(corpus(settings["seed"], 4000), 1024)
        tokenizer.save_pretrained(folder / "tokenizer")
        tokenizer = load_tokenizer(folder / "tokenizer")
        model = new_model(settings["model"], tokenizer, settings["seed"])
    else:
        tokenizer = load_tokenizer(folder / TRUNK)
        model = Qwen2ForCausalLM.from_pretrained(folder / TRUNK, dtype=torch.float32)
    if torch.cuda.is_available():
        model.to("cuda")
    print(f"{stage}: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    config = SFTConfig(**settings["training"])
    sft(
        model,
        partial(source, tokenizer, settings, settings["longest"]),
        config,
        pad_id=tokenizer.pad_token_id,
        folder=folder / "checkpoints" / stage,
        on_step=_log(folder / f"{stage}.jsonl"),
    )
    if stage == TRUNK:
        save_model(folder / TRUNK, model, tokenizer)
        return
    name, about = MODELS[stage]
    save_model(folder / name, model.to(torch.bfloat16), tokenizer)
    stages = {TRUNK: recipe(TRUNK), stage: settings}
    write_card(folder / name, name, about, stages, {key: folder / f"{key}.jsonl" for key in stages})


def _log(path: Path) -> Callable[[SFTStep], None]:
    losses: list[float] = []

    def on_step(step: SFTStep) -> None:
        losses.append(step.loss)
        with path.open("a", encoding="utf-8") as file:
            row = {"step": step.step, "loss": step.loss, "tokens": step.tokens, "seconds": step.seconds}
            file.write(json.dumps(row) + "\n")
        if step.step % 20 == 0:
            recent = losses[-20:]
            speed = step.tokens / step.seconds
            mean = sum(recent) / len(recent)
            print(f"step {step.step}  loss {mean:.4f}  grad {step.grad_norm:.2f}  {speed:,.0f} tok/s", flush=True)

    return on_step


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m thinksmith.recipes.tiny.make", description=__doc__)
    parser.add_argument("folder", type=Path, help="where tokenizer, checkpoints and models are written")
    parser.add_argument("--stage", choices=STAGES, action="append", help="only this stage (may be given again)")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for stage in options.stage or STAGES:
        run(stage, options.folder)


if __name__ == "__main__":
    main()
