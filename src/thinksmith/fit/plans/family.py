"""The well-known table: the R1 family on a device, rounded figures beside exact ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from thinksmith.fit.formats.formats import find_format, weights_bytes
from thinksmith.fit.plans.serving import LEAST_CONTEXT, Plan, bits_that_fit, plan, settle
from thinksmith.fit.shapes.catalogue import find_shape
from thinksmith.fit.speed.device import Device

# The 16-bit rows, then what is done where 16 bits are too many.
ROWS = (
    ("DeepSeek-R1-Distill-Qwen-1.5B", "bf16"),
    ("DeepSeek-R1-Distill-Qwen-7B", "bf16"),
    ("DeepSeek-R1-Distill-Llama-8B", "bf16"),
    ("DeepSeek-R1-Distill-Qwen-14B", "bf16"),
    ("DeepSeek-R1-Distill-Qwen-32B", "bf16"),
    ("DeepSeek-R1-Distill-Qwen-32B", "q4_k_m"),
    ("DeepSeek-R1-Distill-Llama-70B", "bf16"),
    ("DeepSeek-R1-Distill-Llama-70B", "q8_0"),
    ("DeepSeek-R1-Distill-Llama-70B", "q4_k_m"),
    ("DeepSeek-R1", "fp8"),
    ("DeepSeek-R1", "q4_k_m"),
    ("DeepSeek-R1", "iq1_s"),
)
_BILLIONS = re.compile(r"-(\d+(?:\.\d+)?)B$")
NAMED = {"DeepSeek-R1": 671.0}  # billions of parameters, where the name does not say them


@dataclass(frozen=True, slots=True)
class Row:
    """`rounded`: bytes as people say them, billions in the name times the bits of the format without its scales."""

    model: str
    plan: Plan
    rounded: float
    weights: int


def family(device: Device, context: int | None = None) -> list[Row]:
    """The table's rows. `context`: of a request; by default all that each model has."""
    rows = []
    for name, form in ROWS:
        shape = find_shape(name)
        serving = settle(shape, device, format=form, context=min(context or shape.context, shape.context))
        weights = weights_bytes(shape, find_format(form))
        rows.append(Row(name, plan(shape, device, serving, whole=context is None), _rounded(name, form), weights))
    return rows


def largest_bits(device: Device) -> float:
    """Bits per weight at which R1 with its 671 billion parameters would fit, with LEAST_CONTEXT tokens of context."""
    shape = find_shape("DeepSeek-R1")
    serving = settle(shape, device, format="iq1_s", context=LEAST_CONTEXT)
    return bits_that_fit(shape, device, replace(serving, batch=1))


def _rounded(name: str, form: str) -> float:
    found = _BILLIONS.search(name)
    billions = float(found[1]) if found else NAMED[name]
    bits = find_format(form).bits
    return billions * 1e9 * (int(bits) if bits >= 2 else bits) / 8
