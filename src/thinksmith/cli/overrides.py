"""Keys of a recipe on the command line: `--set KEY=VALUE`."""

from __future__ import annotations

import tomllib
from typing import Any

from thinksmith.errors import UserError

Overrides = dict[str | tuple[str, ...], Any]


def pair(text: str) -> tuple[tuple[str, ...], Any]:
    """KEY=VALUE as TOML has it; a plain word is a text."""
    key, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        path, inner = [], tomllib.loads(f"{key} = 0")
        while isinstance(inner, dict):
            ((name, inner),) = inner.items()
            path.append(name)
    except (tomllib.TOMLDecodeError, ValueError):
        raise UserError(f"--set {text!r}: write KEY=VALUE, such as --set rollout.prompts=8") from None
    try:
        return tuple(path), tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return tuple(path), value.strip()
