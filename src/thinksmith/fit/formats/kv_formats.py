"""Formats of the cache of keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from thinksmith.errors import UserError
from thinksmith.fit.formats.ggml import BLOCKS
from thinksmith.fit.shapes.shape import Shape


@dataclass(frozen=True, slots=True)
class KVFormat:
    """`numbers` of a cache take `bytes`. `state`: bytes of a number that does not grow with the sequence (the state of
    linear attention), which engines do not quantise. `engines`: which have it."""

    name: str
    numbers: int
    bytes: int
    state: int
    engines: tuple[str, ...]
    about: str
    aliases: tuple[str, ...] = ()

    @property
    def bits(self) -> float:
        """Bits of a number."""
        return 8 * self.bytes / self.numbers


_LLAMA = ("llamacpp", "ollama")


def _block(name: str, about: str, engines: tuple[str, ...] = ("llamacpp",)) -> KVFormat:
    block = BLOCKS[name.upper()]
    return KVFormat(name, block.numbers, block.bytes, 4, engines, about)


# Engines: llama.cpp's --cache-type-k (f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1), Ollama's OLLAMA_KV_CACHE_TYPE
# (f16 q8_0 q4_0), vLLM's --kv-cache-dtype (auto, fp8): https://docs.ollama.com/faq, https://docs.vllm.ai
_ALL = (
    KVFormat("fp32", 1, 4, 4, ("local", "llamacpp"), "32 bits", ("f32", "float32")),
    KVFormat("bf16", 1, 2, 2, ("local", "vllm", "llamacpp"), "16 bits, as the model computes", ("bfloat16", "auto")),
    KVFormat("fp16", 1, 2, 2, ("local", "vllm", *_LLAMA), "16 bits", ("f16", "float16", "half")),
    KVFormat("fp8", 1, 1, 2, ("vllm",), "8-bit floats, a scale for each layer", ("fp8_e4m3", "fp8_e5m2", "f8")),
    KVFormat("int8", 1, 1, 2, (), "8-bit integers, a scale for each layer"),
    _block("q8_0", "8 bits, 32 share a 16-bit scale", _LLAMA),
    _block("q5_1", "5 bits, 32 share a scale and a least value"),
    _block("q5_0", "5 bits, 32 share a scale"),
    _block("q4_1", "4 bits, 32 share a scale and a least value"),
    _block("iq4_nl", "4 bits on an uneven grid, 32 share a scale"),
    _block("q4_0", "4 bits, 32 share a scale", _LLAMA),
)
KV_FORMATS: Mapping[str, KVFormat] = MappingProxyType({each.name: each for each in _ALL})
_NAMES = {alias: each for each in _ALL for alias in (each.name, *each.aliases)}


def find_kv_format(name: str) -> KVFormat:
    """The format of a cache by name or alias, in any case. Raises UserError naming the nearest."""
    found = _NAMES.get(name.strip().casefold())
    if found is None:
        near = get_close_matches(name.casefold()[:40], _NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(KV_FORMATS)}"
        raise UserError(f"unknown format of the KV cache {name[:40]!r}: {hint}")
    return found


def cache_bytes(shape: Shape, tokens: int, kv_format: KVFormat | str) -> int:
    """Bytes that one sequence of so many tokens keeps, exact numbers of it, before an engine rounds up to its blocks.

    Raises UserError for an unknown format."""
    kv = find_kv_format(kv_format) if isinstance(kv_format, str) else kv_format
    total = 0
    for cache in shape.caches:
        fixed = cache.layers * cache.fixed
        growing = cache.numbers(tokens) - fixed
        total += -(-growing // kv.numbers) * kv.bytes + fixed * kv.state
    return total
