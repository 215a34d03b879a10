"""Checkpoints that survive `kill -9`: written beside, synced, then renamed; the newest whole one is loaded.

A checkpoint holds the model, the optimisers and whatever plain data the loop wants back. It is read with
`weights_only=True`, so it cannot run code.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from thinksmith.errors import UserError
from thinksmith.training.optimizer import Optimizers

_NAME = re.compile(r"step-(\d+)\.pt")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def save(folder: Path, step: int, model: nn.Module, optimizers: Optimizers, extra: Mapping[str, Any]) -> Path:
    """Write the state after `step` finished steps; older checkpoints but the last are removed."""
    path, part = folder / f"step-{step:06d}.pt", folder / f".step-{step:06d}.part"
    state = {"step": step, "model": model.state_dict(), "optimizers": optimizers.state_dict(), "extra": dict(extra)}
    with _told(f"the checkpoint {path}"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync(folder)
        finally:
            # Not only this one: a process that was killed may have left another.
            for unfinished in folder.glob(".step-*.part"):
                unfinished.unlink(missing_ok=True)
        for old in _saved(folder)[:-2]:
            old.unlink(missing_ok=True)
    return path


def load(folder: Path, model: nn.Module, optimizers: Optimizers) -> tuple[int, dict[str, Any]]:
    """Restore the newest checkpoint that can be read; returns (finished steps, extra), (0, {}) where there is none.

    Raises UserError where there are some and none can be read, or where they are of another model.
    """
    saved = _saved(folder)
    for path in reversed(saved):
        state = _read(path)
        if state is None:
            continue
        try:
            model.load_state_dict(state["model"])
            optimizers.load_state_dict(state["optimizers"])
        except (RuntimeError, ValueError):
            raise UserError(f"{path} is of another model or optimiser; name another folder") from None
        return int(state["step"]), dict(state["extra"])
    if saved:
        raise UserError(f"no checkpoint in {folder} can be read; remove them to begin anew")
    return 0, {}


def save_model(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write an ordinary Hugging Face folder; the old one is replaced only when the new one is whole."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for one shard tells nothing
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with _told(f"the model {folder}"), _no_bars():
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn a failed write into one line. The libraries that write have their own exceptions for a full disk."""
    try:
        yield
    except Exception as error:
        if (reason := _strerror(error)) is None:
            raise
        raise UserError(f"cannot write {what}: {reason}; free some space and resume") from None


def _strerror(error: Exception) -> str | None:
    """What the system said, where a write failed: torch hides it behind a RuntimeError, Rust libraries in a text."""
    for each in (error, error.__context__):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    found = _OS_ERROR.search(str(error))
    return os.strerror(int(found[1])) if found else None


@contextmanager
def _no_bars() -> Iterator[None]:
    """transformers' bars would stand in the live display."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _read(path: Path) -> Mapping[str, Any] | None:
    """What the file holds; None where it is cut off, is no checkpoint, or would run code when read."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    whole = isinstance(state, dict) and state.keys() >= {"step", "model", "optimizers", "extra"}
    return state if whole else None


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
