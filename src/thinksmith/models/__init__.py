"""The embedded models: ordinary Hugging Face folders (weights, tokenizer, card) that ship in the package."""

from __future__ import annotations

from pathlib import Path

EMBEDDED = ("tiny", "tiny-base", "tiny-tools")


def path(name: str) -> Path:
    """The folder of the embedded model `name`. Raises KeyError for any other name."""
    if name not in EMBEDDED:
        raise KeyError(name)
    return Path(__file__).parent / name
