"""`thinksmith sft` and `thinksmith dpo`, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from thinksmith.distill.formats import write_samples
from thinksmith.distill.sample import Sample
from thinksmith.problems.families import write_solution
from thinksmith.problems.load import load
from thinksmith.problems.writer import Style


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Right and wrong traces of twelve problems."""
    samples = []
    for number, problem in enumerate(load("mixed", 12, split="train", seed=1)):
        solved = write_solution(problem, Random(number), Style())
        for answer, status in ((solved.answer, "correct"), ("The answer is 4711.", "wrong")):
            samples.append(
                Sample(problem.id, problem.messages, solved.thinking, answer, problem.answer, problem.kind, status)
            )
    write_samples(samples, tmp_path / "data.jsonl")
    return tmp_path / "data.jsonl"


SMALL = ("--set", "batch.samples=4", "--set", "training.micro_tokens=1024")


@pytest.mark.parametrize("command", ["sft", "dpo"])
def test_with_flags_alone(cli: Callable[..., Any], data: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "run"
    arguments = (command, "--model", "tiny-base", "--data", data, "--steps", 2, "--out", out, *SMALL)
    done = cli(*arguments)
    assert done.code == 0, done.err
    assert re.search(r"2 steps on \d+ samples in \d+ s", done.out)
    assert "held-out loss  " in done.out
    assert f"model     {out / 'model'}" in done.out
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Held-out loss" in page
    assert "tiny-base" in page
    assert "<script" not in page
    assert json.loads((out / "result.json").read_text())["steps"] == 2
    again = cli(command, out)  # the folder alone: it is done
    assert again.code == 0, again.err
    other = cli(*arguments, "--lr", "0.5")
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "another recipe" in other.err


def test_with_a_recipe_and_sampled_answers(cli: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'data = "{data}"\nsteps = 2\n[batch]\nsamples = 4\n[training]\ntuning = "lora"\nmicro_tokens = 1024\n'
        '[evaluation]\nproblems = "mixed"\nn = 6\nmax_tokens = 32\nevery = 2\nby = "accuracy"\nkeep = "best"\n'
    )
    out = tmp_path / "run"
    done = cli("sft", recipe, "--out", out)
    assert done.code == 0, done.err
    assert re.search(r"held-out accuracy  \d+\.\d% → \d+\.\d% \[.*\] \(95 %, 6 problems\)", done.out)
    assert (out / "adapter" / "adapter_model.safetensors").exists()
    assert "Held-out accuracy" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("sft",), "no data to learn from"),
        (("sft", "--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("sft", "nowhere.toml"), "no recipe 'nowhere.toml'"),
        (("sft", "--data", "{data}", "--set", "batch.sample=3"), "did you mean 'samples'?"),
        (("sft", "--data", "{data}", "--set", "training.lr=fast"), "training.lr"),
        (("sft", "--data", "{data}", "--model", "nobody"), "no model 'nobody'"),
        (("sft", "--data", "{data}", "--set", "batch.max_length=9"), "longer than 9 tokens"),
        (("dpo", "--data", "{data}", "--set", "dpo.beta=0"), "dpo.beta"),
        (("dpo", "--data", "{data}", "--set", "training.sharding=full"), "needs several processes"),
    ],
)
def test_a_mistake_is_one_line(cli: Callable[..., Any], data: Path, tmp_path: Path, arguments: Any, told: str) -> None:
    done = cli(*(each.format(data=data) for each in arguments), "--out", tmp_path / "run")
    assert done.code == 2, done.out
    assert done.err.startswith("thinksmith: ")
    assert done.err.count("\n") == 1
    assert told in done.err


def test_ctrl_c_says_how_to_go_on(program: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [program, "sft", "--data", data, "--out", out, "--steps", "5000", *SMALL]
    child = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, env=os.environ)
    end = time.monotonic() + 120
    while time.monotonic() < end and not any((out / "checkpoints").glob("step-*.pt")) and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert err.count("\n") == 1
    assert f"the same command with --out {out} goes on" in err
    assert list((out / "checkpoints").glob("step-*.pt"))
