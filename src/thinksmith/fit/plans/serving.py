"""Whether a model can be served on a device, in which ways, and what to change where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import FORMATS, KV_FORMATS, Format, find_format, find_kv_format, resolve
from thinksmith.fit.memory.estimate import Estimate
from thinksmith.fit.memory.inference import Serving, serving_memory
from thinksmith.fit.memory.runtime import check_engine
from thinksmith.fit.plans.verdict import SURE, Change, Step, Verdict, changes, largest, verdict
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device

LEAST_CONTEXT = 8192  # tokens: less does not hold the long thinking of a hard problem
COMMON_CONTEXT = 32768  # what R1's makers let it generate at most: https://huggingface.co/deepseek-ai/DeepSeek-R1
MOST_BATCH = 1024
NEVER = 1 << 80  # bytes: of what an engine does not run

ENGINES = {"cuda": ("vllm", "ollama", "local"), "metal": ("ollama", "local"), "cpu": ("local", "ollama")}
"""The engines that run on a kind of device, the one that is taken where none is named first."""

CACHE = {"vllm": "bf16", "local": "bf16", "ollama": "fp16", "llamacpp": "fp16"}
"""How engines keep keys and values where nobody says otherwise; the local one in the type of the weights."""

SIXTEEN = ("bf16", "fp16")

COMMON = ("fp32", "bf16", "q8_0", "fp8", "int8", "q6_k", "q5_k_m", "q4_k_m", "int4", "nvfp4", "q3_k_m", "q2_k",
          "iq2_xxs", "iq1_s")  # fmt: skip
"""Formats that models are commonly found in; the others are looked at when they are asked for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One way of serving a model. `estimate` and `verdict` are for `serving` as it stands.

    Where no context was asked for, `serving` has the model's whole context, and `verdict` is `tight` where that does
    not fit but LEAST_CONTEXT tokens do. `largest_context` (at this batch) and `largest_batch` (at this context) leave
    a tenth of the usable memory free; 0 where nothing does.
    """

    shape: Shape
    device: Device
    serving: Serving
    estimate: Estimate
    verdict: Verdict
    largest_context: int
    largest_batch: int


def plan(shape: Shape, device: Device, serving: Serving, *, whole: bool = False) -> Plan:
    """Estimate `serving`; `whole`: its context was not asked for, it is all that the model has."""
    estimate = serving_memory(shape, serving, device)
    word = verdict(estimate.total, device.usable)
    if word == "no" and whole and need(shape, device, replace(serving, context=_least(shape))) <= device.usable:
        word = "tight"
    sure = int(SURE * device.usable)
    context = largest(lambda n: need(shape, device, replace(serving, context=n)) <= sure, shape.context)
    return Plan(shape, device, serving, estimate, word, context, largest_batch(shape, device, serving))


def largest_batch(shape: Shape, device: Device, serving: Serving) -> int:
    """The most requests at a time that leave a tenth of the usable memory free; 0 where not one does."""
    sure = int(SURE * device.usable)
    return largest(lambda n: need(shape, device, replace(serving, batch=n)) <= sure, MOST_BATCH)


def need(shape: Shape, device: Device, serving: Serving) -> int:
    """Bytes at the peak."""
    return serving_memory(shape, serving, device).total


def settle(
    shape: Shape,
    device: Device,
    *,
    engine: str | None = None,
    format: str | None = None,
    kv_format: str | None = None,
    context: int | None = None,
    batch: int = 1,
) -> Serving:
    """What was asked, with what nobody said filled in: the model's whole context, its weights as published, and an
    engine of this kind of device that runs that format. Raises UserError where nothing goes together."""
    if engine:
        check_engine(engine, device)
    if context is not None and context > shape.context:
        raise UserError(f"{shape.name} takes {shape.context:,} tokens: a context of {context:,} is too long for it")
    chosen = resolve(find_format(format or shape.published, engine or "", device.kind), shape)
    engines = [engine] if engine else [each for each in ENGINES[device.kind] if each in chosen.engines]
    if not format:
        if engines[:1] == ["local"] and device.kind == "cpu" and chosen.name in SIXTEEN:
            chosen = FORMATS["fp32"]  # what the local engine makes of 16 bits on a CPU
        elif not engines or engines[0] not in chosen.engines:  # nobody runs it as published: what comes next
            chosen, runner = next(_candidates(shape, device, engine))
            engines = [runner]
    if not engines:
        use = ", ".join(chosen.engines)
        raise UserError(f"{chosen.name} runs on {use}, and not on {device.name}: leave the format out to see what does")
    return Serving(
        engine=engines[0],
        format=chosen.name,
        kv_format=find_kv_format(kv_format).name if kv_format else _cache(engines[0], chosen.name),
        context=shape.context if context is None else context,
        batch=batch,
    )


def ways(shape: Shape, device: Device, serving: Serving, *, whole: bool, engine: str | None = None) -> list[Plan]:
    """The serving in every common format that an engine of this device runs, the most faithful first: from the weights
    as published down, since a wider format tells no more than that."""
    found = []
    for form, runner in _candidates(shape, device, engine):
        try:
            found.append(plan(shape, device, _in_format(form.name, runner, serving), whole=whole))
        except UserError:  # this engine does not run the model in this format
            continue
    return found


def what_to_change(
    shape: Shape, device: Device, serving: Serving, engine: str | None = None
) -> tuple[Change[Serving], ...]:
    """Changes so that the serving fits, ordered by what they cost. `engine`: the only one that may be taken."""

    def total(each: Serving) -> int:
        return _need(shape, device, each)

    now = resolve(find_format(serving.format, serving.engine, device.kind), shape)
    forms = [each for each in _candidates(shape, device, engine) if each[0].rank > now.rank]
    lower = _falling(forms, serving, total)

    def steps(limit: int) -> list[Step[Serving]]:
        return [
            Step("requests at a time: {0.batch:,}", "throughput, nothing else", lambda now: _fewer(now, total, limit)),
            Step(f"a context of {COMMON_CONTEXT:,} tokens", "longer thinking is cut off", _common_context),
            Step("keys and values in 8 bits", "next to no accuracy", partial(_with_cache, ("fp8", "q8_0"))),
            *(_in(form, runner) for form, runner in lower if form.bits >= 4),
            Step(
                "a context of {0.context:,} tokens",
                "long thinking is cut off",
                lambda now: _shorter(now, shape, total, limit),
            ),
            Step("keys and values in 4 bits", "some accuracy in long thinking", partial(_with_cache, ("q4_0",))),
            *(_in(form, runner) for form, runner in lower if form.bits < 4),
        ]

    return changes(serving, steps, total, device.usable)


def bits_that_fit(shape: Shape, device: Device, serving: Serving) -> float:
    """Bits per weight that would leave room for everything else of the serving."""
    estimate = serving_memory(shape, serving, device)
    rest = estimate.total - estimate.named("weights")
    return max(0.0, 8 * (device.usable - rest) / shape.params)


def _cache(engine: str, format: str) -> str:
    return "fp32" if engine == "local" and format == "fp32" else CACHE[engine]


def _least(shape: Shape) -> int:
    return min(LEAST_CONTEXT, shape.context)


def _need(shape: Shape, device: Device, serving: Serving) -> int:
    """The same, of a serving that an engine may not run: then more than anybody has."""
    try:
        return need(shape, device, serving)
    except UserError:
        return NEVER


def _candidates(shape: Shape, device: Device, engine: str | None) -> Iterator[tuple[Format, str]]:
    """Formats from the published one down, with the engine of this device that runs each; the published one with every
    engine that does."""
    published = find_format(shape.published)
    engines = (engine,) if engine else ENGINES[device.kind]
    own = [(find_format(published.name, each, device.kind), each) for each in engines]
    found = [(form, each) for form, each in own if each in form.engines]
    for form in (FORMATS[name] for name in COMMON if FORMATS[name].rank >= published.rank):
        runner = next((each for each in engines if each in form.engines), None)
        if runner and (form, runner) not in found:
            found.append((form, runner))
    yield from sorted(found, key=lambda pair: pair[0].rank)


def _falling(
    forms: Sequence[tuple[Format, str]], serving: Serving, total: Callable[[Serving], int]
) -> list[tuple[Format, str]]:
    """Those that take less than any more faithful one."""
    found, least = [], total(serving)
    for form, engine in forms:
        if (needed := total(_in_format(form.name, engine, serving))) < least:
            found.append((form, engine))
            least = needed
    return found


def _fewer(serving: Serving, total: Callable[[Serving], int], limit: int) -> Serving | None:
    most = largest(lambda n: total(replace(serving, batch=n)) <= limit, serving.batch)
    return replace(serving, batch=max(1, most)) if max(1, most) < serving.batch else None


def _common_context(serving: Serving) -> Serving | None:
    return replace(serving, context=COMMON_CONTEXT) if serving.context > COMMON_CONTEXT else None


def _shorter(serving: Serving, shape: Shape, total: Callable[[Serving], int], limit: int) -> Serving | None:
    most = largest(lambda n: total(replace(serving, context=n)) <= limit, serving.context)
    rounded = max(most // 1024 * 1024, _least(shape))
    return replace(serving, context=rounded) if rounded < serving.context else None


def _with_cache(names: Sequence[str], serving: Serving) -> Serving | None:
    """Keys and values in the first of these formats that the engine has."""
    name = next((each for each in names if serving.engine in KV_FORMATS[each].engines), None)
    if name is None or KV_FORMATS[name].bits >= KV_FORMATS[serving.kv_format].bits:
        return None
    return replace(serving, kv_format=name)


def _in(form: Format, engine: str) -> Step[Serving]:
    return Step(f"weights in {form.name} ({engine})", _loss(form), partial(_in_format, form.name, engine))


def _in_format(name: str, engine: str, serving: Serving) -> Serving:
    """The same in another format, with keys and values as small as they were."""
    cache, own = KV_FORMATS[serving.kv_format], _cache(engine, name)
    if engine not in cache.engines or serving.kv_format == _cache(serving.engine, serving.format):
        small = [each for each in ("fp8", "q8_0") if engine in KV_FORMATS[each].engines and cache.bits < 16]
        cache = KV_FORMATS[small[0] if small else own]
    return replace(serving, format=name, engine=engine, kv_format=cache.name)


def _loss(form: Format) -> str:
    """What so few bits cost, in words; the order of formats (`format_table.py`) has the sources."""
    bits = form.packing.bits if form.packing else form.bits
    steps = ((8, "next to no accuracy"), (5.5, "a little accuracy"), (4, "some accuracy"), (3, "much accuracy"))
    return next((words for least, words in steps if bits >= least), "most of the accuracy")
