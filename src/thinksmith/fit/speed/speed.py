"""How fast a model can go on a machine: what must be read and multiplied, over how fast that is done.

Two figures stand apart. The ceiling is arithmetic: what must be read over the bandwidth, or what must be multiplied
over the rate of products, whichever takes longer. The typical speed is that of an engine (`efficiency.py`): it reads
and multiplies at a share of these, one after the other, and each layer costs something whatever its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import Format, cache_bytes, find_format, read_bytes, resolve
from thinksmith.fit.memory.inference import Serving
from thinksmith.fit.shapes.shape import Cache, Shape
from thinksmith.fit.speed.device import Device
from thinksmith.fit.speed.efficiency import CEILING, Efficiency, efficiency_of

Bound = Literal["memory", "compute", "overhead"]
# Where a machine has no products of a format, numbers are widened first.
WIDER = {"fp4": "fp8", "fp8": "bf16", "int8": "bf16", "fp16": "bf16", "bf16": "fp32"}
MOST_TOKENS = 10**12


@dataclass(frozen=True, slots=True)
class Work:
    """What one pass asks for: bytes that are read, operations (a multiply-add is two), and what an engine spends per
    layer and row. `rate`: operations per second of the machine in the format that is multiplied."""

    bytes: float
    flops: float
    rate: float
    layers: int
    rows: int

    def parts(self, device: Device, how: Efficiency) -> dict[str, float]:
        """Seconds of each part."""
        padded = -(-self.rows // how.panel) * how.panel / self.rows if self.rows else 1.0
        return {
            "reading": self.bytes / (device.bandwidth * how.read),
            "multiplying": self.flops * padded / (self.rate * how.multiply),
            "overhead": how.step + how.launch * self.layers + how.row * self.rows,
        }


@dataclass(frozen=True, slots=True)
class Pace:
    """A speed. `tokens_per_second` is typical, of all sequences together, and `ceiling` what no engine can exceed;
    `seconds` and `least` are those of one pass at either. `bound`: what takes most of the typical time. `parts`: its
    seconds by part. `source`: where the shares between the two are from; not `measured` where they are another's.
    """

    tokens_per_second: float
    ceiling: float
    seconds: float
    least: float
    bound: Bound
    parts: Mapping[str, float] = field(repr=False)
    measured: bool = True
    source: str = ""


def decode(shape: Shape, serving: Serving, device: Device, context: int | None = None) -> Pace:
    """The speed at which `serving.batch` sequences of `context` tokens each (default: those of `serving`) go on by one
    token. Raises UserError for a format or engine that is not known."""
    work = decode_work(shape, serving, device, serving.context if context is None else context)
    return _pace(work, serving.batch, device, how_fast(shape, serving, device))


def prefill(shape: Shape, serving: Serving, device: Device, tokens: int, context: int = 0) -> Pace:
    """The speed at which a prompt of so many tokens is read, behind `context` tokens that were read before.

    Raises UserError for a format or engine that is not known, and for numbers that mean nothing.
    """
    work = prefill_work(shape, serving, device, tokens, context)
    return _pace(work, tokens, device, how_fast(shape, serving, device))


def decode_work(shape: Shape, serving: Serving, device: Device, context: float) -> Work:
    """What a step of decoding asks for: all weights but the table of embeddings, the caches of all sequences; two
    operations for each parameter and row, and attention's. Latent attention is counted in its absorbed form, where
    queries are turned into the latent space (DeepSeek-V2, arXiv:2405.04434, section 2.1.2)."""
    whole = check_tokens("context", context)
    weights = _format(shape, serving, device.kind)
    rows = serving.batch
    scores = sum(
        cache.layers * min(context, cache.window or inf) * _width(shape, cache)
        for cache in shape.caches
        if cache.per_token
    )
    return Work(
        bytes=read_bytes(shape, weights, rows) + rows * cache_bytes(shape, whole, serving.kv_format),
        flops=2.0 * rows * (shape.active_params + shape.heads * scores),
        rate=rate_of(device, weights.multiplied),
        layers=shape.layers,
        rows=rows,
    )


def prefill_work(shape: Shape, serving: Serving, device: Device, tokens: int, context: int = 0) -> Work:
    """What reading a prompt asks for: weights once, two operations for each parameter and token (the output layer for
    the last token only), and the products of attention of each token with those before it, causal or in its window."""
    check_tokens("context", context)
    if check_tokens("tokens", tokens) == 0:
        raise UserError("a prompt needs at least one token")
    weights = _format(shape, serving, device.kind)
    head = head_params(shape)
    return Work(
        bytes=read_bytes(shape, weights, tokens) + cache_bytes(shape, context, serving.kv_format),
        flops=2.0 * (tokens * (shape.active_params - head) + head) + attention_flops(shape, tokens, context),
        rate=rate_of(device, weights.multiplied),
        layers=shape.layers,
        rows=tokens,
    )


def attention_flops(shape: Shape, tokens: int, context: int = 0) -> float:
    """Operations of attention's products in a forward pass over `tokens` tokens behind `context` others: each token
    with itself and all before it, or those in its window."""
    pairs = sum(cache.layers * _pairs(tokens, context, cache.window) for cache in shape.caches if cache.per_token)
    return 2.0 * (shape.key_dim + shape.value_dim) * shape.heads * pairs


def head_params(shape: Shape) -> int:
    """Parameters of the output layer; of a tied one those of the table of embeddings."""
    part = "embedding" if shape.tied else "head"
    return sum(tensor.params for tensor in shape.tensors if tensor.part == part)


def rate_of(device: Device, format: str) -> float:
    """Operations per second of the device in a format, or in the next wider one that it has.

    Raises UserError if it has none of them.
    """
    wanted: str | None = format
    while wanted is not None:
        if wanted in device.flops:
            return device.flops[wanted]
        wanted = WIDER.get(wanted)
    raise UserError(f"{device.name} has no rate of products for {format}: give its tflops for fp32 at least")


def check_tokens(name: str, tokens: float) -> int:
    """`tokens` as a whole number. Raises UserError unless it is between 0 and MOST_TOKENS."""
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not 0 <= tokens <= MOST_TOKENS:
        raise UserError(f"{name} must be a number of tokens from 0 to {MOST_TOKENS:g}, not {str(tokens)[:40]}")
    return int(tokens)


def seconds_of(work: Work, device: Device, how: Efficiency) -> tuple[float, float]:
    """Typical seconds of a pass, and the least that it can take."""
    return sum(work.parts(device, how).values()), _least(work, device)


def how_fast(shape: Shape, serving: Serving, device: Device) -> Efficiency:
    """The shares that the engine reaches with these weights on this device."""
    return efficiency_of(serving.engine, device, _format(shape, serving, device.kind).bits)


def _pace(work: Work, tokens: int, device: Device, how: Efficiency) -> Pace:
    parts = work.parts(device, how)
    seconds, least = sum(parts.values()), _least(work, device)
    named: dict[str, Bound] = {"reading": "memory", "multiplying": "compute", "overhead": "overhead"}
    return Pace(
        tokens_per_second=tokens / seconds,
        ceiling=tokens / least,
        seconds=seconds,
        least=least,
        bound=named[max(parts, key=parts.__getitem__)],
        parts=parts,
        measured=how.measured,
        source=how.source,
    )


def _least(work: Work, device: Device) -> float:
    parts = work.parts(device, CEILING)
    return max(parts["reading"], parts["multiplying"])


def _format(shape: Shape, serving: Serving, kind: str) -> Format:
    return resolve(find_format(serving.format, serving.engine, kind), shape)


def _width(shape: Shape, cache: Cache) -> int:
    """Numbers of a query head that are multiplied with each token of the cache, for scores and for values."""
    plain = shape.key_dim + shape.value_dim
    latent = shape.heads == shape.kv_heads and cache.per_token * 2 <= shape.kv_heads * plain
    return 2 * cache.per_token if latent else plain


def _pairs(tokens: int, context: int, window: int | None) -> int:
    """Pairs of a token and one that it sees, where `tokens` come behind `context`."""
    end = context + tokens
    if window is None or end <= window:
        return tokens * context + tokens * (tokens + 1) // 2
    growing = max(0, window - context)  # so many tokens still see all before them
    return growing * context + growing * (growing + 1) // 2 + (tokens - growing) * window
