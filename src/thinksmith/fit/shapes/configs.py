"""From a model's config.json to its shape, without torch and without weights.

Families that `families.py` knows are computed by formula. Any other causal decoder of transformers is built on its
meta device, where tensors have a shape and no memory (`built.py`).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from thinksmith.errors import UserError
from thinksmith.fit.shapes.families import FAMILIES
from thinksmith.fit.shapes.fields import Fields
from thinksmith.fit.shapes.parts import Heads, heads_of, latent_heads, linear, vectors
from thinksmith.fit.shapes.shape import Cache, Shape, Tensor
from thinksmith.fit.shapes.windows import caches

MOST_PARAMS = 10**18  # of any model: far more than there are, and little enough for every figure that comes of it
LAST = ("down_proj", "w2")  # the matrix that ends a feed-forward: its inputs are the width inside
DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def shape_of(config: Mapping[str, Any], name: str, source: str = "") -> Shape:
    """The shape of the model whose config.json this is.

    Of a model that sees or hears, it is the part that reads and writes text (`text_config`). `name` is for people,
    `source` tells where the config is from. Raises UserError for a field that is missing or is no size, and for a
    `model_type` that is not a causal decoder with attention.
    """
    try:
        config = text_part(config)
        shape = _known(config) if _model_type(config) in FAMILIES else _built(config)
        if shape.params > MOST_PARAMS:
            raise UserError(f"the config's sizes make a model of 10^{len(str(shape.params)) - 1} parameters: mend them")
    except UserError as error:
        raise UserError(f"model {name}: {error}") from None
    return replace(shape, name=name, source=source, published=published(config))


def caches_of(config: Mapping[str, Any]) -> tuple[Cache, ...]:
    """What the layers remember of a sequence; quick where the family is known. Raises UserError as `shape_of`."""
    config = text_part(config)
    family = FAMILIES.get(_model_type(config))
    return caches(Fields(config, family.defaults), family.rule, family.latent) if family else _built(config).caches


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of what reads and writes text, with what the whole says of its numbers and of its head."""
    if not isinstance(config, Mapping):
        raise UserError(f"the config is a {type(config).__name__}: it must be an object with fields")
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        return config
    shared = ("tie_word_embeddings", "quantization_config", "torch_dtype", "dtype")
    return {**{key: config[key] for key in shared if key in config}, **inner}


def published(config: Mapping[str, Any]) -> str:
    """The format of the weights as published, a name of `formats.py`; bf16 where the config does not say."""
    said = config.get("quantization_config")
    if isinstance(said, Mapping):
        return _quantized(said)
    dtype = config.get("dtype") or config.get("torch_dtype")
    return DTYPES.get(dtype.removeprefix("torch."), "bf16") if isinstance(dtype, str) else "bf16"


def _quantized(said: Mapping[str, Any]) -> str:
    """What a `quantization_config` says. Fields as in
    https://huggingface.co/docs/transformers/main_classes/quantization and, for compressed-tensors, in
    https://github.com/vllm-project/compressed-tensors."""
    method = str(said.get("quant_method"))[:40].casefold()
    bits = said.get("bits", 4)
    if method == "bitsandbytes":
        return "nf4" if said.get("load_in_4bit") else "int8"
    if method in ("gptq", "awq", "auto-round"):
        return "int8" if bits == 8 else "int4"
    if method in ("compressed-tensors", "modelopt"):
        return _grouped(said)
    return {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "nvfp4": "nvfp4"}.get(method, "bf16")


def _grouped(said: Mapping[str, Any]) -> str:
    """Formats that compressed-tensors and NVIDIA's modelopt tell by the weights of their first group."""
    groups = said.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    weights = weights if isinstance(weights, Mapping) else {}
    told = f"{said.get('format')} {said.get('quant_algo')}".casefold()[:80]
    floats, bits = weights.get("type") == "float", weights.get("num_bits")
    if "nvfp4" in told or (floats and bits == 4):
        return "nvfp4"
    if "fp8" in told or "float-quantized" in told or (floats and bits == 8):
        return "fp8"
    return "int8" if bits == 8 else "int4"


def _known(config: Mapping[str, Any]) -> Shape:
    """By formula."""
    kind = _model_type(config)
    family = FAMILIES[kind]
    c = Fields(config, family.defaults)
    hidden, vocab, tied = c.whole("hidden_size"), c.whole("vocab_size"), c.flag("tie_word_embeddings")
    layers = tuple(range(c.layers))
    tensors = (
        *linear("embed_tokens", "embedding", vocab, hidden, ()),
        *(tensor for tensor in family.build(c, layers) if tensor.layers),
        *vectors(hidden, (), "norm"),
        *([] if tied else linear("lm_head", "head", vocab, hidden, ())),
    )
    h: Heads = latent_heads(c) if family.latent else heads_of(c)
    return Shape(
        name="",
        architecture=kind,
        layers=len(layers),
        hidden=hidden,
        inner=inner_width(tensors),
        heads=h.queries,
        kv_heads=h.keys,
        key_dim=h.key_dim,
        value_dim=h.value_dim,
        vocab=vocab,
        tied=tied,
        context=c.whole("max_position_embeddings"),
        tensors=tensors,
        caches=caches(c, family.rule, family.latent),
        draft=family.draft(c),
    )


def inner_width(tensors: Iterable[Tensor]) -> int:
    """Width of the widest feed-forward of one layer, over all experts that a token uses."""
    widths: Counter[int] = Counter()
    for tensor in tensors:
        if tensor.name in LAST:
            for layer in tensor.layers:
                widths[layer] += tensor.active * tensor.shape[1]
    return max(widths.values(), default=0)


def _built(config: Mapping[str, Any]) -> Shape:
    from thinksmith.fit.shapes.built import built_shape

    return built_shape(config, _model_type(config))


def _model_type(config: Mapping[str, Any]) -> str:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise UserError("the config lacks the field model_type: take the published config.json")
    return kind[:80]


def nearest(kind: str, known: Iterable[str]) -> str:
    """A few known names like this one, for a message."""
    near = difflib.get_close_matches(kind, sorted(known), n=3, cutoff=0.4)
    return (
        f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(FAMILIES)} and what transformers knows"
    )
