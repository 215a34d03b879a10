"""Checkpoints: all that a run needs to go on as if it had never been stopped, in one file a step.

A file holds the weights that are trained, buffers, the optimisers, the states of the random generators, and the plain
data of the loop. Reading it cannot run code, and what a kill or a bad disk left of one is found by its sum and passed
over. Frozen weights are not in it; names and a string tell what they were.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thinksmith.errors import UserError
from thinksmith.training.durable import replacing, told
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.random_states import random_states, restore_random_states
from thinksmith.training.state_file import Damaged, read_state, write_state

_NAME = re.compile(r"step-(\d+)\.pt")
_KEYS = {"step", "base", "frozen", "weights", "buffers", "optimizers", "random", "extra"}


@dataclass(frozen=True, slots=True)
class Best:
    """The checkpoint with the highest score so far."""

    step: int
    score: float
    path: Path


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizers: Optimizers,
    extra: Mapping[str, Any],
    *,
    base: str = "",
    keep: int = 2,
    score: float | None = None,
) -> Path:
    """Write the state after `step` finished steps; of the others, the newest `keep` - 1 and the best one stay.

    `extra`: nested dict, list, tuple, str, int, float, bool, None (else TypeError). `base`: says which weights the
    frozen ones are. `score`: higher is better; the first of the highest is the best. UserError where it cannot be
    written, a full disk for one: then all is as before.
    """
    path = folder / f"step-{step:06d}.pt"
    weights, buffers = _state(model)
    state = {
        "step": step,
        "base": base,
        "frozen": _frozen(model),
        "weights": weights,
        "buffers": buffers,
        "optimizers": optimizers.state_dict(),
        "random": random_states(),
        "extra": _plain(extra, "extra"),
    }
    before = [number for number in _saved(folder) if number < step]
    kept = f"the checkpoint of step {before[-1]} is kept" if before else ""
    with told(f"the checkpoint {path}", kept):
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".*.part"):  # left by a process that was killed
            unfinished.unlink(missing_ok=True)
        write_state(path, state)
        if score is not None:
            _note_best(folder, step, score)
    _clear(folder, step, keep)
    return path


def load(folder: Path, model: nn.Module, optimizers: Optimizers, *, base: str = "") -> tuple[int, dict[str, Any]]:
    """Restore the newest whole checkpoint, random generators included. Returns (finished steps, extra); (0, {}) where
    there is none. Warns of each that is damaged and was passed over.

    Raises UserError where there are some and none can be read, or where they are of another model, base or optimiser;
    then nothing was changed.
    """
    saved = _saved(folder)
    for path in reversed(saved.values()):
        if (state := _read(path)) is None:
            warnings.warn(f"{path} is damaged and was passed over", RuntimeWarning, stacklevel=2)
            continue
        _check(path, state, model, base)
        try:
            optimizers.load_state_dict(state["optimizers"])
        except (ValueError, KeyError):
            raise _of_another(path) from None
        _fill(model, state)
        restore_random_states(state["random"])
        return int(state["step"]), dict(state["extra"])
    if saved:
        raise UserError(f"no checkpoint in {folder} can be read; remove them to begin anew")
    return 0, {}


def load_weights(path: Path, model: nn.Module, *, base: str = "") -> int:
    """Only the weights and buffers of one checkpoint, such as `best(folder).path`; returns its finished steps. Raises
    UserError where it is damaged or of another model."""
    if (state := _read(path)) is None:
        raise UserError(f"{path} is damaged or no checkpoint")
    _check(path, state, model, base)
    _fill(model, state)
    return int(state["step"])


def best(folder: Path) -> Best | None:
    """The best checkpoint that was saved with a score and is still there."""
    try:
        noted = json.loads((folder / "best.json").read_text(encoding="utf-8"))
        found = Best(int(noted["step"]), float(noted["score"]), folder / f"step-{int(noted['step']):06d}.pt")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.path.exists() else None


def _note_best(folder: Path, step: int, score: float) -> None:
    """The checkpoint is in place; a name that says so is put beside it, unless a better one is there."""
    known = best(folder)
    if math.isnan(score) or (known is not None and known.step != step and known.score >= score):
        return
    with replacing(folder / "best.json") as file:
        file.write(json.dumps({"step": step, "score": float(score)}).encode() + b"\n")


def _clear(folder: Path, step: int, keep: int) -> None:
    """Remove what is not to be kept. Steps after this one are of no run that goes on: they could not be read."""
    known = best(folder)
    saved = _saved(folder)
    stay = {*sorted(number for number in saved if number <= step)[-keep:], known.step if known else step}
    for number, path in saved.items():
        if number not in stay:
            path.unlink(missing_ok=True)


def _state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The trained parameters and the buffers, by name; a tensor of two names is there once."""
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: b for name, b in model.state_dict().items() if name not in parameters and isinstance(b, Tensor)}
    return weights, buffers


def _frozen(model: nn.Module) -> str:
    """sha256 (hex) over the names of the parameters that are not trained."""
    names = sorted(name for name, p in model.named_parameters() if not p.requires_grad)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _check(path: Path, state: Mapping[str, Any], model: nn.Module, base: str) -> None:
    """Raises UserError where the checkpoint does not fit the model to the last name, shape and type."""
    ours = _state(model)
    theirs = state["weights"], state["buffers"]
    if (state["base"], state["frozen"]) != (base, _frozen(model)) or any(
        {name: (t.shape, t.dtype) for name, t in one.items()} != {name: (t.shape, t.dtype) for name, t in other.items()}
        for one, other in zip(ours, theirs, strict=True)
    ):
        raise _of_another(path)


def _of_another(path: Path) -> UserError:
    return UserError(f"{path} is of another model or optimiser; name another folder")


@torch.no_grad()
def _fill(model: nn.Module, state: Mapping[str, Any]) -> None:
    for ours, theirs in zip(_state(model), (state["weights"], state["buffers"]), strict=True):
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])


def _plain(value: Any, where: str) -> Any:
    """The value in Python's own types, which alone are read back: not a NumPy float, though that is a float."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {_plain(key, where): _plain(each, f"{where}[{key!r}]") for key, each in value.items()}
    if isinstance(value, list | tuple):
        each_plain = [_plain(each, f"{where}[{i}]") for i, each in enumerate(value)]
        return tuple(each_plain) if isinstance(value, tuple) else each_plain
    raise TypeError(f"{where} is a {type(value).__name__}; a checkpoint keeps plain data only")


def _read(path: Path) -> Mapping[str, Any] | None:
    """What the file holds; None where it is damaged, is no checkpoint, or would run code when read."""
    try:
        state = read_state(path)
    except (Damaged, OSError):
        return None
    return state if isinstance(state, dict) and state.keys() >= _KEYS else None


def _saved(folder: Path) -> dict[int, Path]:
    """The checkpoints by their step, in its order."""
    if not folder.is_dir():
        return {}
    found = ((int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))
    return dict(sorted(found))
