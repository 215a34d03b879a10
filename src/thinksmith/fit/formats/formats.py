"""Formats of weights: how many bytes a model takes in each, and how many of them a forward pass reads.

A format of the Hugging Face world packs the linear layers of the decoder and leaves the rest in 16 bits; one of GGUF is
a mix of block types, which llama.cpp chooses tensor by tensor (`gguf_mixes.py`). Both are arithmetic on a `Shape`.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from thinksmith.errors import UserError
from thinksmith.fit.formats.format_table import TABLE, Format, Packing
from thinksmith.fit.formats.gguf_mixes import MIXES, mix_bytes
from thinksmith.fit.formats.kv_formats import KV_FORMATS, KVFormat, cache_bytes, find_kv_format
from thinksmith.fit.rounding import round_up
from thinksmith.fit.shapes.shape import Shape, Tensor

__all__ = [
    "FORMATS",
    "KV_FORMATS",
    "PUBLISHED",
    "Format",
    "KVFormat",
    "bits_per_weight",
    "cache_bytes",
    "find_format",
    "find_kv_format",
    "read_bytes",
    "resolve",
    "tensor_bytes",
    "weights_bytes",
]

LINEAR = ("attention", "mlp", "expert")  # parts whose matrices are packed; a router is small, and chooses
PUBLISHED = Format("published", 0, (), "bf16", "as they were published", aliases=("as-published", "original"))
FORMATS: Mapping[str, Format] = MappingProxyType({each.name: each for each in TABLE})
_NAMES = {alias.casefold(): each for each in (*TABLE, PUBLISHED) for alias in (each.name, *each.aliases)}
# The same word means another thing to these engines: in llama.cpp the norms of a 16-bit file are in 32 bits, and
# torchao's int4 is in groups of 32.
_FLOATS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16_gguf"}
_MEANT = {
    "llamacpp": {**_FLOATS, "mxfp4": "mxfp4_moe"},
    "ollama": _FLOATS,
    "local": {"int4": "int4_32"},
}


def find_format(name: str, engine: str = "", kind: str = "cuda") -> Format:
    """The format of this name or alias, in any case; with `engine`, what that engine makes of the word.

    `kind`: of device, "cpu" or another: on a CPU torchao's int4 is not packed. Raises UserError naming the nearest.
    """
    found = _NAMES.get(name.strip().casefold().replace("-", "_")) or _NAMES.get(name.strip().casefold())
    if found is None:
        near = get_close_matches(name.casefold()[:40], _NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(FORMATS)}"
        raise UserError(f"unknown format {name[:40]!r}: {hint}")
    meant = _MEANT.get(engine, {}).get(found.name, found.name)
    if engine == "local" and kind == "cpu" and meant == "int4_32":
        meant = "int4_cpu"
    return FORMATS.get(meant, found)


def resolve(format: Format, shape: Shape) -> Format:
    """The format itself; for `PUBLISHED` that of the model's weights as they were published."""
    return find_format(shape.published) if format.name == PUBLISHED.name else format


def tensor_bytes(tensor: Tensor, shape: Shape, format: Format) -> int:
    """Bytes of all copies and layers of `tensor`."""
    format = resolve(format, shape)
    if format.mix:
        return mix_bytes(tensor, shape, MIXES[format.mix])
    packing = format.packing
    if packing is None or len(tensor.shape) != 2 or tensor.part not in _packed_parts(format, shape):
        return tensor.params * format.rest
    return tensor.count * packed_bytes(packing, tensor.shape[0], tensor.shape[1])


def _packed_parts(format: Format, shape: Shape) -> tuple[str, ...]:
    return ("expert",) if format.experts_only and shape.mixture else LINEAR


def packed_bytes(packing: Packing, outputs: int, inputs: int) -> int:
    """Bytes of one packed matrix: its numbers, a scale for each group, and what it has once."""
    outputs, inputs = round_up(outputs, packing.pad[0]), round_up(inputs, packing.pad[1])
    numbers = -(-outputs * inputs * packing.bits // 8)
    if packing.flat:
        groups = -(-outputs * inputs // packing.flat)
    else:
        high, wide = packing.group
        groups = (-(-outputs // high) if high else 1) * (-(-inputs // wide) if wide else 1)
    nested = -(-groups // packing.nested) * 4 if packing.nested else 0
    return numbers + groups * packing.scale_bits // 8 + nested + packing.once + packing.column * inputs


def weights_bytes(shape: Shape, format: Format) -> int:
    """Bytes of a model's weights; for `PUBLISHED` those of its files, where they are known."""
    if format.name == PUBLISHED.name and shape.stored:
        return shape.stored
    return sum(tensor_bytes(tensor, shape, format) for tensor in shape.tensors)


def bits_per_weight(shape: Shape, format: Format) -> float:
    """Bits for each parameter of the model, scales and what is not packed included."""
    return 8 * weights_bytes(shape, format) / max(1, shape.params)


def read_bytes(shape: Shape, format: Format, rows: int) -> float:
    """Bytes of weights that a forward pass over `rows` tokens reads, each once.

    Of a table of embeddings that is not the head too: one row a token. Of E experts of which each token takes k: the
    expected number of different ones, E·(1-(1-k/E)^rows), as if a router chose evenly; a trained one reads fewer.
    """
    if rows <= 0:
        return 0.0
    total = 0.0
    for tensor in shape.tensors:
        size = tensor_bytes(tensor, shape, format)
        if tensor.part == "embedding" and not shape.tied:
            total += size * min(1.0, rows / tensor.shape[0])
        elif tensor.active < tensor.copies:
            total += size * (1 - (1 - tensor.active / tensor.copies) ** rows)
        else:
            total += size
    if format.name == PUBLISHED.name and shape.stored:
        total *= shape.stored / max(1, sum(tensor_bytes(tensor, shape, format) for tensor in shape.tensors))
    return total
