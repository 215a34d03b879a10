"""How long whole pieces of work take: an answer, the rollouts of a step of GRPO, the step, a collection of traces.

They are sums over passes (`speed.py`), each at the context that it then has. Lengths are taken as spread evenly between
nothing and twice their mean: of sequences that begin together so many still run when t of the longest 2m tokens are
over: 1 - t/2m.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from thinksmith.errors import UserError
from thinksmith.fit.memory.inference import Serving
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device
from thinksmith.fit.speed.efficiency import Efficiency, training_share
from thinksmith.fit.speed.speed import (
    attention_flops,
    check_tokens,
    decode_work,
    how_fast,
    prefill_work,
    rate_of,
    seconds_of,
)

Method = Literal["full", "lora"]
STEPS = 32  # at so many contexts a length is looked at: time between them grows evenly, but for windows
SAMPLED = ("reading the prompts", "decoding")


@dataclass(frozen=True, slots=True)
class Duration:
    """`seconds` that a piece of work typically takes, the `least` that it can, and both by part. `tokens`: those that
    are generated. `dollars`: at the device's price for an hour, 0 where nobody said one. `source`: where the shares of
    the machine are from that engine and trainer reach; not `measured` where they are another's."""

    parts: Mapping[str, float]
    least_parts: Mapping[str, float] = field(repr=False)
    tokens: float = 0.0
    dollars_per_hour: float = 0.0
    measured: bool = True
    source: str = ""

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    @property
    def least(self) -> float:
        return sum(self.least_parts.values())

    @property
    def hours(self) -> float:
        return self.seconds / 3600

    @property
    def dollars(self) -> float:
        return self.hours * self.dollars_per_hour


@dataclass(frozen=True, slots=True)
class Step:
    """A step of GRPO: `groups` prompts of `prompt` tokens with `samples` completions each, `tokens` long on average.

    `method`: `full` computes gradients of all weights, `lora` of the adapters only. `checkpoint`: activations are
    computed again. `reference`: the log-probabilities of a reference model are computed; `scored`: those of the policy
    once more, where the engine's own are not used. `format`: that in which training multiplies.
    """

    groups: int
    samples: int
    prompt: int
    tokens: int
    method: Method = "full"
    checkpoint: bool = True
    reference: bool = False
    scored: bool = False
    format: str = "bf16"


def answer(shape: Shape, serving: Serving, device: Device, prompt: int, thinking: int, tokens: int) -> Duration:
    """How long `serving.batch` sequences take together to read a prompt, think so many tokens and answer in so many."""
    first, middle, last = (
        check_tokens(name, value) for name, value in (("prompt", prompt), ("thinking", thinking), ("answer", tokens))
    )
    parts = [
        _read(shape, serving, device, first, serving.batch),
        _decoded(shape, serving, device, first, middle, lambda _: serving.batch),
        _decoded(shape, serving, device, first + middle, last, lambda _: serving.batch),
    ]
    names = ("reading the prompt", "thinking", "answering")
    return _duration(shape, serving, device, dict(zip(names, parts, strict=True)), serving.batch * (middle + last))


def rollout(
    shape: Shape, serving: Serving, device: Device, groups: int, samples: int, prompt: int, tokens: int
) -> Duration:
    """How long `groups` prompts with `samples` completions each take, `tokens` long on average, in `serving.batch`
    slots that are filled again as they become free. A group's prompt is read once."""
    for name, value in (("groups", groups), ("samples", samples), ("prompt", prompt), ("tokens", tokens)):
        if check_tokens(name, value) < 1:
            raise UserError(f"{name} must be at least 1")
    everything = groups * samples
    slots = min(serving.batch, everything)
    longest = 2 * tokens
    if everything <= serving.batch:  # all begin together, and the slots drain
        ran = _decoded(shape, serving, device, prompt, longest, lambda t: everything * (1 - t / longest))
    else:
        # What runs in slots that are filled again is older than it was at the start: 2m/3 tokens on average, and of it
        # (1 - t/2m)² is left after t more. That drain makes 2m/3 tokens a slot; the rest is made with all slots full.
        drained = _decoded(
            shape, serving, device, prompt + longest / 3, longest, lambda t: slots * (1 - t / longest) ** 2
        )
        full = max(0.0, everything * tokens - slots * longest / 3) / slots
        steady = _steps(shape, serving, device, prompt + longest / 3, slots)
        ran = (drained[0] + full * steady[0], drained[1] + full * steady[1])
    read = _read(shape, serving, device, prompt, groups)
    found = dict(zip(SAMPLED, (read, ran), strict=True))
    return _duration(shape, serving, device, found, everything * tokens)


def collection(
    shape: Shape,
    serving: Serving,
    device: Device,
    problems: int,
    samples: int,
    prompt: int,
    tokens: int,
    dollars_per_hour: float = 0.0,
) -> Duration:
    """How long a collection of traces takes, and what it costs: a rollout of all problems. The price is that given, or
    the device's own."""
    if not 0 <= dollars_per_hour <= 1e6:
        raise UserError("dollars_per_hour must be a price from 0 to 1000000")
    found = rollout(shape, serving, device, problems, samples, prompt, tokens)
    return replace(found, dollars_per_hour=dollars_per_hour or device.dollars_per_hour)


def grpo_step(shape: Shape, serving: Serving, device: Device, step: Step) -> Duration:
    """How long a step takes: its rollouts, then forward and backward passes over prompts and completions.

    For each parameter and token two operations forward and four backward, two of these with adapters (the gradients of
    the weights fall away), two more where activations are computed again; attention's products likewise.
    """
    sampled = rollout(shape, serving, device, step.groups, step.samples, step.prompt, step.tokens)
    sequences, length = step.groups * step.samples, step.prompt + step.tokens
    forward = sequences * (2.0 * length * shape.active_params + attention_flops(shape, length))
    share, source = training_share(device)
    rate = rate_of(device, step.format)
    passes = {
        "forward and backward": (3 if step.method == "full" else 2) + step.checkpoint,
        "reference": int(step.reference),
        "scoring": int(step.scored),
    }
    done = {name: count * forward / rate for name, count in passes.items() if count}
    return replace(
        sampled,
        parts={**sampled.parts, **{name: seconds / share for name, seconds in done.items()}},
        least_parts={**sampled.least_parts, **done},
        source=f"{sampled.source}; training: {source}",
    )


Times = tuple[float, float]  # typical and least seconds


def _read(shape: Shape, serving: Serving, device: Device, prompt: int, count: int) -> Times:
    """Seconds in which so many prompts are read, one after the other."""
    if not prompt:
        return 0.0, 0.0
    typical, least = seconds_of(prefill_work(shape, serving, device, prompt), device, how_fast(shape, serving, device))
    return count * typical, count * least


def _decoded(
    shape: Shape, serving: Serving, device: Device, start: float, tokens: float, rows: Callable[[float], float]
) -> Times:
    """Seconds of `tokens` steps from the context `start` on, where `rows` tells how many sequences still run."""
    if tokens <= 0:
        return 0.0, 0.0
    parts = min(STEPS, int(tokens))
    width = tokens / parts
    found = [
        _steps(shape, serving, device, start + at, max(1, round(rows(at))))
        for at in ((number + 0.5) * width for number in range(parts))
    ]
    return width * sum(typical for typical, _ in found), width * sum(least for _, least in found)


def _steps(shape: Shape, serving: Serving, device: Device, context: float, rows: int) -> Times:
    """Seconds of one step of so many sequences."""
    work = decode_work(shape, replace(serving, batch=rows), device, context)
    return seconds_of(work, device, how_fast(shape, serving, device))


def _duration(shape: Shape, serving: Serving, device: Device, parts: Mapping[str, Times], tokens: float) -> Duration:
    how: Efficiency = how_fast(shape, serving, device)
    return Duration(
        parts={name: typical for name, (typical, _) in parts.items()},
        least_parts={name: least for name, (_, least) in parts.items()},
        tokens=tokens,
        dollars_per_hour=device.dollars_per_hour,
        measured=how.measured,
        source=how.source,
    )
