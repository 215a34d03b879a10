"""What is built in: devices and models, and the table of the R1 family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thinksmith.fit.answers.answer import SURE_NOTE, Answer, device_data, device_facts, memory_bar
from thinksmith.fit.answers.sheet import Bar, Sheet, Table, rate, size
from thinksmith.fit.plans.family import Row, family, largest_bits
from thinksmith.fit.plans.serving import LEAST_CONTEXT
from thinksmith.fit.shapes.catalogue import catalogue
from thinksmith.fit.speed.device import Device
from thinksmith.fit.speed.devices import devices, user_file
from thinksmith.fit.speed.speed import Pace, decode


def list_devices() -> Answer:
    """The known devices, the user's own among them. Raises UserError if their file cannot be used."""
    known = devices()
    rows = tuple(
        (name, each.title, size(each.usable), f"{each.bandwidth / 1e9:,.0f}", _rate(each, "bf16"))
        for name, each in known.items()
    )
    columns = ("name", "device", ">usable", ">GB/s", ">bf16 TFLOP/s")
    sheet = Sheet(
        "Devices",
        f"{len(known)} devices, and `this` for the machine at hand",
        tables=(Table("Known devices", columns, rows),),
        notes=(f"your own go into {user_file()}",),
    )
    return Answer(sheet, {"devices": [device_data(each) for each in known.values()]})


def list_models() -> Answer:
    """The known models."""
    known = catalogue()
    shapes = {name: entry.shape for name, entry in known.items()}
    rows = tuple(
        (
            name,
            f"{s.params:,}",
            f"{2 * s.cache_per_token:,}",
            f"{s.context:,}",
            s.published,
            ", ".join(known[name].names),
        )
        for name, s in shapes.items()
    )
    columns = ("model", ">parameters", ">cache bytes a token", ">context", "published", "also")
    sheet = Sheet(
        "Models",
        f"{len(known)} models; any hub id, folder, config.json or GGUF file does as well",
        tables=(Table("Known models", columns, rows),),
    )
    data = [
        {"name": name, "params": s.params, "cache_bytes_per_token": 2 * s.cache_per_token, "context": s.context,
         "published": s.published, "names": list(known[name].names), "source": s.source}
        for name, s in shapes.items()
    ]  # fmt: skip
    return Answer(sheet, {"models": data})


def family_table(device: Device, context: int | None = None) -> Answer:
    """The R1 family on a device: rounded figures, as they go round, beside the exact ones."""
    rows = family(device, context)
    bits = largest_bits(device)
    whole = "its whole context" if context is None else f"{context:,} tokens"
    paces = [_pace(row) for row in rows]
    cells = tuple(map(_cells, rows, paces))
    columns = ("model", "format", ">said", ">weights", ">all", "fits", ">context that fits", ">tokens/s", ">ceiling")
    sheet = Sheet(
        f"The R1 family on {device.title}",
        f"{sum(row.plan.verdict == 'yes' for row in rows)} of {len(rows)} fit well, "
        f"{sum(row.plan.verdict == 'tight' for row in rows)} tightly: {size(device.usable)} are usable",
        facts=(device_facts(device),),
        tables=(Table(f"One request of {whole}", columns, cells),),
        notes=(
            "said: billions in the name times bits, as such tables round; weights: exact, with the format's scales; "
            "all: with the cache and what the engine takes",
            f"{SURE_NOTE}; or the whole context does not fit, but {LEAST_CONTEXT:,} tokens do",
            _about_r1(rows, bits, device),
        ),
        bars=tuple(_bars(rows, 4 * device.usable)),
        limit=device.usable,
    )
    return Answer(
        sheet, {"device": device_data(device), "rows": list(map(_data, rows, paces)), "r1_bits_that_fit": bits}
    )


def _cells(row: Row, pace: Pace) -> tuple[str, ...]:
    plan = row.plan
    fits = f"{plan.largest_context:,}" if plan.largest_context else "—"
    said = f"~{row.rounded / 1e9:.0f} GB"
    return (
        row.model, plan.serving.format, said, size(row.weights), size(plan.estimate.total), plan.verdict, fits,
        rate(pace.tokens_per_second) if plan.verdict != "no" else "—",
        rate(pace.ceiling) if plan.verdict != "no" else "—",
    )  # fmt: skip


def _pace(row: Row) -> Pace:
    """At a quarter of what thinking may come to at most: long answers are rarer than short ones."""
    return decode(row.plan.shape, row.plan.serving, row.plan.device, context=min(LEAST_CONTEXT, row.plan.shape.context))


def _data(row: Row, pace: Pace) -> dict[str, Any]:
    plan = row.plan
    return {
        "model": row.model,
        "params": plan.shape.params,
        "format": plan.serving.format,
        "engine": plan.serving.engine,
        "context": plan.serving.context,
        "said": row.rounded,
        "weights": row.weights,
        "total": plan.estimate.total,
        "verdict": plan.verdict,
        "largest_context": plan.largest_context,
        "tokens_per_second": pace.tokens_per_second,
        "ceiling": pace.ceiling,
    }


def _bars(rows: list[Row], most: int) -> Iterator[Bar]:
    """A bar for each row that takes less than `most` bytes: a longer one would leave the others no room."""
    for row in rows:
        if row.plan.estimate.total < most:
            name = f"{row.model.removeprefix('DeepSeek-R1-Distill-')} {row.plan.serving.format}"
            yield memory_bar(name, row.plan.estimate)


def _about_r1(rows: list[Row], bits: float, device: Device) -> str:
    """What is true of the largest one in 4 bits."""
    four = next(row for row in rows if row.model == "DeepSeek-R1" and row.plan.serving.format == "q4_k_m")
    low = rows[-1]
    per = 8 * four.weights / four.plan.shape.params
    return (
        f"DeepSeek-R1 in 4 bits is {size(four.weights)} ({per:.2f} bits a weight), not 130 GB: that is the size of its "
        f"GGUF in 1.6 bits ({size(low.weights)} here). With {LEAST_CONTEXT:,} tokens of context there is room on "
        f"{device.title} for {bits:.2f} bits a weight"
    )


def _rate(device: Device, format: str) -> str:
    return rate(device.flops[format] / 1e12) if format in device.flops else "—"
