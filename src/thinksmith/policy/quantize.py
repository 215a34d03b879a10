"""Weight-only quantisation, by torchao: the decoder's linear layers in 8 or 4 bits, everything else as it was.

int8 has one scale for each output (round to nearest, symmetric), int4 one for each 32 inputs. Embeddings, norms and the
head, which gives the logits and is often the embedding too, stay: they are a small part and matter most.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from typing import Any

import torch
from torch import nn

from thinksmith.errors import UserError, one_line

KINDS = ("int8", "int4")
GROUP = 32  # inputs that share a scale in int4
LEAST = 0.5  # of the decoder's weights must lie in linear layers, else quantising them saves next to nothing


def check_quantize(kind: str, place: torch.device, dtype: torch.dtype) -> None:
    """Raises UserError for what can be known before a model is read."""
    if kind not in KINDS:
        raise UserError(f"unknown quantize {kind!r}: use one of {', '.join(KINDS)}")
    if importlib.util.find_spec("torchao") is None:
        raise UserError(f"quantize={kind!r} needs torchao: pip install 'thinksmith[quant]'")
    if kind == "int8" and dtype == torch.float16:  # torchao scales after the sum, which overflows in float16
        raise UserError("int8 does not go with dtype float16: use bfloat16 or float32")
    if kind == "int4" and place.type == "cuda" and dtype != torch.bfloat16:
        raise UserError("int4 on a GPU goes with dtype bfloat16 only")


def quantize_weights(model: Any, name: str, kind: str) -> None:
    """Quantise `model` in place; `kind`: int8 or int4. Raises UserError if its architecture cannot.

    On a CPU torchao has no kernel for 4 bits that are packed, so int4 takes as much memory as int8 there.
    """
    decoder = model.get_decoder()
    head = model.get_output_embeddings()
    linears = {at: each for at, each in decoder.named_modules() if isinstance(each, nn.Linear) and each is not head}
    _check_architecture(model, name, kind, linears)
    chosen = {id(linear) for linear in linears.values()}
    from torchao.quantization import quantize_

    def wanted(module: nn.Module, name: str) -> bool:
        found = id(module) in chosen
        if found:
            give_back()  # torchao makes wider copies of each layer, which stay in malloc's heap: a quarter of the model
        return found

    try:
        quantize_(decoder, _config(kind, model.device), filter_fn=wanted)
    except Exception as error:  # torchao's kernels refuse in many ways
        raise UserError(f"torchao cannot make model {name} {kind} on {model.device.type}: {one_line(error)}") from None


def give_back() -> None:
    """Memory that was freed goes back to the system, where the C library can do that (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _config(kind: str, place: torch.device) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup

    # torchao's "recommended" settings would change how every other matrix product of the process is computed.
    if kind == "int8":
        return Int8WeightOnlyConfig(set_inductor_config=False)
    if place.type == "cuda":
        return Int4WeightOnlyConfig(
            group_size=GROUP, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        )
    number: torch.dtype = torch.int4  # type: ignore[attr-defined]  # torch's stubs do not know it
    return IntxWeightOnlyConfig(weight_dtype=number, granularity=PerGroup(GROUP))


def _check_architecture(model: Any, name: str, kind: str, linears: dict[str, nn.Linear]) -> None:
    tables = {
        id(weight) for module in model.modules() if isinstance(module, nn.Embedding) for weight in [module.weight]
    }
    total = sum(weight.numel() for weight in model.get_decoder().parameters() if id(weight) not in tables)
    share = sum(linear.weight.numel() for linear in linears.values()) / max(1, total)
    if share < LEAST:
        raise UserError(
            f"model {name} cannot be quantised: torchao does linear layers, and of {model.config.model_type} they hold "
            f"{share:.0%} of the weights; leave quantize out"
        )
    if kind == "int4":
        for at, linear in linears.items():
            if linear.in_features % GROUP:
                inputs = f"{at} has {linear.in_features} inputs, no multiple of {GROUP}"
                raise UserError(f"model {name} cannot be int4: {inputs}; use int8")
