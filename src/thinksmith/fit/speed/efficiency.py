"""What share of a machine's bandwidth and products an engine reaches: `efficiency.toml`, and where it is from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from thinksmith.errors import UserError
from thinksmith.fit.speed.device import Device

# A GPU that has no figures of its own is taken for its kin; the other way round too.
KIN = {"unified": ("cuda",), "cuda": ("unified",)}


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How an engine fares on a kind of machine.

    `read`: share of the bandwidth at which it reads; `multiply`: share of the rate of products. `launch`: seconds that
    each layer of a step costs whatever its size, `step` those of the step itself, `row` those of each sequence.
    `panel`: rows are computed in groups of so many. `measured` is False where nobody has published or measured it, and
    another's figures stand in; `source` says which.
    """

    read: float
    multiply: float
    launch: float = 0.0
    step: float = 0.0
    row: float = 0.0
    panel: int = 1
    measured: bool = True
    source: str = ""


CEILING = Efficiency(1.0, 1.0, source="arithmetic on what the maker states")


def place_of(device: Device) -> str:
    """Where figures of a device belong: its kind, or `unified` for a CUDA GPU that shares the CPU's memory."""
    return "unified" if device.kind == "cuda" and device.unified else device.kind


def efficiency_of(engine: str, device: Device, bits: float) -> Efficiency:
    """What `engine` reaches on `device` with weights of so many bits.

    Raises UserError for an engine that is not known.
    """
    engines = _read()
    if engine not in engines:
        raise UserError(f"no speeds of an engine {engine[:40]!r} are known; use one of {', '.join(engines)}")
    table = engines[engine]
    place = place_of(device)
    for near in (place, *KIN.get(place, ())):
        if near in table:
            return _efficiency(table[near], bits, near, place)
    like = table.get("like")
    if isinstance(like, str):
        found = efficiency_of(like, device, bits)
        return Efficiency(
            *(found.read, found.multiply, found.launch, found.step, found.row, found.panel),
            measured=bool(table.get("same", False)) and found.measured,
            source=f"as {like}: {table['source']}; {found.source}",
        )
    raise UserError(f"no speeds of {engine} on a device of kind {device.kind} are known")


def training_share(device: Device) -> tuple[float, str]:
    """The share of the rate of products that training reaches, counting only those that the model asks for (MFU), and
    where that is from."""
    table = _read_file()["train"]
    found = table.get(place_of(device)) or table[KIN.get(place_of(device), ("cuda",))[0]]
    return float(found["multiply"]), str(found["source"])


def bits_class(bits: float) -> str:
    """The class of formats that weights of so many bits are in: `16`, `8` (6 to 11 bits) or `4`."""
    return "16" if bits >= 12 else "8" if bits >= 6 else "4"


def _efficiency(table: Mapping[str, Any], bits: float, near: str, place: str) -> Efficiency:
    read = table["read"]
    source = str(table["source"])
    return Efficiency(
        read=float(read.get(bits_class(bits), read["any"])),
        multiply=float(table["multiply"]),
        launch=float(table.get("launch_us", 0)) / 1e6,
        step=float(table.get("step_us", 0)) / 1e6,
        row=float(table.get("row_us", 0)) / 1e6,
        panel=int(table.get("panel", 1)),
        measured=bool(table.get("measured", True)),
        source=source if near == place else f"{source} (of {near})",
    )


def _read() -> Mapping[str, Mapping[str, Any]]:
    return {name: table for name, table in _read_file().items() if name != "train"}


@cache
def _read_file() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads(files("thinksmith.fit.speed").joinpath("efficiency.toml").read_text(encoding="utf-8"))
