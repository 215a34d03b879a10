"""Speeds that others have published (`published.toml`), and what we predict for the same."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from thinksmith.fit.memory.inference import Serving
from thinksmith.fit.shapes.catalogue import find_shape
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device
from thinksmith.fit.speed.devices import find_device
from thinksmith.fit.speed.speed import Pace, decode, prefill


@dataclass(frozen=True, slots=True)
class Figure:
    """A published speed: `rate` tokens a second, of all `batch` sequences together.

    `context`: tokens of a sequence meanwhile, on average; in prefill those before the `tokens` that are read. `check`:
    no efficiency is drawn from it. `why`: what makes it another case, or why we miss it.
    """

    kind: Literal["decode", "prefill"]
    engine: str
    device: str
    model: str
    format: str
    rate: float
    batch: int
    context: int
    tokens: int
    check: bool
    why: str
    url: str
    date: str
    about: str

    @property
    def shape(self) -> Shape:
        return _shape(self.model)

    @property
    def machine(self) -> Device:
        return find_device(self.device)

    @property
    def serving(self) -> Serving:
        return Serving(self.engine, self.format, "fp16", max(1, self.context), self.batch)

    def predicted(self) -> Pace:
        """What we say for it."""
        if self.kind == "decode":
            return decode(self.shape, self.serving, self.machine)
        return prefill(self.shape, self.serving, self.machine, self.tokens, self.context)


@cache
def published() -> tuple[Figure, ...]:
    """All of them, in the order of the file."""
    text = files("thinksmith.fit.speed").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(figure for source in tomllib.loads(text)["source"] for figure in _figures(source))


def _figures(source: dict[str, Any]) -> Iterator[Figure]:
    kinds: tuple[Literal["decode", "prefill"], ...] = ("decode", "prefill")
    for kind in kinds:
        for row in source.get(kind, ()):
            yield Figure(
                kind=kind,
                engine=source["engine"],
                device=row.get("device", source["device"]),
                model=row["model"],
                format=row["format"],
                rate=float(row["rate"]),
                batch=row.get("batch", 1),
                context=row["context"],
                tokens=row.get("tokens", 0),
                check=row.get("check", False),
                why=row.get("why", ""),
                url=source["url"],
                date=source["date"],
                about=source["about"],
            )


@cache
def _shape(name: str) -> Shape:
    return find_shape(name)
