"""Data sets of the Hugging Face hub. Naming one is asking for its download; nothing else here reaches the network."""

from __future__ import annotations

from collections.abc import Iterator

from thinksmith.errors import UserError
from thinksmith.problems.rows import Row

PREFIX = "hub/"


def hub_rows(source: str, *, config: str, split: str) -> Iterator[Row]:
    """The rows of `hub/OWNER/NAME`, numbered from 1; downloaded on first use, then from the cache of `datasets`.

    `config` is the subset, empty for the only one. Raises UserError when the set, subset or split cannot be had.
    """
    name = source.removeprefix(PREFIX)
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{source!r}: a set of the hub is named hub/OWNER/NAME, with :config=… and :split=… if needed")
    from datasets import load_dataset

    _reach(source)
    try:
        rows = load_dataset(name, config or None, split=split)
        for number, values in enumerate(rows, 1):
            yield Row(number, values)
    except Exception as error:  # the network, the hub and every format of file fail in their own ways
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{source} (split {split}) cannot be loaded from the hub: {reason}") from error


def _reach(source: str) -> None:
    """Fail at once, in one line, where the hub is out of reach: its own client tries for most of a minute, aloud."""
    from huggingface_hub import constants, get_session, is_offline_mode

    if is_offline_mode():
        return  # the cache is asked alone
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:
        raise UserError(
            f"{source}: the hub cannot be reached ({error}); with HF_HUB_OFFLINE=1 what was downloaded before is used"
        ) from error
