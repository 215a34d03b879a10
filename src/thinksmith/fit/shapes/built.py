"""The shape of a model that no formula of ours knows: transformers builds it without memory, to be read off."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from thinksmith.errors import UserError, one_line
from thinksmith.fit.shapes.configs import inner_width, nearest
from thinksmith.fit.shapes.fields import FULL, LINEAR, MOST, MOST_LAYERS, SLIDING, Fields
from thinksmith.fit.shapes.shape import Cache, Part, Shape, Tensor
from thinksmith.fit.shapes.windows import linear_state

if TYPE_CHECKING:
    import torch

# Fields that say how something is computed or loaded, not how large it is; some would make transformers fetch code.
NOT_SIZES = ("auto_map", "quantization_config", "dtype", "torch_dtype", "architectures", "model_type")
ONE_BY_ONE = re.compile("^(num|n)_.*(layer|expert|head|block)|layers?$")  # these are gone through one by one
USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "experts_per_token")
EXPERTS = re.compile(r"(^|\.)experts\.")
NUMBER = re.compile(r"\.(\d+)\.")
LATENT = ("kv_a_proj_with_mqa", "wk")  # the latter of an index that finds what is worth attending to
FUSED = ("qkv_proj", "query_key_value", "Wqkv", "qkv")  # queries, keys and values in one matrix
OUT = ("o_proj", "dense", "out_proj", "Wo", "wo")  # its inputs are as wide as the queries


def built_shape(config: Mapping[str, Any], kind: str) -> Shape:
    """The shape of any causal decoder that transformers knows. Raises UserError for what is none, what it cannot build,
    and where a layer remembers something else than keys and values or their latent."""
    model, made = _build(config, kind)
    c = Fields(made)
    tensors = tuple(_tensors(model, c))
    heads = c.whole("num_attention_heads")
    dim = c.maybe("head_dim", max(1, c.whole("hidden_size") // heads))
    return Shape(
        name="",
        architecture=kind,
        layers=c.layers,
        hidden=c.whole("hidden_size"),
        inner=_inner(c, tensors),
        heads=heads,
        kv_heads=c.maybe("num_key_value_heads", heads),
        key_dim=c.maybe("qk_head_dim", dim),
        value_dim=c.maybe("v_head_dim", dim),
        vocab=c.whole("vocab_size"),
        tied=not any(tensor.part == "head" for tensor in tensors),
        context=c.whole("max_position_embeddings"),
        tensors=tensors,
        caches=_caches(c, _remembered(tensors)),
    )


def _build(config: Mapping[str, Any], kind: str) -> tuple[torch.nn.Module, Mapping[str, Any]]:
    """The model on the meta device, and its config with all defaults."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if kind not in CONFIG_MAPPING_NAMES or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        known = "is not a causal language model" if kind in CONFIG_MAPPING_NAMES else "is not known here"
        raise UserError(f"model_type {kind!r} {known}: {nearest(kind, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)}")
    fields = {name: value for name, value in config.items() if name not in NOT_SIZES and not name.startswith("_")}
    fields = {name: value for name, value in fields.items() if "implementation" not in name}
    with _quiet():
        try:
            _check_size("config", fields)
            made = transformers.AutoConfig.for_model(kind, **fields)
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(made, trust_remote_code=False)
        except UserError:
            raise
        except Exception as error:  # a config can be wrong in more ways than its readers foresee
            raise UserError(f"transformers cannot build this {kind}: {one_line(error)}") from None
    text = made.get_text_config(decoder=True)
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size", "max_position_embeddings")
    said = {name: getattr(text, name, None) for name in names}  # under the name that all models have
    return model, {**text.to_dict(), **said}


def _check_size(name: str, value: Any) -> None:
    """Building takes time for every layer and every expert, so their number is looked at first."""
    if isinstance(value, Mapping):
        for inner, one in value.items():
            _check_size(str(inner), one)
    elif isinstance(value, list | tuple) and len(value) > MOST_LAYERS:
        raise UserError(f"the config's {name[:40]} is a list of {len(value)}: give one value for each layer")
    elif isinstance(value, int) and abs(value) > (MOST_LAYERS if ONE_BY_ONE.search(name) else MOST):
        raise UserError(f"the config's {name[:40]} is larger than any model's: mend it")


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers and torch warn of what does not matter for sizes."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def _tensors(model: torch.nn.Module, c: Fields) -> Iterator[Tensor]:
    """The model's parameters, with those that layers have alike as one tensor."""
    alike: dict[tuple[str, Part, tuple[int, ...], bool], Counter[int]] = defaultdict(Counter)  # how many by layer
    for path, parameter in model.named_parameters():
        shape, number = tuple(parameter.shape), NUMBER.search(path)
        name, part, chosen = _named(path, len(shape)), _part(path, len(shape)), EXPERTS.search(path) is not None
        stacked = chosen and len(shape) == (2 if part == "bias" else 3)  # all experts of a layer in one parameter
        copies, one = (shape[0], shape[1:]) if stacked else (1, shape)
        if number:
            alike[name, part, one, chosen][int(number[1])] += copies
        else:
            yield Tensor(name, part, shape)
    for (name, part, one, chosen), having in alike.items():
        for copies in sorted(set(having.values())):
            layers = tuple(sorted(layer for layer, many in having.items() if many == copies))
            yield Tensor(name, part, one, layers, copies, min(copies, c.whole(*USED)) if chosen else copies)


def _named(path: str, dims: int) -> str:
    """The last part of a parameter's name, as `Tensor` has it."""
    *_, before, last = ("", *path.split("."))
    if last == "weight":
        return before
    return f"{before}.bias" if last == "bias" else last.replace("_bias", ".bias") if dims < 3 else last


def _part(path: str, dims: int) -> Part:
    """What a parameter belongs to, by its name."""
    name = path.removesuffix(".weight").rpartition(".")[2]
    if path.endswith("bias"):
        return "bias"
    if "norm" in name or (name.startswith("ln_") and dims == 1):
        return "norm"
    if EXPERTS.search(path):
        return "expert"
    if name in ("gate", "router", "wg", "shared_expert_gate") or ".router." in path:
        return "router"
    if re.search("attn|attention|mixer", path):
        return "attention"
    if name in ("lm_head", "embed_out", "output"):
        return "head"
    return "embedding" if re.search("embed|wte|wpe", path) else "mlp"


def _remembered(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Numbers that each layer keeps of a token: the outputs of what makes its keys and values, or their latent."""
    rows: dict[str, Counter[int]] = defaultdict(Counter)
    width: Counter[int] = Counter()
    for tensor in tensors:
        if tensor.part == "attention" and len(tensor.shape) == 2:
            for layer in tensor.layers:
                rows[tensor.name][layer] += tensor.copies * tensor.shape[0]
                width[layer] += tensor.copies * tensor.shape[1] if tensor.name in OUT else 0
    kept: dict[int, int] = {}
    for layer in width:
        fused = sum(rows[name][layer] - width[layer] for name in FUSED if layer in rows[name])
        latent = sum(rows[name][layer] for name in LATENT)
        kept[layer] = latent or fused or rows["k_proj"][layer] + rows["v_proj"][layer]
    return kept


def _caches(c: Fields, kept: Mapping[int, int]) -> tuple[Cache, ...]:
    """One cache for each kind of layer."""
    kinds = c.listed("layer_types") or [SLIDING if c.get("sliding_window") is not None else FULL] * c.layers
    if other := sorted({str(kind)[:40] for kind in kinds} - {FULL, SLIDING, LINEAR}):
        raise UserError(f"its layers attend by {other[0]}, and what that keeps is not known here: it cannot be planned")
    shared = c.maybe("num_kv_shared_layers", 0, least=0)  # the last ones use what earlier ones kept
    own = range(max(0, c.layers - shared))
    if len(kinds) != c.layers or any(kept.get(i, 0) <= 0 for i in own if kinds[i] != LINEAR):
        raise UserError("not all of its layers keep keys and values in a way that is known here: it cannot be planned")
    window = c.whole("sliding_window") if SLIDING in kinds else None
    made: Counter[tuple[int, int | None, int]] = Counter()
    for i in own:
        state = linear_state(c) if kinds[i] == LINEAR else 0
        made[0 if state else kept[i], window if kinds[i] == SLIDING else None, state] += 1
    return tuple(Cache(layers, *each) for each, layers in made.items())


def _inner(c: Fields, tensors: Iterable[Tensor]) -> int:
    """Inputs of the matrices that end a layer's feed-forwards; where their names are not known, the config's field."""
    return inner_width(tensors) or c.whole("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
