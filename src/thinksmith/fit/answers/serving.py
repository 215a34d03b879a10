"""Serving one model on one device: does it, in which ways, how fast, and what to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from thinksmith.errors import UserError
from thinksmith.fit.answers.answer import (
    Answer,
    changes_data,
    changes_table,
    device_data,
    device_facts,
    memory_bar,
    memory_data,
    memory_table,
    model_data,
    model_facts,
    sources,
)
from thinksmith.fit.answers.sheet import Sheet, Table, duration, rate, size
from thinksmith.fit.memory.inference import Serving
from thinksmith.fit.plans.serving import LEAST_CONTEXT, Plan, largest_batch, plan, settle, ways, what_to_change
from thinksmith.fit.plans.verdict import Change
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device
from thinksmith.fit.speed.durations import Duration, answer, collection
from thinksmith.fit.speed.speed import Pace, decode

BATCHES = (1, 4, 16, 64, 256)
THINKING = (1024, 8192, 32768)  # tokens: short, common and long thinking, shown where nobody asks for another
COMMON = 8192
ANSWER = 512  # tokens that follow it


def serving(
    shape: Shape,
    device: Device,
    *,
    engine: str | None = None,
    format: str | None = None,
    kv_format: str | None = None,
    context: int | None = None,
    batch: int = 1,
    prompt: int = 256,
    thinking: int | None = None,
    problems: int | None = None,
    samples: int = 1,
) -> Answer:
    """Everything about serving `shape` on `device`. Raises UserError for what does not go together."""
    if (prompt + thinking + ANSWER if thinking else prompt) > shape.context:
        raise UserError(f"{shape.name} takes {shape.context:,} tokens: prompt, thinking and answer are too long for it")
    asked = settle(shape, device, engine=engine, format=format, kv_format=kv_format, context=context, batch=batch)
    whole = context is None
    mine = plan(shape, device, asked, whole=whole)
    found = ways(shape, device, asked, whole=whole, engine=engine)
    changes = () if mine.verdict == "yes" else what_to_change(shape, device, asked, engine)
    chosen = _chosen(mine, changes)
    # How fast it goes is told of what fits: as asked, or else after the cheapest change.
    running = mine if mine.verdict != "no" else chosen
    speeds = speed_rows(running) if running else []
    answers = answer_rows(running, prompt, thinking) if running else []
    work = traces(running, problems, samples, prompt, thinking) if running and problems else None
    tables = [memory_table(mine.estimate, device.usable, f"Memory: {_named(mine)}"), _ways_table(found)]
    if changes:
        tables.append(changes_table(changes))
    if running:
        tables += [_speed_table(running, speeds), _answers_table(running, answers, prompt)]
    if running and work and problems:
        tables.append(_work_table(running, work, problems, samples))
    sheet = Sheet(
        f"{shape.name} on {device.title}",
        _headline(mine, chosen),
        facts=(model_facts(shape), device_facts(device)),
        tables=tuple(tables),
        notes=sources(shape, device),
        bars=tuple(memory_bar(each.serving.format, each.estimate) for each in found),
        limit=device.usable,
    )
    data: dict[str, Any] = {
        "model": model_data(shape),
        "device": device_data(device),
        "plan": _data(mine),
        "memory": memory_data(mine.estimate),
        "ways": [_data(each) for each in found],
        "best": _data(chosen) if chosen else None,
        "changes": changes_data(changes),
        "speed_of": _data(running) if running else None,
        "speed": [{"batch": size_, **_pace_data(pace)} for size_, pace in speeds],
        "answers": [{"thinking": tokens, **_duration_data(found)} for tokens, found in answers],
        "collection": _duration_data(work) if work else None,
    }
    return Answer(sheet, data)


def speed_rows(running: Plan) -> list[tuple[int, Pace]]:
    """The pace at several batches that fit, each sequence at a common length of thinking."""
    batches = sorted({*BATCHES, running.serving.batch})
    context = _middle(running)
    most = largest_batch(running.shape, running.device, replace(running.serving, context=context))
    return [
        (size_, decode(running.shape, replace(running.serving, batch=size_), running.device, context=context))
        for size_ in batches
        if size_ <= max(most, running.largest_batch, running.serving.batch)
    ]


def answer_rows(running: Plan, prompt: int, thinking: int | None) -> list[tuple[int, Duration]]:
    """How long an answer takes by the tokens of its thinking, as far as the context allows."""
    shape, serving, device = running.shape, running.serving, running.device
    room = (serving.context if running.verdict == "yes" else running.largest_context) - prompt - ANSWER
    common = tuple(each for each in THINKING if each <= room) or (max(0, room),)
    lengths = common if thinking is None else (thinking,)
    return [(tokens, answer(shape, serving, device, prompt, tokens, ANSWER)) for tokens in lengths]


def traces(running: Plan, problems: int, samples: int, prompt: int, thinking: int | None) -> Duration:
    """How long it takes to collect so many traces, in the largest batch that fits; of COMMON tokens if nobody says."""
    tokens = (COMMON if thinking is None else thinking) + ANSWER
    # A trace may be twice as long as the mean (`durations.py`).
    at = replace(running.serving, context=min(prompt + 2 * tokens, running.shape.context))
    if running.serving.batch == 1:
        at = replace(at, batch=max(1, min(largest_batch(running.shape, running.device, at), BATCHES[-1])))
    return collection(running.shape, at, running.device, problems, samples, prompt, tokens)


def _middle(running: Plan) -> int:
    """Tokens of a sequence that decoding is shown at."""
    return min(LEAST_CONTEXT, running.serving.context)


def _headline(mine: Plan, chosen: Plan | None) -> str:
    need, usable = size(mine.estimate.total), size(mine.device.usable)
    asked = f"{_named(mine)} with {_requests(mine)} needs {need} of {usable}"
    if mine.verdict == "yes":
        return f"Yes: {asked}."
    if mine.verdict == "tight":
        short = f"; {mine.largest_context:,} tokens fit well" if mine.largest_context else ""
        return f"Tight: {asked}{short}."
    if chosen is None:
        return f"No: {asked}, and nothing that could be changed makes it fit."
    return f"No: {asked}. {_named(chosen)} fits with {_requests(chosen)}: {size(chosen.estimate.total)}."


def _chosen(mine: Plan, changes: tuple[Change[Serving], ...]) -> Plan | None:
    """What to do: as asked if that leaves room, else the cheapest change that does, or that fits at all."""
    if mine.verdict == "yes" or not changes:
        return mine if mine.verdict != "no" else None
    best = next((each for each in changes if each.verdict == "yes"), changes[0])
    return plan(mine.shape, mine.device, best.setting)


def _named(plan: Plan) -> str:
    return f"{plan.serving.format} with {plan.serving.engine}"


def _requests(plan: Plan) -> str:
    count = "one request" if plan.serving.batch == 1 else f"{plan.serving.batch:,} requests"
    return f"{count} of {plan.serving.context:,} tokens"


def _ways_table(found: list[Plan]) -> Table:
    rows = tuple(
        (
            each.serving.format,
            each.serving.engine,
            size(each.estimate.named("weights")),
            size(each.estimate.total),
            each.verdict,
            f"{each.largest_context:,}" if each.largest_context else "—",
            f"{each.largest_batch:,}" if each.largest_batch else "—",
            rate(decode(each.shape, each.serving, each.device, context=_middle(each)).tokens_per_second)
            if each.verdict != "no"
            else "—",
        )
        for each in found
    )
    columns = ("format", "engine", ">weights", ">all", "fits", ">longest context", ">largest batch", ">tokens/s")
    note = f"the most faithful first; tokens/s of all requests together at {LEAST_CONTEXT:,} tokens of context or less"
    return Table("Formats", columns, rows, (note,))


def _speed_table(running: Plan, speeds: list[tuple[int, Pace]]) -> Table:
    rows = tuple(
        (
            f"{size_:,}",
            rate(pace.tokens_per_second),
            rate(pace.tokens_per_second / size_),
            rate(pace.ceiling),
            pace.bound,
        )
        for size_, pace in speeds
    )
    columns = (">batch", ">tokens/s", ">each", ">ceiling", "bound by")
    source = speeds[0][1].source
    typical = "typical" if speeds[0][1].measured else "typical, by another engine's or device's figures"
    title = f"Decoding: {_named(running)}, {_middle(running):,} tokens of context"
    return Table(title, columns, rows, (f"tokens/s is {typical} ({source}); the ceiling is arithmetic",))


def _answers_table(running: Plan, answers: list[tuple[int, Duration]], prompt: int) -> Table:
    rows = tuple(
        (f"{tokens:,}", duration(found.seconds), duration(found.least), duration(found.parts["reading the prompt"]))
        for tokens, found in answers
    )
    requests = "one request" if running.serving.batch == 1 else f"{running.serving.batch:,} requests together"
    title = f"Time to answer: {requests}, prompts of {prompt:,} tokens, answers of {ANSWER:,}"
    return Table(title, (">tokens of thinking", ">typical", ">at least", ">of that the prompt"), rows)


def _work_table(running: Plan, work: Duration, problems: int, samples: int) -> Table:
    row = (
        f"{problems:,}",
        f"{samples:,}",
        f"{work.tokens:,.0f}",
        duration(work.seconds),
        duration(work.least),
        dollars(work),
    )
    columns = (">problems", ">traces each", ">tokens", ">typical", ">at least", ">dollars")
    return Table(f"A collection of traces: {_named(running)}", columns, (row,))


def dollars(work: Duration) -> str:
    return f"{work.dollars:,.2f}" if work.dollars_per_hour else "—"


def _data(plan: Plan) -> dict[str, Any]:
    serving = plan.serving
    return {
        "format": serving.format,
        "engine": serving.engine,
        "kv_format": serving.kv_format,
        "context": serving.context,
        "batch": serving.batch,
        "weights": plan.estimate.named("weights"),
        "total": plan.estimate.total,
        "verdict": plan.verdict,
        "largest_context": plan.largest_context,
        "largest_batch": plan.largest_batch,
    }


def _pace_data(pace: Pace) -> dict[str, Any]:
    names = ("tokens_per_second", "ceiling", "seconds", "least", "bound", "measured", "source")
    return {name: getattr(pace, name) for name in names} | {"parts": dict(pace.parts)}


def _duration_data(found: Duration) -> dict[str, Any]:
    return {
        "seconds": found.seconds,
        "least": found.least,
        "parts": dict(found.parts),
        "tokens": found.tokens,
        "dollars": found.dollars if found.dollars_per_hour else None,
        "measured": found.measured,
        "source": found.source,
    }
