"""What tokens cost, by a table that the user can go before with one of their own (`prices.toml` says how)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from thinksmith.engines.remote.names import Endpoint
from thinksmith.errors import UserError

SHIPPED = Path(__file__).with_name("prices.toml")
_FIELDS = ("prompt", "cached", "output")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    prompt: float
    cached: float
    output: float


@dataclass(frozen=True, slots=True)
class Prices:
    """By the beginnings of models' names, the user's own table first."""

    tables: tuple[Mapping[str, Price], ...]

    def of(self, name: str) -> Price | None:
        """The price of a model by its name, such as `openai/gpt-5-2025-08-07`."""
        for table in self.tables:
            fitting = [beginning for beginning in table if _fits(name, beginning)]
            if fitting:
                return table[max(fitting, key=len)]
        return None

    def cost(self, endpoint: Endpoint, prompt: int, cached: int, output: int) -> float | None:
        """US dollars; None where there is no price. On this machine nobody bills tokens: 0."""
        price = self.of(f"{endpoint.kind}/{endpoint.model}")
        if price is None:
            return 0.0 if endpoint.local else None
        cached = min(cached, prompt)
        return ((prompt - cached) * price.prompt + cached * price.cached + output * price.output) / 1e6


def load(own: str = "") -> Prices:
    """The table that ships, and before it the user's file `own`. Raises UserError for a file that cannot be read."""
    paths = [*([Path(own).expanduser()] if own else []), SHIPPED]
    return Prices(tuple(_table(path) for path in paths))


def _fits(name: str, beginning: str) -> bool:
    """`gpt-5` is the beginning of `gpt-5` and of `gpt-5-2025-08-07`, and not of `gpt-5.4` or `gpt-50`."""
    rest = name.removeprefix(beginning)
    return name.startswith(beginning) and (not rest or rest[0] in "-:@" or beginning.endswith("/"))


def _table(path: Path) -> dict[str, Price]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    return {name: _price(path, name, row) for name, row in data.items()}


def _price(path: Path, name: str, row: object) -> Price:
    values = [row.get(field, row.get("prompt")) for field in _FIELDS] if isinstance(row, dict) else []
    if len(values) != 3 or not all(isinstance(value, (int, float)) and value >= 0 for value in values):
        raise UserError(f"{path}: {name!r} needs prompt, cached and output: US dollars for a million tokens")
    return Price(*(float(value) for value in values))  # type: ignore[arg-type]
