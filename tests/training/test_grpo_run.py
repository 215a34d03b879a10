"""A whole GRPO run: what it leaves, repeated from its recipe, killed, interrupted, and asked for what cannot be."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from training_kit import in_child, same_bits, untimed, weights
from transformers import AutoModelForCausalLM

from thinksmith.errors import UserError
from thinksmith.evaluate.report import read_metrics
from thinksmith.policy.load import load_tokenizer
from thinksmith.recipes.load import load, to_toml
from thinksmith.records import Attempt
from thinksmith.store.store import Store
from thinksmith.training.alarms import Alarm
from thinksmith.training.rl.recipe import EvaluationTable, GRPORecipe, RolloutTable, TrainingTable
from thinksmith.training.rl.run import Result, run

STEPS = 5


def recipe_for(words: Path, **changes: Any) -> GRPORecipe:
    """Rewarded for the form alone: what the nine-word model can do now and then, so that every step moves it."""
    settings = {
        "model": str(words),
        "problems": "divisors",
        "instruction": "say yes or no",
        "steps": STEPS,
        "rollout": RolloutTable(prompts=3, num_generations=8, max_tokens=8, pool=16),
        "training": TrainingTable(lr=3e-3, save_every=2, warmup=1),
        "evaluation": EvaluationTable(problems="divisors", n=6, max_tokens=8),
        "rewards": {"think_format": 1.0, "correctness": 0.5},
    }
    return GRPORecipe(**(settings | changes))


@dataclass
class Watcher:
    """Keeps what it is shown; `on_step` may put an end to it."""

    on_step: Callable[[int], object] = lambda step: None
    stages: list[tuple[str, int]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)

    def stage(self, stage: str, total: int) -> None:
        self.stages.append((stage, total))

    def attempt(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def step(self, metrics: dict[str, float]) -> None:
        self.steps.append(int(metrics["step"]))
        self.on_step(self.steps[-1])

    def alarm(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)


def do(recipe: GRPORecipe, folder: Path, watcher: Watcher | None = None) -> Result:
    with Store.open(folder.parent / "store.db") as store:
        return run(recipe, folder, store, watcher or Watcher())


def trained(folder: Path) -> dict[str, Any]:
    return weights(AutoModelForCausalLM.from_pretrained(folder / "model"))


@dataclass(frozen=True)
class Done:
    recipe: GRPORecipe
    result: Result
    watcher: Watcher


@pytest.fixture(scope="module")
def done(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run that nothing disturbed."""
    recipe, watcher = recipe_for(words), Watcher()
    return Done(recipe, do(recipe, tmp_path_factory.mktemp("done") / "run", watcher), watcher)


def test_what_a_run_folder_holds(done: Done, words: Path) -> None:
    folder = done.result.folder
    assert load(str(folder), GRPORecipe) == done.recipe
    facts = json.loads((folder / "facts.json").read_text())
    assert {"torch", "transformers", "thinksmith", "python"} <= facts["versions"].keys()
    assert len(facts["weights_hash"]) == 64
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(row["kept_share"] > 0 for row in rows[:2])
    assert "<script" not in (folder / "report.html").read_text()
    told = json.loads((folder / "result.json").read_text())
    assert told["run"] == done.result.run_id
    assert told["after"]["accuracy"]["problems"] == 6
    assert not list(folder.glob("**/.*"))
    text = "<user> say yes <think> hm </think> no <end>"
    one, other = load_tokenizer(folder / "model"), load_tokenizer(words)
    assert one(text)["input_ids"] == other(text)["input_ids"] == [3, 0, 7, 4, 6, 5, 8, 2]
    assert one.chat_template == other.chat_template
    assert not same_bits(trained(folder), weights(AutoModelForCausalLM.from_pretrained(words)))


def test_every_column_is_documented(done: Done) -> None:
    doc = (Path(__file__).parents[2] / "docs" / "grpo.md").read_text(encoding="utf-8")
    table = doc.split("| column |")[1].split("\n\n")[0]
    documented = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`(.+?)`", row)}
    columns = {re.sub("/.*", "/NAME", key) for row in read_metrics(done.result.folder / "metrics.jsonl") for key in row}
    measured = {f"held_out_{name}" for name in ("accuracy", "low", "high", "n")} | {"evaluate_seconds"}
    # Not in this run: measurements, a curriculum, and equations.
    assert columns == documented - measured - {"curriculum/NAME", "true_equation_share"}


def test_what_a_watcher_sees_and_the_store_keeps(done: Done) -> None:
    assert done.watcher.stages == [("before", 6), ("training", STEPS), ("after", 6)]
    assert done.watcher.steps == list(range(1, STEPS + 1))
    with Store.open(done.result.folder.parent / "store.db") as store:
        assert store.run(done.result.run_id).status == "done"
        stored = [each.attempt for each in store.attempts(done.result.run_id)]
    assert len(stored) == STEPS * 3 * 8
    trained_on, measured = ({a.problem.id for a in part} for part in (stored, done.watcher.attempts))
    assert not trained_on & measured
    assert all(a.problem.text.endswith("\n\nsay yes or no") for a in (*stored, *done.watcher.attempts))
    assert {a.notes["step"] for a in stored} == set(range(1, STEPS + 1))
    for kept in stored:
        rewards = kept.notes["rewards"]
        assert kept.notes["reward"] == pytest.approx(rewards["think_format"] + 0.5 * rewards["correctness"])
        assert kept.sample // 8 // 3 == kept.notes["step"] - 1
    # Token in, token out: ids and log-probs are kept as they were trained on.
    assert all(len(a.trace.token_ids) == len(a.trace.logprobs or ()) > 0 for a in stored)


def test_a_run_is_repeated_from_the_recipe_in_its_folder(done: Done, tmp_path: Path) -> None:
    again = do(load(str(done.result.folder), GRPORecipe), tmp_path / "again")
    first, second = (read_metrics(r.folder / "metrics.jsonl") for r in (done.result, again))
    assert untimed(second) == untimed(first)
    assert same_bits(trained(again.folder), trained(done.result.folder))
    assert again.difference == done.result.difference
    assert again.after.counts == done.result.after.counts


KILLED = """
import os, signal, sys
from pathlib import Path
from test_grpo_run import Watcher, do, load, GRPORecipe
do(load(sys.argv[1], GRPORecipe), Path(sys.argv[2]), Watcher(lambda step: step == 3 and os.kill(os.getpid(), signal.SIGKILL)))
"""  # noqa: E501


def test_a_killed_run_ends_bit_for_bit_where_the_uninterrupted_one_does(done: Done, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert in_child(KILLED, done.result.folder, folder).returncode == -signal.SIGKILL
    assert [row["step"] for row in read_metrics(folder / "metrics.jsonl")] == [1, 2, 3]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')  # a line that the kill cut off
    watcher = Watcher()
    result = do(done.recipe, folder, watcher)
    assert watcher.steps == [3, 4, 5]  # the checkpoint is that of step 2
    expected = read_metrics(done.result.folder / "metrics.jsonl")
    assert untimed(read_metrics(folder / "metrics.jsonl")) == untimed(expected)
    assert same_bits(trained(folder), trained(done.result.folder))
    assert result.difference == done.result.difference
    with Store.open(tmp_path / "store.db") as store:
        assert store.run(result.run_id).attempts == STEPS * 3 * 8  # none lost, none twice
        # What was measured before training is not measured again.
        assert [run.name.split()[-2] for run in store.runs() if run.kind == "eval"] == ["after", "before"]


def test_ctrl_c_leaves_a_folder_that_can_be_resumed(words: Path, program: Path, tmp_path: Path) -> None:
    recipe = recipe_for(words, steps=100_000, training=TrainingTable(save_every=1))
    path, folder = tmp_path / "mine.toml", tmp_path / "run"
    path.write_text(to_toml(recipe))
    environment = os.environ | {"THINKSMITH_STORE": str(tmp_path / "store.db"), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [program, "grpo", path, "--out", folder],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # Where the tests run in the background, Ctrl-C is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while child.poll() is None and not list(folder.glob("checkpoints/step-*.pt")):
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    try:
        _, told = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 130, told
    assert told.count("\n") == 1
    assert f"--out {folder}" in told
    last = max(int(p.stem.removeprefix("step-")) for p in folder.glob("checkpoints/step-*.pt"))

    def stop(step: int) -> None:
        raise KeyboardInterrupt

    watcher = Watcher(stop)
    with pytest.raises(KeyboardInterrupt):
        do(load(str(folder), GRPORecipe), folder, watcher)
    assert watcher.steps == [last + 1]
    assert [row["step"] for row in read_metrics(folder / "metrics.jsonl")] == list(range(1, last + 2))


def test_another_recipe_in_the_same_folder(done: Done, words: Path) -> None:
    with pytest.raises(UserError, match="holds a run of another recipe"):
        do(recipe_for(words, seed=1), done.result.folder)
    assert load(str(done.result.folder), GRPORecipe) == done.recipe


def test_other_weights_under_the_same_name(done: Done, words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done.result.folder, folder)
    facts = json.loads((folder / "facts.json").read_text())
    (folder / "facts.json").write_text(json.dumps(facts | {"weights_hash": "0" * 64}))
    with pytest.raises(UserError, match="began from other weights"):
        do(done.recipe, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": {"corectness": 1.0}}, "unknown reward 'corectness'"),
        ({"problems": "divisor"}, "did you mean 'divisors'"),
        ({"model": "tinny"}, "did you mean tiny"),
        ({"evaluation": EvaluationTable(problems="divisors/train", n=500)}, "are both trained and measured"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    changes: dict[str, Any], message: str, words: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(words, rollout=RolloutTable(pool=500), **changes)
    with pytest.raises(UserError, match=message):
        do(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(words: Path, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match=r"cannot write the run folder .*; name another with --out"):
        do(recipe_for(words), tmp_path / "run")
