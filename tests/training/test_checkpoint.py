"""Checkpoints: cut off, with a bit turned, on a full disk, interrupted, of another model, or written by an enemy."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from training_kit import full_disk, same_bits, weights, word_policy

from thinksmith.errors import UserError
from thinksmith.training import checkpoint, durable, model_folder
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.saver import Saver
from thinksmith.training.state_file import Damaged, read_state, write_state

passed_over = pytest.mark.filterwarnings("ignore:.* is damaged and was passed over:RuntimeWarning")


class Trainee:
    """A layer, its optimiser, and a step that moves both."""

    def __init__(self, width: int = 64) -> None:
        self.model = nn.Linear(width, width)
        self.optimizers = Optimizers(self.model, "adamw", 1e-2)

    def step(self) -> None:
        self.model(torch.ones(1, self.model.in_features)).square().sum().backward()
        self.optimizers.step()

    def save(self, folder: Path, step: int, extra: dict[str, Any] | None = None) -> Path:
        return checkpoint.save(folder, step, self.model, self.optimizers, extra or {})

    def load(self, folder: Path) -> tuple[int, dict[str, Any]]:
        return checkpoint.load(folder, self.model, self.optimizers)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Trainee, dict[str, torch.Tensor]]:
    """A folder with the checkpoints of steps 1 and 2, the trainee, and its weights after step 1."""
    trainee = Trainee()
    trainee.step()
    trainee.save(tmp_path, 1, {"seen": [1, 2]})
    first = weights(trainee.model)
    trainee.step()
    trainee.save(tmp_path, 2)
    return tmp_path, trainee, first


def test_nothing_saved_is_a_fresh_start(tmp_path: Path) -> None:
    assert Trainee().load(tmp_path / "none") == (0, {})


def test_a_loaded_run_goes_on_bit_for_bit(saved: tuple[Path, Trainee, dict[str, torch.Tensor]]) -> None:
    folder, trainee, _ = saved
    other = Trainee()
    assert other.load(folder) == (2, {})
    for each in (trainee, other):
        each.step()
    assert same_bits(weights(trainee.model), weights(other.model))


@passed_over
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9999])
def test_a_file_that_was_cut_off_falls_back_to_the_one_before(
    share: float, saved: tuple[Path, Trainee, dict[str, torch.Tensor]]
) -> None:
    folder, _, first = saved
    newest = folder / "step-000002.pt"
    newest.write_bytes(newest.read_bytes()[: int(newest.stat().st_size * share)])
    other = Trainee()
    assert other.load(folder) == (1, {"seen": [1, 2]})
    assert same_bits(weights(other.model), first)


def test_two_are_kept_and_what_a_kill_left_is_cleared(tmp_path: Path) -> None:
    trainee = Trainee()
    (tmp_path / ".step-000009.part").write_bytes(b"half a checkpoint")
    for step in (9, 10, 11):  # the order is by number, not by text
        trainee.save(tmp_path, step)
    assert sorted(os.listdir(tmp_path)) == ["step-000010.pt", "step-000011.pt"]


def test_a_full_disk_is_told_in_a_line_and_the_old_one_stays(
    saved: tuple[Path, Trainee, dict[str, torch.Tensor]],
) -> None:
    folder, trainee, _ = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with full_disk(20_000), pytest.raises(UserError, match=r"cannot write the checkpoint .*step-000003.pt: File too"):
        trainee.save(folder, 3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with (
        full_disk(20_000),
        pytest.raises(UserError, match="; the checkpoint of step 2 is kept; free some space and res"),
    ):
        trainee.save(folder, 3)


@pytest.mark.parametrize("size", [0, 10, 3000, 40_000, 49_000])
def test_a_disk_that_is_full_from_the_first(size: int, tmp_path: Path) -> None:
    trainee = Trainee()
    trainee.step()
    with full_disk(size), pytest.raises(UserError, match=r"pt: File too large; free some space and resume$"):
        trainee.save(tmp_path, 1)
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the checkpoint"):
        Trainee().save(tmp_path / "file", 1)


class Evil:
    """Unpickled, it would run a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@passed_over
@pytest.mark.parametrize("dump", ["ours", "torch", "pickle"])
def test_a_checkpoint_cannot_run_code(dump: str, saved: tuple[Path, Trainee, dict[str, torch.Tensor]]) -> None:
    folder, trainee, _ = saved
    mark, newest = folder / "pwned", folder / "step-000003.pt"
    state = read_state(folder / "step-000002.pt") | {"step": 3, "extra": Evil(mark)}
    if dump == "ours":
        write_state(newest, state)
    elif dump == "torch":
        torch.save(state, newest)
    else:
        newest.write_bytes(pickle.dumps(state))
    assert trainee.load(folder)[0] == 2
    for path in folder.glob("step-00000[12].pt"):
        path.unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        trainee.load(folder)
    assert not mark.exists()


@passed_over
@pytest.mark.parametrize("content", [3, {"step": 3}, {"step": 3, "model": {}}])
def test_another_programs_file_is_no_checkpoint(
    content: Any, saved: tuple[Path, Trainee, dict[str, torch.Tensor]]
) -> None:
    folder, trainee, _ = saved
    torch.save(content, folder / "step-000003.pt")
    assert trainee.load(folder)[0] == 2


def test_a_checkpoint_of_another_model_is_told(saved: tuple[Path, Trainee, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(UserError, match="is of another model or optimiser"):
        Trainee(width=65).load(saved[0])


def test_a_model_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, policy = tmp_path / "model", word_policy()
    model_folder.save_model(folder, policy.model, policy.tokenizer)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with full_disk(20_000), pytest.raises(UserError, match=r"cannot write the model .*: File too large; free some"):
        model_folder.save_model(folder, policy.model, policy.tokenizer)
    assert os.listdir(tmp_path) == ["model"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert capfd.readouterr() == ("", "")  # no bar of transformers' in the middle of a live display


def test_a_kill_between_two_renames_loses_no_model(tmp_path: Path) -> None:
    folder, policy = tmp_path / "model", word_policy()
    model_folder.save_model(folder, policy.model, policy.tokenizer)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.rename(tmp_path / ".model.old")
    (tmp_path / ".model.part").mkdir()
    with full_disk(20_000), pytest.raises(UserError, match="cannot write the model"):
        model_folder.save_model(folder, policy.model, policy.tokenizer)
    assert os.listdir(tmp_path) == ["model"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_turned_bit_is_found_wherever_it_is(
    saved: tuple[Path, Trainee, dict[str, torch.Tensor]], data: st.DataObject
) -> None:
    path = saved[0] / "step-000001.pt"
    content = bytearray(path.read_bytes())
    # The head and the tail are short beside the tensors; they get their share.
    place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 120) | st.integers(1, 20).map(lambda n: -n))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    turned = saved[0] / "turned"
    turned.write_bytes(content)
    with pytest.raises(Damaged):
        read_state(turned)


def test_what_is_damaged_is_told_and_never_kept_instead_of_what_is_whole(
    saved: tuple[Path, Trainee, dict[str, torch.Tensor]],
) -> None:
    folder, trainee, _ = saved
    newest = folder / "step-000002.pt"
    newest.rename(folder / "step-000009.pt").write_bytes(b"no checkpoint")
    with pytest.warns(RuntimeWarning, match=r"step-000009.pt is damaged and was passed over"):
        assert trainee.load(folder)[0] == 1
    checkpoint.save(folder, 2, trainee.model, trainee.optimizers, {}, keep=1)
    assert os.listdir(folder) == ["step-000002.pt"]


tensors = st.sampled_from(
    [
        torch.tensor(2.5),
        torch.zeros(0, 3),
        torch.arange(6, dtype=torch.bfloat16).view(2, 3).T,
        torch.tensor([True, False]),
        torch.arange(10)[::3],
        torch.tensor([1.0, float("nan"), -0.0], dtype=torch.float64),
    ]
)
numbers = st.integers() | st.floats(allow_nan=False)
plain = st.none() | st.booleans() | numbers | st.text(max_size=4)
states = st.recursive(
    plain | tensors,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(numbers | st.text(), inner),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    """Equal in structure, types, shapes and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other)]
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*bits)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@given(state=states)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_state_comes_back_as_it_was(state: Any, tmp_path: Path) -> None:
    write_state(tmp_path / "state", state)
    assert same(read_state(tmp_path / "state"), state)
    assert os.listdir(tmp_path) == ["state"]


def draw() -> list[float]:
    """A number of each global generator."""
    return [random.random(), random.gauss(0, 1), np.random.normal(), torch.rand(1).item()]  # noqa: NPY002


def test_all_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    trainee = Trainee()
    draw()  # an odd number of normal draws: the second of a pair is kept by the generators
    trainee.save(tmp_path, 1)
    expected = draw()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(12345)
    assert all(a != b for a, b in zip(draw(), expected, strict=True))
    trainee.load(tmp_path)
    assert draw() == expected


class Adapted(nn.Module):
    """A frozen base with a small trained part, a buffer, and one that is not to be kept."""

    def __init__(self, frozen: str = "base") -> None:
        super().__init__()
        self.add_module(frozen, nn.Linear(200, 200).requires_grad_(False))
        self.lora = nn.Linear(200, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("scratch", torch.rand(3), persistent=False)


def test_frozen_weights_are_not_written_and_must_be_the_same(tmp_path: Path) -> None:
    model, other = Adapted(), Adapted()
    path = checkpoint.save(tmp_path, 1, model, Optimizers(model, "adamw", 1e-2), {}, base="weights A")
    assert path.stat().st_size < 200 * 200 * 4 / 2
    base, scratch = other.base.weight.clone(), other.scratch.clone()
    with torch.no_grad():
        other.norm.running_mean += 1
    assert checkpoint.load(tmp_path, other, Optimizers(other, "adamw", 1e-2), base="weights A") == (1, {})
    assert torch.equal(other.lora.weight, model.lora.weight)
    assert torch.equal(other.norm.running_mean, model.norm.running_mean)
    assert torch.equal(other.base.weight, base)
    assert torch.equal(other.scratch, scratch)
    untouched = other.lora.weight.clone()
    for wrong, name in ((other, "weights B"), (Adapted("basis"), "weights A"), (nn.Linear(2, 2), "weights A")):
        with pytest.raises(UserError, match="is of another model"):
            checkpoint.load(tmp_path, wrong, Optimizers(wrong, "adamw", 1e-2), base=name)
    assert torch.equal(other.lora.weight, untouched)


def test_another_optimiser_changes_nothing(tmp_path: Path) -> None:
    policy = word_policy()
    checkpoint.save(tmp_path, 1, policy.model, Optimizers(policy.model, "adamw", 1e-2), {})
    other = word_policy(seed=1)
    before = weights(other.model)
    with pytest.raises(UserError, match="is of another model or optimiser"):
        checkpoint.load(tmp_path, other.model, Optimizers(other.model, "muon", 1e-2))
    assert same_bits(weights(other.model), before)


def test_extra_is_plain_data_to_the_last_type(tmp_path: Path) -> None:
    trainee = Trainee()
    extra = {"a": [1, (2.5, None), {"b": True}], "seen": {3: "x"}, "rate": np.float64(0.1)}
    trainee.save(tmp_path, 1, extra)
    assert same(trainee.load(tmp_path)[1], extra | {"rate": 0.1})
    for wrong in ({1, 2}, np.int64(1), trainee, torch.ones(1)):
        with pytest.raises(TypeError, match=r"extra\['a'\]\[1\] is a .*; a checkpoint keeps plain data only"):
            trainee.save(tmp_path, 2, {"a": [0, wrong]})
    assert os.listdir(tmp_path) == ["step-000001.pt"]


@given(
    scores=st.lists(st.none() | st.sampled_from([0.0, 0.5, 0.75, float("nan")]), min_size=1, max_size=7),
    keep=st.integers(1, 3),
)
@settings(max_examples=25)
def test_the_newest_and_the_best_are_kept(
    scores: list[float | None], keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, trainee = tmp_path_factory.mktemp("best"), Trainee(2)
    for step, score in enumerate(scores, 1):
        checkpoint.save(folder, step, trainee.model, trainee.optimizers, {}, keep=keep, score=score)
    real = {step: score for step, score in enumerate(scores, 1) if score is not None and score == score}
    best = max(real, key=lambda step: (real[step], -step)) if real else None
    expected = {*range(1, len(scores) + 1)[-keep:], *({best} if best else ())}
    assert {path.name for path in folder.glob("step-*")} == {f"step-{step:06d}.pt" for step in expected}
    found = checkpoint.best(folder)
    assert (found and (found.step, found.score)) == (best and (best, real[best]))


def test_the_best_weights_can_be_had_alone(tmp_path: Path) -> None:
    trainee, other = Trainee(), Trainee()
    checkpoint.save(tmp_path, 1, trainee.model, trainee.optimizers, {}, score=1.0)
    first = weights(trainee.model)
    for step in (2, 3, 4):
        trainee.step()
        checkpoint.save(tmp_path, step, trainee.model, trainee.optimizers, {}, score=0.5)
    best = checkpoint.best(tmp_path)
    assert best is not None
    assert checkpoint.load_weights(best.path, other.model) == 1
    assert same_bits(weights(other.model), first)
    best.path.write_bytes(b"")
    with pytest.raises(UserError, match=r"step-000001.pt is damaged"):
        checkpoint.load_weights(best.path, other.model)
    best.path.unlink()
    assert checkpoint.best(tmp_path) is None
    (tmp_path / "best.json").write_text(json.dumps([1]))
    assert checkpoint.best(tmp_path) is None


@contextmanager
def interrupted_at(event: int) -> Iterator[list[int]]:
    """Ctrl-C when the process enters its `event`-th of the system calls that a save is made of."""
    left = [event]
    with pytest.MonkeyPatch.context() as patch:

        def counted(function: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt
                return function(*arguments, **options)

            return call

        patch.setattr(os, "fsync", counted(os.fsync))
        for name in ("open", "replace", "mkdir", "glob"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        yield left


@passed_over
def test_ctrl_c_in_a_save_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    trainee, step, last, ended = Trainee(), 1, 1, False
    trainee.save(tmp_path, 1)
    while not ended:
        step += 1
        trainee.step()
        try:
            with interrupted_at(step - 1):
                checkpoint.save(tmp_path, step, trainee.model, trainee.optimizers, {}, score=step)
            ended = True
        except KeyboardInterrupt:
            pass
        found = Trainee().load(tmp_path)[0]
        assert found == step if ended else found in (last, step)
        assert not list(tmp_path.glob(".*"))
        last = found
    assert step > 8  # there was something to interrupt


def test_ctrl_c_at_any_time_is_ctrl_c(tmp_path: Path) -> None:
    """By a signal that comes when it will: a library's C++ on the way would abort the process or hide it."""
    trainee, ends = Trainee(512), set()
    trainee.step()
    trainee.save(tmp_path, 1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    last = 1
    try:
        for step in range(2, 60):
            try:
                signal.setitimer(signal.ITIMER_REAL, step * 0.0005)
                trainee.save(tmp_path, step)
                signal.setitimer(signal.ITIMER_REAL, 0)
                ends.add("saved")
            except KeyboardInterrupt:
                ends.add("interrupted")
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = trainee.load(tmp_path)[0]
            assert found in (last, step)
            last = found
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "interrupted" in ends


def test_a_new_name_is_made_durable_after_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        told.append("sync " + Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    def replaced(path: Path, target: Path) -> Path:
        told.append(f"rename {path.name} {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    with durable.replacing(tmp_path / "it") as file:
        file.write(b"1")
    assert told == ["sync .it.part", "rename .it.part it", f"sync {tmp_path.name}"]


class Clock:
    """Time that passes only when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(takes=st.lists(st.floats(0.01, 5.0), min_size=3, max_size=40), save_takes=st.floats(0.001, 0.5))
@settings(max_examples=40)
def test_saving_when_it_is_cheap(
    takes: list[float], save_takes: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock, trainee, times = Clock(), Trainee(2), []

    def extra() -> dict[str, Any]:  # asked in the middle of a save, and only there
        times.append(clock.now)
        clock.now += save_takes
        return {}

    folder = tmp_path_factory.mktemp("auto")
    saver = Saver(folder, trainee.model, trainee.optimizers, steps=len(takes), clock=clock)
    saved = []
    for step, seconds in enumerate(takes, 1):
        clock.now += seconds
        if saver.after(step, extra):
            saved.append(step)
    assert saved[0] == 1
    assert saved[-1] == len(takes)
    gaps = [after - before - save_takes for before, after in pairwise(times)]
    assert all(gap >= 20 * save_takes - 1e-6 for gap in gaps[:-1])
    # No step was left out that could have been saved: the gap is at most one step longer than it must be.
    assert all(gap <= 20 * save_takes + max(takes) + 1e-6 for gap in gaps)
    assert saver.load()[0] == len(takes)


def test_saving_every_so_many_steps_and_what_is_best(tmp_path: Path) -> None:
    trainee = Trainee(2)
    saver = Saver(tmp_path, trainee.model, trainee.optimizers, steps=11, every=4, keep=1, base="b")
    scores = {2: 0.5, 3: 0.25, 5: 0.5, 6: float("nan"), 7: 0.75}
    assert [s for s in range(1, 12) if saver.after(s, lambda: {"s": 1}, score=scores.get(s))] == [1, 2, 4, 7, 8, 11]
    assert sorted(os.listdir(tmp_path)) == ["best.json", "step-000007.pt", "step-000011.pt"]
    assert saver.load() == (11, {"s": 1})
    assert saver.seconds > 0
