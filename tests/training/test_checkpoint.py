"""Checkpoints: cut off, on a full disk, of another model, or written by an enemy."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_kit import full_disk, same_bits, weights, word_policy

from thinksmith.errors import UserError
from thinksmith.training import checkpoint
from thinksmith.training.optimizer import Optimizers


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


@pytest.mark.parametrize("dump", ["torch", "pickle"])
def test_a_checkpoint_cannot_run_code(
    dump: str, saved: tuple[Path, Trainee, dict[str, torch.Tensor]], recwarn: pytest.WarningsRecorder
) -> None:
    folder, trainee, _ = saved
    mark, newest = folder / "pwned", folder / "step-000003.pt"
    state = {"step": 3, "model": trainee.model.state_dict(), "optimizers": [], "extra": Evil(mark)}
    if dump == "torch":
        torch.save(state, newest)
    else:
        newest.write_bytes(pickle.dumps(state))
    assert trainee.load(folder)[0] == 2
    for path in folder.glob("step-00000[12].pt"):
        path.unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        trainee.load(folder)
    assert not mark.exists()


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
    checkpoint.save_model(folder, policy.model, policy.tokenizer)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with full_disk(20_000), pytest.raises(UserError, match=r"cannot write the model .*: File too large; free some"):
        checkpoint.save_model(folder, policy.model, policy.tokenizer)
    assert os.listdir(tmp_path) == ["model"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert capfd.readouterr() == ("", "")  # no bar of transformers' in the middle of a live display
