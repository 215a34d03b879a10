"""Reads a config's fields. It may come from anywhere: what is no number of a sensible size is refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinksmith.errors import UserError

MOST = 2**31 - 1  # of any size: what an index of 32 bits holds
MOST_LAYERS = 4096  # and of layers and experts, which are gone through one by one
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


class Fields:
    """A config with a family's defaults under it. `get` and its like take what is null as if it were not there."""

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self.config: Mapping[str, Any] = {**(defaults or {}), **config}

    def get(self, name: str) -> Any:
        return self.config.get(name)

    def whole(self, *names: str, least: int = 1, most: int = MOST) -> int:
        """The first of these fields that is there. Raises UserError if none is, or if it is no size."""
        for name in names:
            if self.get(name) is not None:
                return self._checked(name, least, most)
        raise UserError(f"the config lacks the field {' or '.join(names)}: take the published config.json")

    def maybe(self, name: str, default: int, least: int = 1) -> int:
        """A field that may be missing."""
        return default if self.get(name) is None else self._checked(name, least, MOST)

    def flag(self, name: str, default: bool = False) -> bool:
        """A field that is true or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UserError(f"the config's {name} is {_told(value)}: it must be true or false")
        return value

    def listed(self, name: str) -> list[Any] | None:
        """A list, with one value for each layer at most."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) > MOST_LAYERS:
            raise UserError(f"the config's {name} is {_told(value)}: it must be a list with one value for each layer")
        return list(value)

    @property
    def layers(self) -> int:
        return self.whole("num_hidden_layers", most=MOST_LAYERS)

    def _checked(self, name: str, least: int, most: int) -> int:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"the config's {name} is {_told(value)}: it must be a whole number")
        if not least <= value <= most:
            raise UserError(f"the config's {name} is {_told(value)}: it must be from {least} to {most}")
        return value


def _told(value: Any) -> str:
    """A value in a few characters, whatever it is. A whole number of a million digits is not written out."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, Mapping | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:40]
