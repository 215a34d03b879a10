"""The memory that serving a model takes, by any of the engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import FORMATS, Format, find_format, resolve
from thinksmith.fit.formats.kv_formats import KV_FORMATS, KVFormat, find_kv_format
from thinksmith.fit.memory.estimate import Estimate, Item
from thinksmith.fit.memory.local import local_items
from thinksmith.fit.memory.runtime import check_engine, runtime_items
from thinksmith.fit.memory.servers import llamacpp_items, vllm_items
from thinksmith.fit.memory.serving import Serving
from thinksmith.fit.shapes.configs import caches_of
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device

__all__ = ["Serving", "cache_format", "local_token_numbers", "serving_memory", "weights_format"]

SIXTEEN = ("bf16", "fp16")
WELL_KNOWN = ("bf16", "fp8", "int8", "int4", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k", "iq2_xxs", "iq1_s")


def serving_memory(shape: Shape, serving: Serving, device: Device) -> Estimate:
    """What it takes in the memory of `device`, at the peak of loading and of generating.

    Raises UserError where the engine does not run on the device, or not the formats.
    """
    check_engine(serving.engine, device)
    format = weights_format(shape, serving, device)
    kv = cache_format(serving)
    items = {"local": local_items, "vllm": vllm_items}.get(serving.engine, llamacpp_items)
    runtime = runtime_items(serving.engine, device)
    return Estimate((*runtime, *_named(items(shape, serving, device, format, kv))))


def weights_format(shape: Shape, serving: Serving, device: Device) -> Format:
    """The format that the engine holds the weights in. Raises UserError if it has no such format."""
    asked = resolve(find_format(serving.format), shape)
    format = find_format(asked.name, serving.engine, device.kind)
    if serving.engine not in format.engines:
        others = [FORMATS[name] for name in WELL_KNOWN if serving.engine in FORMATS[name].engines]
        near = min(others, key=lambda each: abs(each.bits - asked.bits))
        engines = " or ".join(each for each in asked.engines if each != serving.engine)
        use = f"use {engines}, or" if engines else "use"
        raise UserError(f"{serving.engine} does not run weights in {asked.name}: {use} format {near.name}")
    return format


def cache_format(serving: Serving) -> KVFormat:
    """The format of keys and values. Raises UserError if the engine has no such."""
    kv = find_kv_format(serving.kv_format)
    # Which 16 bits they are makes no difference to anybody's memory.
    if serving.engine not in kv.engines and not (kv.name in SIXTEEN and serving.engine in ("llamacpp", "ollama")):
        own = ", ".join(each.name for each in KV_FORMATS.values() if serving.engine in each.engines)
        raise UserError(f"{serving.engine} does not keep keys and values in {kv.name}: use one of {own}")
    return kv


def local_token_numbers(config: Mapping[str, Any]) -> int:
    """Numbers that the local engine's pool keeps of one token: all that the model's layers remember of it.

    It keeps them for every token, so windows make nothing smaller there. `config`: a model's, as `to_dict()` gives it.
    Raises UserError as `caches_of`.
    """
    return sum(cache.layers * cache.per_token for cache in caches_of(config))


def _named(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Those that take anything."""
    return tuple(item for item in items if item.bytes > 0)
