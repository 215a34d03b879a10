"""What `thinksmith fit` answers: a sheet for people, and the exact figures for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thinksmith.fit.answers.sheet import Bar, Sheet, Table, rate, size
from thinksmith.fit.memory.estimate import Estimate
from thinksmith.fit.plans.verdict import SURE, Change
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device

SHOWN = 6  # changes that are told


@dataclass(frozen=True, slots=True)
class Answer:
    """`data` goes out as JSON: bytes, seconds and tokens per second as they were computed."""

    sheet: Sheet
    data: dict[str, Any]


def model_facts(shape: Shape) -> str:
    """A model in one line."""
    active = f", of which a token uses {shape.active_params:,}" if shape.mixture else ""
    draft = f", and {shape.draft:,} for speculative decoding" if shape.draft else ""
    return (
        f"{shape.name}: {shape.params:,} parameters{active}{draft}; "
        f"{2 * shape.cache_per_token:,} bytes of cache a token in 16 bits; context {shape.context:,}; "
        f"published in {shape.published}"
    )


def device_facts(device: Device) -> str:
    """A device in one line."""
    reserve = f", {size(device.reserve)} of them kept for the system" if device.reserve else ""
    rates = ", ".join(f"{name} {rate(each / 1e12)}" for name, each in device.flops.items())
    return (
        f"{device.title}: {size(device.memory)} for programs ({device.memory / 2**30:.1f} GiB){reserve}; "
        f"{device.bandwidth / 1e9:,.0f} GB/s; TFLOP/s {rates}"
    )


def model_data(shape: Shape) -> dict[str, Any]:
    names = ("name", "architecture", "layers", "params", "active_params", "draft", "context", "published", "source")
    data = {name: getattr(shape, name) for name in names}
    return data | {"cache_numbers_per_token": shape.cache_per_token, "cache_bytes_per_token": 2 * shape.cache_per_token}


def device_data(device: Device) -> dict[str, Any]:
    names = ("name", "title", "kind", "memory", "reserve", "usable", "unified", "bandwidth", "source")
    return {name: getattr(device, name) for name in names} | {"flops": dict(device.flops)}


def memory_table(estimate: Estimate, usable: int, title: str = "Memory") -> Table:
    """Every item with its reason, then the peak."""
    rows = [(item.name, size(item.bytes), " · ".join(filter(None, (item.phase, item.why)))) for item in estimate.items]
    peak = f"at its peak, {estimate.peak}" if estimate.peak else "in all"
    rows.append((peak, size(estimate.total), f"{estimate.total / usable:.0%} of {size(usable)}"))
    return Table(title, ("part", ">bytes", "why"), tuple(rows))


def memory_bar(name: str, estimate: Estimate) -> Bar:
    """What takes the memory of a model that is served."""
    weights, cache = estimate.named("weights"), estimate.named("KV cache")
    return Bar(name, (("weights", weights), ("keys and values", cache), ("the rest", estimate.total - weights - cache)))


def memory_data(estimate: Estimate) -> dict[str, Any]:
    items = [{"name": i.name, "bytes": i.bytes, "phase": i.phase, "why": i.why} for i in estimate.items]
    return {"total": estimate.total, "peak": estimate.peak, "phases": estimate.phases, "items": items}


def changes_table(found: tuple[Change[Any], ...]) -> Table:
    """The changes as they are told: in the order of their cost, up to the second that leaves room."""
    rows = tuple((*map("; ".join, (each.what, each.cost)), size(each.bytes), each.verdict) for each in told(found))
    return Table("What to change, the cheapest first", ("change", "costs", ">needs", "fits"), rows)


def told(found: tuple[Change[Any], ...]) -> tuple[Change[Any], ...]:
    """As many as are worth telling: up to the second that leaves room."""
    roomy = 0
    for count, change in enumerate(found, 1):
        roomy += change.verdict == "yes"
        if roomy == 2 or count == SHOWN:
            return found[:count]
    return found


def changes_data(found: tuple[Change[Any], ...]) -> list[dict[str, Any]]:
    return [
        {"what": list(each.what), "costs": list(each.cost), "total": each.bytes, "verdict": each.verdict}
        for each in found
    ]


SURE_NOTE = f"yes leaves {1 - SURE:.0%} of the memory free, which is how far the estimate may be off; tight leaves less"


def sources(shape: Shape, device: Device) -> tuple[str, ...]:
    """What the verdict means, and where the figures are from; all that is said of a device is in the data."""
    model = shape.source or "what was named"
    return SURE_NOTE, f"model: {model}", f"device: {device.source.partition('; ')[0]}"
