"""A trained model as an ordinary Hugging Face folder, replaced whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import logging

from thinksmith.policy.adapter import save_adapter
from thinksmith.policy.policy import Policy
from thinksmith.training.durable import sync, told


def save_trained(policy: Policy, folder: Path) -> None:
    """What a run has trained: `adapter/` in its folder where that is an adapter, else `model/`."""
    if policy.adapter:
        save_adapter(policy, folder / "adapter")
    else:
        save_model(folder / "model", policy.model, policy.tokenizer)


def trained_in(folder: Path) -> Path:
    """Where `save_trained` put it: the model to load."""
    adapter = folder / "adapter"
    return adapter if adapter.is_dir() else folder / "model"


def save_model(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write model and tokenizer, beside the old folder first. Raises UserError on a full disk.

    A process that is killed leaves the old one or the new one; between two renames the old one is called `.NAME.old`,
    and the next call puts it back.
    """
    part, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    try:
        with told(f"the model {folder}"), _no_bars():
            _put_back(folder, old)
            shutil.rmtree(part, ignore_errors=True)
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            for path in (*part.rglob("*"), part):
                sync(path)
            if folder.exists():
                folder.rename(old)
            part.rename(folder)
            sync(folder.parent)
    finally:
        _put_back(folder, old)
        shutil.rmtree(part, ignore_errors=True)


def _put_back(folder: Path, old: Path) -> None:
    """What was set aside: it comes back where nothing took its place."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


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
