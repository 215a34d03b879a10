"""A sample of bench/grpo_kills.py: runs that are killed where it hurts most. And an engine whose process ends."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from training_kit import in_child

from thinksmith.recipes.load import load
from thinksmith.store.store import Store
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rl.run import run

RECIPE = """
model = "{model}"
problems = "divisors"
steps = 4
rewards = {{ think_format = 1.0, correctness = 0.5 }}

[rollout]
prompts = 3
num_generations = 8
max_tokens = 8
pool = 16

[training]
lr = 3e-3
save_every = {save_every}

[evaluation]
problems = "divisors"
n = 6
max_tokens = 8
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import grpo_kills

    return grpo_kills


class Nobody:
    """Looks on, and away."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: None


def finish(each: Any) -> None:
    """The rest of the run in this process, which has everything imported."""
    with Store.open(str(each.home / "store.db")) as store:
        run(load(str(each.recipe), GRPORecipe), each.folder, store, Nobody())


@pytest.mark.filterwarnings("error:.* is damaged")
def test_killed_in_a_save_and_between_row_and_save(bench: ModuleType, words: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE.format(model=words, save_every=1), encoding="utf-8")
    calm, killed = (bench.Run(recipe, tmp_path / name) for name in ("calm", "killed"))
    for each in (calm, killed):
        each.home.mkdir()
    finish(calm)
    rng = Random(3)
    kills = [killed.kill(kind, 10.0, rng) for kind in ("save", "row")]
    assert all(kills), (killed.home / "told").read_text()
    assert 1 <= kills[0].rows <= kills[1].rows
    assert all(kill.rows - 1 <= kill.saved <= kill.rows for kill in kills)  # at most the step of the kill is not saved
    finish(killed)
    expected, got = calm.outcome(), killed.outcome()
    assert sum(expected["attempts"].values()) >= 4 * 3 * 8
    assert [row["step"] for row in expected["metrics"]] == [1, 2, 3, 4]
    assert got == expected
    assert json.loads((killed.folder / "result.json").read_text())["difference"]


ENDS = """
from training_kit import word_policy
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.records import Request, Sampling

engine = LocalEngine(word_policy(), native=False)
ask = [Request(token_ids=(3, 0), n=8, sampling=Sampling(max_tokens=200, seed=seed)) for seed in range(60)]
jobs = [engine._prepare(request) for request in ask]
engine._enqueue(jobs)
jobs[0].done.result()
"""


def test_a_program_may_end_while_its_engine_decodes() -> None:
    """The thread is in torch then; Python 3.11 would end it there, and C++ the process: "terminate called"."""
    done = in_child(ENDS)
    assert (done.returncode, done.stderr) == (0, "")
