"""Training one model on one device: does it, where the memory goes, how long a step takes, and what to change."""

from __future__ import annotations

from typing import Any

from thinksmith.errors import UserError
from thinksmith.fit.answers.answer import (
    Answer,
    changes_data,
    changes_table,
    device_data,
    device_facts,
    memory_data,
    memory_table,
    model_data,
    model_facts,
    sources,
)
from thinksmith.fit.answers.sheet import Bar, Sheet, Table, duration, size
from thinksmith.fit.memory.inference import Serving
from thinksmith.fit.memory.training import SLOTS, Training
from thinksmith.fit.plans.training import TrainPlan, train_plan, what_to_change
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device
from thinksmith.fit.speed.durations import Duration, Step, grpo_step


def asked_training(device: Device, **asked: Any) -> Training:
    """The training that is meant: what is None takes what is common on the device. Raises UserError."""
    given = {name: value for name, value in asked.items() if value is not None}
    full = given.get("tuning", "full") == "full"
    # The local trainers compute in the type of the weights: float32 on a CPU, bfloat16 on a GPU.
    given.setdefault("precision", "fp32" if device.kind == "cpu" else "bf16")
    if given.get("method") == "dpo":
        given.setdefault("reference", "copy" if full else "adapter")
    if full and given.pop("base", None):
        raise UserError(
            "a format of frozen weights goes with --tuning lora or qlora; --precision is that of all weights"
        )
    return Training(**given)


def training(shape: Shape, device: Device, asked: Training, steps: int | None = None) -> Answer:
    """Everything about training `shape` on `device`; `steps`: of a whole run of GRPO."""
    mine = train_plan(shape, device, asked)
    changes = () if mine.verdict == "yes" else what_to_change(shape, device, asked)
    step = _step(shape, device, asked) if asked.method == "grpo" else None
    tables = [memory_table(mine.estimate, device.usable), _phases_table(mine)]
    if changes:
        tables.append(changes_table(changes))
    if step is not None:
        tables.append(_step_table(step, steps))
    sheet = Sheet(
        f"{asked.method.upper()} of {shape.name} on {device.title}",
        _headline(mine),
        facts=(model_facts(shape), device_facts(device), _facts(asked)),
        tables=tuple(tables),
        notes=sources(shape, device),
        bars=_bars(mine),
        limit=device.usable,
    )
    data: dict[str, Any] = {
        "model": model_data(shape),
        "device": device_data(device),
        "training": {name: getattr(asked, name) for name in asked.__slots__},
        "verdict": mine.verdict,
        "memory": memory_data(mine.estimate),
        "largest_length": mine.largest_length,
        "largest_group": mine.largest_group,
        "changes": changes_data(changes),
        "step": _step_data(step, steps) if step else None,
    }
    return Answer(sheet, data)


def _headline(mine: TrainPlan) -> str:
    word = {"yes": "Yes", "tight": "Tight", "no": "No"}[mine.verdict]
    need, usable = size(mine.estimate.total), size(mine.device.usable)
    largest = f"sequences of up to {mine.largest_length:,} tokens fit" if mine.largest_length else "no length fits"
    group = f", groups of up to {mine.largest_group:,}" if mine.largest_group else ""
    return f"{word}: it needs {need} of {usable} at its peak ({mine.estimate.peak}); {largest} well{group}."


def _facts(asked: Training) -> str:
    how = "all weights" if asked.tuning == "full" else f"{asked.tuning} of rank {asked.lora_rank} on {asked.frozen}"
    rows = f"{asked.rows} × {asked.length:,} tokens in a micro-batch"
    extra = ", recomputed" if asked.checkpointing else ""
    group = f"; {asked.prompts} prompts × {asked.num_generations} completions" if asked.method == "grpo" else ""
    return f"{how}, {asked.precision}, {asked.optimizer}; {rows}{extra}{group}; reference: {asked.reference}"


def _phases_table(mine: TrainPlan) -> Table:
    always = mine.estimate.of("")
    rows = tuple(
        (name or "always", size(total), size(total - always), f"{total / mine.device.usable:.0%}")
        for name, total in mine.estimate.phases.items()
    )
    return Table("Stages of a step", ("stage", ">all", ">its own", ">of what is usable"), rows)


def _step(shape: Shape, device: Device, asked: Training) -> Duration:
    """A step with the local engine, completions half as long as they may be on average."""
    form = asked.frozen if asked.tuning != "full" else "fp32" if asked.precision == "fp32" else "bf16"
    slots = min(SLOTS, asked.sequences)
    run = Serving("local", form, "fp32" if form == "fp32" else "bf16", context=asked.length, batch=slots)
    return grpo_step(
        shape,
        run,
        device,
        Step(
            groups=asked.prompts,
            samples=asked.num_generations,
            prompt=asked.prompt_tokens,
            tokens=max(1, asked.max_tokens // 2),
            method="full" if asked.tuning == "full" else "lora",
            checkpoint=asked.checkpointing,
            reference=asked.reference != "none",
            format="fp32" if asked.precision == "fp32" else "bf16",
        ),
    )


def _step_table(step: Duration, steps: int | None) -> Table:
    rows = [(name, duration(seconds), duration(step.least_parts[name])) for name, seconds in step.parts.items()]
    rows.append(("a step", duration(step.seconds), duration(step.least)))
    if steps:
        cost = f" ({steps * step.dollars:,.2f} dollars)" if step.dollars_per_hour else ""
        rows.append((f"{steps:,} steps", duration(steps * step.seconds) + cost, duration(steps * step.least)))
    return Table("Time", ("part", ">typical", ">at least"), tuple(rows), (f"shares of the machine: {step.source}",))


def _step_data(step: Duration, steps: int | None) -> dict[str, Any]:
    data = {"seconds": step.seconds, "least": step.least, "parts": dict(step.parts), "source": step.source}
    whole = {"steps": steps, "run_seconds": steps * step.seconds} if steps else {}
    price = {"run_dollars": steps * step.dollars} if steps and step.dollars_per_hour else {}
    return data | whole | price


def _bars(mine: TrainPlan) -> tuple[Bar, ...]:
    """A bar for each stage: what is always there, and its own."""
    always = mine.estimate.of("")
    return tuple(
        Bar(name or "always", (("always there", always), ("in this stage", total - always)))
        for name, total in mine.estimate.phases.items()
    )
