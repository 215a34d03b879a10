"""Machines by name: those of `devices.toml`, the user's own, this one.

A file of devices is TOML with a table for each: `title`, `kind` (cuda, metal, cpu), `memory_gib`, `bandwidth_gb_s`,
`tflops` by format and `source` are needed; `reserve_gib`, `unified`, `dollars_per_hour`, `aliases` and `notes` may be
left out. A machine that is sold in several sizes has `sizes` (the GB in its name), and `memory_gib` and `reserve_gib`
may then be lists, one figure a size: `[m2-max]` with the sizes 32 and 64 is `m2-max-32gb` and `m2-max-64gb`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast, get_args

from thinksmith.errors import UserError, one_line
from thinksmith.fit.speed.device import Device, Kind

THIS = "this"
FORMATS = ("fp32", "fp16", "bf16", "fp8", "int8", "fp4")
GIB = 2**30
# Beyond these a figure is a slip of the unit: they are a thousand times what the largest machine of today has.
MOST_GIB = 1e6
MOST_GB_S = 1e7
MOST_TFLOPS = 1e7
MOST_BYTES = 1_000_000  # of a file of devices
NEEDED = ("title", "kind", "memory_gib", "bandwidth_gb_s", "tflops", "source")
FIELDS = (*NEEDED, "reserve_gib", "unified", "dollars_per_hour", "aliases", "notes", "sizes")


@dataclass(frozen=True, slots=True)
class Listed:
    """A device of a file, by its other names too; `family` are names that it shares with those of other sizes."""

    device: Device
    names: frozenset[str]
    family: frozenset[str]


def user_file() -> Path:
    """Where the user's own devices are looked for."""
    from platformdirs import user_config_path

    return user_config_path("thinksmith") / "devices.toml"


def devices() -> Mapping[str, Device]:
    """All devices that have a name, built in or the user's own; `this` is not among them.

    Raises UserError if the user's file cannot be used.
    """
    return {name: listed.device for name, listed in _listed().items()}


def find_device(name: str) -> Device:
    """The device of this name or alias (case, spaces and dashes do not matter), the one in a TOML file if `name` is a
    path to one, or the machine that this runs on for `this`.

    Raises UserError where there is none, or where the name leaves open which.
    """
    if name.strip().casefold() == THIS:
        from thinksmith.fit.speed.this import this_device

        return this_device()
    if name.casefold().endswith(".toml"):
        return _of_file(Path(name))
    known = _listed()
    wanted = _folded(name)
    for listed in known.values():  # the user's own come first
        if wanted in listed.names:
            return listed.device
    family = [key for key, listed in known.items() if wanted in listed.family]
    if family:
        raise UserError(f"{name.strip()!r} is sold with several sizes of memory: say {' or '.join(family)}")
    raise UserError(_unknown(name, known))


def with_memory(device: Device, memory: int) -> Device:
    """The same device with so many bytes for programs, none of them reserved.

    Raises UserError if that is not a positive size.
    """
    if isinstance(memory, bool) or not 0 < memory <= MOST_GIB * GIB:
        raise UserError(f"{memory} bytes are no size for the memory of a device: give a positive one")
    return replace(device, memory=int(memory), reserve=0, source=f"{device.source}; memory as given")


def _folded(name: str) -> str:
    """A name as far as it tells devices apart: `NVIDIA GeForce RTX 4090` is `rtx4090`."""
    name = name[:200]
    kept = "".join(letter for letter in name.casefold() if letter.isalnum())
    for maker in ("nvidia", "geforce", "apple", "amd"):
        kept = kept.removeprefix(maker)
    return kept


def _unknown(name: str, known: Mapping[str, Listed]) -> str:
    head, x, tail = name.casefold().partition("x")
    if x and head.strip().isdigit() and tail.strip():
        said = name.strip()[:60]
        return f"{said!r}: fit plans for one device; name it alone, or describe all of them as one in a TOML file"
    names = {each: key for key, listed in known.items() for each in (*listed.names, *listed.family)}
    near = get_close_matches(_folded(name), names, 3, 0.5)
    nearest = list(dict.fromkeys(names[each] for each in near)) or sorted(known)[:3]
    return f"unknown device {name[:60]!r}; nearest: {', '.join(nearest)}; or {THIS}, or a .toml file"


def _listed() -> dict[str, Listed]:
    """The user's devices, then the built-in ones that he does not replace."""
    own = _read(user_file()) if user_file().is_file() else {}
    built_in = _built_in()
    # What replaces a built-in device is found by its names too.
    own = {key: replace(each, names=each.names | built_in[key].names) if key in built_in else each
           for key, each in own.items()}  # fmt: skip
    return own | {key: listed for key, listed in built_in.items() if key not in own}


@cache
def _built_in() -> dict[str, Listed]:
    text = files("thinksmith.fit.speed").joinpath("devices.toml").read_text(encoding="utf-8")
    return _parsed(text, "devices.toml")


def _of_file(path: Path) -> Device:
    found = _read(path)
    if len(found) != 1:
        raise UserError(f"{path} has {len(found)} devices: leave one, or put them into {user_file()}")
    return next(iter(found.values())).device


def _read(path: Path) -> dict[str, Listed]:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES} bytes: that is no file of devices")
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {one_line(error)}") from None
    return _parsed(text, str(path))


def _parsed(text: str, where: str) -> dict[str, Listed]:
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{where} is not TOML: {one_line(error)}") from None
    found: dict[str, Listed] = {}
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{where}: {key} stands outside a table; a device begins with [its-name]")
        for listed in _sizes(key, table, where):
            found[listed.device.name] = listed
    return found


def _sizes(key: str, table: Mapping[str, Any], where: str) -> Iterator[Listed]:
    """The devices of one table: one, or one for each of its `sizes`."""
    sizes = table.get("sizes")
    if sizes is None:
        alone = _device(key, key, table, where)
        yield replace(alone, names=alone.family, family=frozenset())
        return
    if not isinstance(sizes, list) or not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise UserError(f"{where}: {key}.sizes must be a list of whole GB")
    for at, size in enumerate(sizes):
        one = {name: value for name, value in table.items() if name != "sizes"}
        for name in ("memory_gib", "reserve_gib"):
            figures = one.get(name)
            if isinstance(figures, list):
                if len(figures) != len(sizes):
                    raise UserError(f"{where}: {key}.{name} has {len(figures)} figures for {len(sizes)} sizes")
                one[name] = figures[at]
        found = _device(f"{key}-{size}gb", key, one, where)
        device = replace(found.device, title=f"{found.device.title} {size} GB")
        yield Listed(device, frozenset(f"{name}{size}gb" for name in found.family), found.family)


def _device(name: str, family: str, table: Mapping[str, Any], where: str) -> Listed:
    missing = [field for field in NEEDED if field not in table]
    if missing:
        raise UserError(f"{where}: {family} lacks {missing[0]}")
    strange = [field for field in table if field not in FIELDS]
    if strange:
        raise UserError(f"{where}: {family}.{strange[0]} is not known; a device has {', '.join(FIELDS)}")

    def number(field: str, most: float, least: float = 0.0) -> float:
        value = table.get(field, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise UserError(f"{where}: {family}.{field} must be a number from {least:g} to {most:g}")
        return float(value)

    def text(field: str) -> str:
        value = table.get(field, "")
        if not isinstance(value, str):
            raise UserError(f"{where}: {family}.{field} must be a text")
        return " ".join(value.split())

    aliases = table.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise UserError(f"{where}: {family}.aliases must be a list of names")
    if table["kind"] not in get_args(Kind):
        raise UserError(f"{where}: {family}.kind must be one of {', '.join(get_args(Kind))}")
    if not isinstance(table.get("unified", False), bool):
        raise UserError(f"{where}: {family}.unified must be true or false")
    memory, reserve = number("memory_gib", MOST_GIB, 0.01), number("reserve_gib", MOST_GIB)
    if reserve >= memory:
        raise UserError(f"{where}: {family}.reserve_gib leaves nothing of memory_gib")
    device = Device(
        name=name,
        title=text("title"),
        kind=cast(Kind, table["kind"]),
        memory=int(memory * GIB),
        reserve=int(reserve * GIB),
        unified=bool(table.get("unified", False)),
        bandwidth=number("bandwidth_gb_s", MOST_GB_S, 0.01) * 1e9,
        flops=_flops(table["tflops"], f"{where}: {family}.tflops"),
        dollars_per_hour=number("dollars_per_hour", 1e6),
        source="; ".join(part for part in (text("source"), text("notes")) if part),
    )
    return Listed(device, frozenset(), frozenset(_folded(each) for each in (family, device.title, *aliases)))


def _flops(table: Any, what: str) -> dict[str, float]:
    if not isinstance(table, dict) or not table:
        raise UserError(f"{what} must be a table such as {{ bf16 = 100 }}, in dense teraflops")
    for name, rate in table.items():
        if name not in FORMATS:
            raise UserError(f"{what}.{name} is not known; the formats are {', '.join(FORMATS)}")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= MOST_TFLOPS:
            raise UserError(f"{what}.{name} must be a number from 0 to {MOST_TFLOPS:g}")
    return {name: float(rate) * 1e12 for name, rate in table.items()}
