"""Checkpoints that survive `kill -9`: written beside, synced, then renamed; the newest whole one is loaded.

A checkpoint holds the model, the optimisers and whatever plain data the loop wants back. It is read with
`weights_only=True`, so it cannot run code.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thinksmith.errors import UserError
from thinksmith.training.optimizer import Optimizers

_NAME = re.compile(r"step-(\d+)\.pt")


def save(folder: Path, step: int, model: nn.Module, optimizers: Optimizers, extra: Mapping[str, Any]) -> Path:
    """Write the state after `step` finished steps; older checkpoints but the last are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / f"step-{step:06d}.pt", folder / f".step-{step:06d}.part"
    state = {"step": step, "model": model.state_dict(), "optimizers": optimizers.state_dict(), "extra": dict(extra)}
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync(folder)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"cannot write the checkpoint {path}: {error.strerror}; free some space and resume") from None
    for old in _saved(folder)[:-2]:
        old.unlink(missing_ok=True)
    return path


def load(folder: Path, model: nn.Module, optimizers: Optimizers) -> tuple[int, dict[str, Any]]:
    """Restore the newest checkpoint that can be read; returns (finished steps, extra), else (0, {})."""
    for path in reversed(_saved(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError):
            continue
        model.load_state_dict(state["model"])
        optimizers.load_state_dict(state["optimizers"])
        return int(state["step"]), dict(state["extra"])
    return 0, {}


def save_model(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write an ordinary Hugging Face folder; the old one is replaced only when the new one is whole."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for one shard tells nothing
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(f"cannot write the model {folder}: {error.strerror}; free some space and resume") from None


def _saved(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def _sync(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
