"""Whole runs of SFT and DPO: what a folder holds, going on after a kill, stopping early, and the user's mistakes."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import torch
from learn_kit import CLOCK, saved, traces

from thinksmith.distill.learn import Learnt, dpo, sft
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.recipes.load import checked
from thinksmith.training.supervised.recipe import DPORecipe, SFTRecipe

SMALL = {"training.micro_tokens": 1024, "batch.samples": 4, "training.save_every": 1, "training.lr": 1e-3}


class Screen:
    """Looks on and remembers."""

    def __init__(self, stop_after: int = 0) -> None:
        self.notes: list[str] = []
        self.rows: list[dict[str, float]] = []
        self.told: list[str] = []
        self.steps = 0
        self._stop_after = stop_after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def training(self, steps: int) -> None:
        self.steps = steps

    def step(self, metrics: dict[str, float]) -> None:
        self.rows.append(metrics)
        if len(self.rows) == self._stop_after:
            raise KeyboardInterrupt

    def alarm(self, alarm: Any) -> None:
        self.told.append(alarm.kind)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(traces(24, each=2), tmp_path_factory.mktemp("set") / "data.jsonl")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right and wrong traces."""
    return saved(traces(10, each=2, wrong=2), tmp_path_factory.mktemp("set") / "both.jsonl")


def taught(data: Path, folder: Path, screen: Screen | None = None, **more: Any) -> Learnt:
    recipe = checked({}, SFTRecipe, {"data": str(data), **SMALL, **more})
    return sft(recipe, folder, screen or Screen())


def preferred(data: Path, folder: Path, screen: Screen | None = None, **more: Any) -> Learnt:
    recipe = checked({}, DPORecipe, {"data": str(data), **SMALL, "training.lr": 3e-4, **more})
    return dpo(recipe, folder, screen or Screen())


def rows_of(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


def outcome(folder: Path) -> tuple[bytes, list[dict[str, float]]]:
    """What must be the same in every run."""
    adapter = folder / "adapter" / "adapter_model.safetensors"
    weights = adapter if adapter.exists() else folder / "model" / "model.safetensors"
    return weights.read_bytes(), rows_of(folder)


def test_a_run_learns_and_its_folder_tells_all(data: Path, tmp_path: Path) -> None:
    screen = Screen()
    found = taught(data, tmp_path / "a", screen, epochs=2, **{"training.lr": 3e-4})
    trained = found.trained
    assert screen.steps == trained.steps == trained.planned == len(screen.rows)
    assert found.samples + found.held_out == 48
    assert found.held_out == 2  # both traces of one problem
    assert trained.after["held_out_loss"] < trained.before["held_out_loss"]
    assert screen.rows[-1]["loss"] < screen.rows[0]["loss"]
    assert screen.rows[-1]["epoch"] == 2.0
    facts = json.loads((tmp_path / "a" / "facts.json").read_text())
    assert {"weights_hash", "data_hash", "versions", "micro_tokens", "dropped"} <= facts.keys()
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["after"]["held_out_loss"] == trained.after["held_out_loss"]
    assert "seed = 0" in (tmp_path / "a" / "recipe.toml").read_text()
    learnt = load_policy(str(tmp_path / "a" / "model"))
    base = load_policy("tiny-base")
    assert learnt.weights_hash() != base.weights_hash()
    assert learnt.render(traces(1)[0].messages) == base.render(traces(1)[0].messages)
    # Warm-up, then down a cosine to a tenth.
    rates = [row["lr"] for row in screen.rows]
    assert max(rates) == pytest.approx(3e-4)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(3e-5, rel=0.1)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_ctrl_c_and_on_is_the_undisturbed_run(data: Path, tmp_path: Path, tuning: str) -> None:
    more = {"training.tuning": tuning} | ({"lora.dropout": 0.1} if tuning == "lora" else {})
    more |= {"epochs": 2, "batch.samples": 8}
    taught(data, tmp_path / "calm", **more)
    for stop_after in (1, 3):  # in the first epoch, and in the second
        with pytest.raises(KeyboardInterrupt):
            taught(data, tmp_path / "cut", Screen(stop_after), **more)
    taught(data, tmp_path / "cut", **more)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "calm")
    taught(data, tmp_path / "cut", **more)  # a finished run is left as it is
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "calm")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import grpo_kills

    return grpo_kills


@pytest.mark.filterwarnings("error:.* is damaged")
@pytest.mark.parametrize("command", ["sft", "dpo"])
def test_killed_in_a_save_and_between_row_and_save(
    bench: ModuleType, data: Path, both: Path, tmp_path: Path, command: str
) -> None:
    """`kill -9` of the real program; it ends bit for bit where the undisturbed one does."""
    recipe = tmp_path / "small.toml"
    source = data if command == "sft" else both
    recipe.write_text(
        f'data = "{source}"\nsteps = 6\n[batch]\nsamples = 4\n'
        "[training]\nlr = 1e-3\nsave_every = 1\nmicro_tokens = 1024\n"
    )
    runs = [bench.Run(recipe, tmp_path / name, command) for name in ("calm", "killed")]
    for each in runs:
        each.home.mkdir()
    calm, killed = runs
    run: Any = taught if command == "sft" else preferred
    again = {"steps": 6, "training.lr": 1e-3}
    run(source, calm.folder, **again)
    rng = Random(3)
    kills = [killed.kill(kind, 10.0, rng) for kind in ("save", "row")]
    assert all(kills), (killed.home / "told").read_text()
    assert 1 <= kills[0].rows <= kills[1].rows
    assert all(kill.rows - 1 <= kill.saved <= kill.rows for kill in kills)
    run(source, killed.folder, **again)
    assert outcome(killed.folder) == outcome(calm.folder)
    assert [row["step"] for row in rows_of(calm.folder)] == [1, 2, 3, 4, 5, 6]


def test_it_stops_early_and_keeps_the_best(data: Path, tmp_path: Path) -> None:
    """At a learning rate that destroys the model the first measurements are the best."""
    more = {
        "training.lr": 0.02,
        "steps": 30,
        "evaluation.every": 1,
        "evaluation.patience": 3,
        "evaluation.keep": "best",
    }
    found = taught(data, tmp_path / "a", **more, **{"training.save_total_limit": 1})
    losses = [row["held_out_loss"] for row in rows_of(tmp_path / "a")]
    assert len(losses) == found.trained.steps < found.trained.planned == 30
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(losses) == best + 1 + 3
    assert found.trained.kept_step == best + 1
    assert found.trained.after["held_out_loss"] == losses[best]
    whole = outcome(tmp_path / "a")
    assert taught(data, tmp_path / "a", **more, **{"training.save_total_limit": 1}).trained == found.trained
    assert outcome(tmp_path / "a") == whole
    with pytest.raises(KeyboardInterrupt):
        taught(data, tmp_path / "b", Screen(best + 2), **more, **{"training.save_total_limit": 1})
    again = taught(data, tmp_path / "b", **more, **{"training.save_total_limit": 1})
    assert again.trained == found.trained
    assert outcome(tmp_path / "b") == whole


def test_batches_by_tokens(data: Path, tmp_path: Path) -> None:
    screen = Screen()
    recipe = {"data": str(data), **SMALL, "batch.tokens": 600}
    del recipe["batch.samples"]
    found = sft(checked({}, SFTRecipe, recipe), tmp_path / "a", screen)
    assert all(row["trained_tokens"] <= 600 for row in screen.rows)
    assert sum(row["samples"] for row in screen.rows) == found.samples


def test_dpo_learns_to_prefer(both: Path, tmp_path: Path) -> None:
    screen = Screen()
    found = preferred(both, tmp_path / "a", screen, epochs=6, **{"evaluation.held_out": 0.2})
    assert screen.rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert screen.rows[-1]["pair_accuracy"] > 0.9
    assert found.trained.before["held_out_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert found.trained.after["held_out_margin"] > 0
    assert (found.samples, found.held_out) == (8 * 4, 2 * 4)
    assert json.loads((tmp_path / "a" / "reference.json").read_text())["sums"]


def test_dpo_goes_on_bit_for_bit(both: Path, tmp_path: Path) -> None:
    for tuning in ("full", "lora"):
        more = {"training.tuning": tuning, "epochs": 2}
        calm, cut = tmp_path / f"{tuning}-calm", tmp_path / f"{tuning}-cut"
        preferred(both, calm, **more)
        for stop_after in (1, 6):
            with pytest.raises(KeyboardInterrupt):
                preferred(both, cut, Screen(stop_after), **more)
        preferred(both, cut, **more)
        assert outcome(cut) == outcome(calm)


def test_a_student_whose_template_does_not_open_the_thinking_is_changed(data: Path, tmp_path: Path) -> None:
    """And the other way round; the trained model's folder has the template that it was trained with."""
    taught(data, tmp_path / "learnt", thinking="learnt", steps=1)
    learnt = load_policy(str(tmp_path / "learnt" / "model"))
    question = traces(1)[0].messages
    assert not learnt.render(question).opened
    taught(data, tmp_path / "again", thinking="prefilled", steps=1, model=str(tmp_path / "learnt" / "model"))
    assert load_policy(str(tmp_path / "again" / "model")).render(question).opened == "<think>\n"


def test_an_adapter_keeps_the_template_that_it_was_trained_with(data: Path, tmp_path: Path) -> None:
    """Its model has another one, and is left as it is."""
    screen = Screen()
    found = taught(data, tmp_path / "a", screen, thinking="learnt", steps=1, **{"training.tuning": "lora"})
    question = traces(1)[0].messages
    assert not load_policy(str(found.folder / "adapter")).render(question).opened
    assert load_policy("tiny-base").render(question).opened
    taught(data, tmp_path / "b", steps=1, **{"training.tuning": "lora"})
    assert not (tmp_path / "b" / "adapter" / "tokenizer.json").exists()
    assert not any("other ids" in note for note in screen.notes)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    more = {"steps": 3}
    taught(data, tmp_path / "calm", **more)
    with pytest.raises(KeyboardInterrupt):
        taught(data, tmp_path / "a", Screen(1), **more)
    with full_disk(1 << 20), pytest.raises(UserError, match=r"cannot write the checkpoint .* step 1 is kept"):
        taught(data, tmp_path / "a", **more)
    taught(data, tmp_path / "a", **more)
    assert outcome(tmp_path / "a") == outcome(tmp_path / "calm")


def test_a_number_that_is_none_stops_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thinksmith.training.supervised import sft as trainer

    step = trainer.take_step

    def spoilt(policy: Any, optimizers: Any, scale: float, most: float, loss: float, ranks: Any) -> float:
        weight = next(policy.model.parameters())
        if len(rows_of(tmp_path / "a")) == 2:
            weight.grad[0, 0] = torch.nan
        return step(policy, optimizers, scale, most, loss, ranks)

    with pytest.raises(KeyboardInterrupt):
        taught(data, tmp_path / "a", Screen(1), steps=4)
    monkeypatch.setattr(trainer, "take_step", spoilt)
    with pytest.raises(UserError, match=r"step 3: the gradient is not finite.*last checkpoint is kept"):
        taught(data, tmp_path / "a", steps=4)
    assert (tmp_path / "a" / "checkpoints" / "step-000002.pt").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"data": ""}, "no data to learn from"),
        ({"data": "nowhere"}, "nowhere"),
        ({"batch.max_length": 8}, r"nothing can be learnt: .*longer than 8 tokens"),
        ({"evaluation.problems": "", "evaluation.n": 5}, "evaluation.n = 5 does nothing without evaluation.problems"),
        ({"lora.rank": 4}, "does nothing without training.tuning"),
        ({"evaluation.by": "accuracy"}, "needs evaluation.problems"),
        ({"evaluation.held_out": 0.0, "evaluation.patience": 2}, "without something that is measured"),
        ({"training.sharding": "full"}, "needs several processes"),
        ({"model": "tiny-base:int8"}, "are quantised and cannot be trained"),
        ({"training.learning_rate": 1e-5}, r"TRL's learning_rate is training.lr here"),
        ({"packing": True}, "whole samples are always packed"),
        ({"track": ["nothing"]}, "unknown tracker"),
    ],
)
def test_mistakes_are_one_line(data: Path, tmp_path: Path, more: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        sft(checked({}, SFTRecipe, {"data": str(data), **SMALL, **more}), tmp_path / "a", Screen())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a" / "metrics.jsonl").exists()


def test_another_recipe_or_other_data_in_the_folder_are_refused(data: Path, tmp_path: Path) -> None:
    mine = saved(traces(6), tmp_path / "mine.jsonl")
    taught(mine, tmp_path / "a", steps=1)
    with pytest.raises(UserError, match="another recipe"):
        taught(mine, tmp_path / "a", steps=2)
    saved(traces(6, seed=9), mine)
    with pytest.raises(UserError, match="other data"):
        taught(mine, tmp_path / "a", steps=1)


def test_problems_of_another_set_may_be_held_out(data: Path, tmp_path: Path) -> None:
    other = saved(traces(3, seed=77), tmp_path / "other.jsonl")
    found = taught(data, tmp_path / "a", steps=1, **{"evaluation.data": str(other)})
    assert (found.samples, found.held_out) == (48, 3)
    with pytest.raises(UserError, match=r"both in data and in evaluation\.data"):
        taught(data, tmp_path / "b", steps=1, **{"evaluation.data": str(data)})


def test_pairs_need_right_and_wrong_ones(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of the 46 samples of .* nothing can be learnt: 46 without a counterpart"):
        preferred(data, tmp_path / "a")


def test_a_trace_that_was_cut_off_is_left_out_and_told(tmp_path: Path) -> None:
    samples = traces(8)
    samples[3] = replace(samples[3], finish="length")
    screen = Screen()
    found = taught(saved(samples, tmp_path / "data.jsonl"), tmp_path / "a", screen, steps=1)
    assert found.dropped == {"cut off": 1}
    assert any("dropped: 1 cut off" in note for note in screen.notes)
