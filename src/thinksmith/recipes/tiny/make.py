"""Makes the embedded models: `python -m thinksmith.recipes.tiny.make FOLDER [--stage pretrain|base|sft|polish]`.

Four stages: `pretrain` (a common trunk), then two branches: `base` ends in tiny-base, with the habits of raw text
(answers without thinking, slips that nobody noticed); `sft` (clean traces) and `polish` (GRPO, on what `sft` made) end
in tiny, the finished reasoner. Each is a TOML file beside this one. An interrupted stage goes on from its last
checkpoint. Two more stages, `smaller` and `larger`, make siblings of other sizes, which are measured beside tiny and
not shipped.
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

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.models import path as embedded
from thinksmith.policy.load import load_policy, load_tokenizer
from thinksmith.policy.policy import Policy
from thinksmith.problems.families import FAMILIES, stream, write_solution
from thinksmith.problems.load import load as load_problems
from thinksmith.problems.writer import Style
from thinksmith.recipes.load import load as load_recipe
from thinksmith.recipes.tiny.card import write_card
from thinksmith.recipes.tiny.tokenizer import corpus, train_tokenizer
from thinksmith.training.batches import Example
from thinksmith.training.model_folder import save_model
from thinksmith.training.rl.grpo import train
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rows import Metrics
from thinksmith.training.sft import SFTConfig, SFTStep, sft

HERE = Path(__file__).parent
TRUNK, SFT = "pretrain", "sft"
STAGES = (TRUNK, "base", SFT, "polish")
SIBLINGS = ("smaller", "larger")
# The models that two of the stages end in: the stages behind each, and what its card says it is.
MODELS = {
    "tiny-base": (
        (TRUNK, "base"),
        "A model that can reason but seldom does: it has the habits of raw text, most answers without working, slips "
        "that nobody noticed. Made to be trained: reinforcement learning has something to gain here.",
    ),
    "tiny": (
        (TRUNK, SFT, "polish"),
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
    """The examples of one step: problems of the training split, drawn by family weight, solved in the stage's style.

    A share of `at_once` of them has no thinking at all, as where an engine ends it before it began.
    """
    rng = Random(f"{settings['seed']}:{step}")
    names = rng.choices(list(FAMILIES), [settings["families"][f] for f in FAMILIES], k=settings["sequences"])
    style = Style(**settings["style"])
    texts: list[tuple[str, str]] = []
    for name in names:
        problem = next(stream(name, {}, split="train", seed=rng.getrandbits(32)))
        solution = write_solution(problem, rng, style)
        at_once = "at_once" in settings and rng.random() < settings["at_once"]
        thinking = "" if at_once else solution.thinking
        prompt = tokenizer.apply_chat_template(problem.messages, tokenize=False, add_generation_prompt=True)
        texts.append((prompt, f"{thinking}\n</think>\n\n{solution.answer}<|im_end|>"))
    encoded = zip(
        tokenizer([prompt for prompt, _ in texts])["input_ids"],
        tokenizer([completion for _, completion in texts])["input_ids"],
        strict=True,
    )
    examples = [Example(tuple(prompt), tuple(completion)) for prompt, completion in encoded]
    return [example for example in examples if example.tokens <= longest]


def pretrain(folder: Path) -> None:
    settings = recipe(TRUNK)
    train_tokenizer(corpus(settings["seed"], 4000), 1024).save_pretrained(folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer")
    model = new_model(settings["model"], tokenizer, settings["seed"])
    _fine_tune(TRUNK, folder, model, tokenizer)
    save_model(folder / TRUNK, model, tokenizer)


def base(folder: Path) -> None:
    policy = load_policy(str(folder / TRUNK), dtype="float32")
    _fine_tune("base", folder, policy.model, policy.tokenizer)
    _finish("tiny-base", folder, policy)


def sft_stage(folder: Path) -> None:
    policy = load_policy(str(folder / TRUNK), dtype="float32")
    _fine_tune(SFT, folder, policy.model, policy.tokenizer)
    save_model(folder / SFT, policy.model, policy.tokenizer)


def polish(folder: Path) -> None:
    settings = load_recipe(str(HERE / "polish.toml"), GRPORecipe)
    policy = load_policy(str(folder / SFT), dtype="float32")
    pool = load_problems(settings.problems, settings.rollout.pool, split="train", seed=settings.seed)
    work = folder / "checkpoints" / "polish"
    work.mkdir(parents=True, exist_ok=True)
    train(policy, LocalEngine(policy), pool, settings, work, on_step=_say)
    (folder / "polish.jsonl").write_bytes((work / "metrics.jsonl").read_bytes())
    _finish("tiny", folder, policy)


def sibling(stage: str, folder: Path) -> None:
    """A model of another size on tiny's tokenizer, in one stage."""
    settings = recipe(stage)
    tokenizer = load_tokenizer(embedded("tiny"))
    model = new_model(settings["model"], tokenizer, settings["seed"])
    _fine_tune(stage, folder, model, tokenizer)
    save_model(folder / stage, model, tokenizer)


def _fine_tune(stage: str, folder: Path, model: Any, tokenizer: Any) -> None:
    settings = recipe(stage)
    print(f"{stage}: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    if torch.cuda.is_available():
        model.to("cuda")
    sft(
        model,
        partial(source, tokenizer, settings, settings["longest"]),
        SFTConfig(**settings["training"]),
        pad_id=tokenizer.pad_token_id,
        folder=folder / "checkpoints" / stage,
        on_step=_log(folder / f"{stage}.jsonl"),
    )


def _finish(name: str, folder: Path, policy: Policy) -> None:
    """Save a finished model as it is shipped, with its card."""
    save_model(folder / name, policy.model.to(torch.bfloat16), policy.tokenizer)
    stages, about = MODELS[name]
    write_card(folder / name, name, about, {s: recipe(s) for s in stages}, {s: folder / f"{s}.jsonl" for s in stages})


def _say(metrics: Metrics) -> None:
    print(
        f"step {metrics['step']:.0f}  accuracy {metrics['accuracy']:.1%}  "
        f"thinking {metrics['thinking_tokens']:.0f} tokens  check {metrics['check_share']:.0%}  "
        f"{metrics['seconds']:.1f} s",
        flush=True,
    )


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
    stages = STAGES + SIBLINGS
    parser.add_argument("--stage", choices=stages, action="append", help="only this stage (may be given again)")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    run = {TRUNK: pretrain, "base": base, SFT: sft_stage, "polish": polish}
    run |= {name: partial(sibling, name) for name in SIBLINGS}
    for stage in options.stage or STAGES:
        run[stage](options.folder)


if __name__ == "__main__":
    main()
