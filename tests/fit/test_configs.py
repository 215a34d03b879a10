"""Shapes from configs, tensor by tensor against what transformers builds of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thinksmith.engines.local.road import cache_argument
from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import find_format
from thinksmith.fit.shapes.configs import caches_of, shape_of
from thinksmith.fit.shapes.families import FAMILIES
from thinksmith.fit.shapes.shape import Shape

Config = dict[str, Any]
Key = tuple[str, int | None, tuple[int, ...]]  # name, layer, shape

DENSE = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "olmo3", "granite", "smollm3")
LATENT = ("deepseek_v2", "deepseek_v3")
QWEN_MOE = ("qwen2_moe", "qwen3_moe", "qwen3_next")
NORMED = ("gemma2", "gemma3_text")
CPU = torch.device("cpu")
META = torch.device("meta")
FEW = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def configs(draw: st.DrawFn, kind: str) -> Config:
    """A small config of this family, with whatever its models may have."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    kv, groups = pick(1, 2), pick(1, 2, 3)
    layers = pick(4, 5, 8) if kind == "qwen3_next" else pick(1, 2, 4, 7)  # one of four attends
    heads, dim = kv * groups, pick(8, 16)
    config: Config = {
        "model_type": kind,
        "hidden_size": heads * 8,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": pick(24, 40),
        "vocab_size": pick(64, 99),
        "max_position_embeddings": 64,
        "tie_word_embeddings": pick(True, False),
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if kind not in (*LATENT, "phi3", "olmo2", "olmo3", "granite", "smollm3"):
        config["head_dim"] = dim
    if kind in (
        "llama",
        "qwen3",
        "qwen3_moe",
        "granite",
        "smollm3",
        "glm4",
        "gpt_oss",
        "olmo2",
        "olmo3",
        *LATENT,
        *NORMED,
    ):
        config["attention_bias"] = pick(True, False)
    if kind in ("llama", "granite", "smollm3"):
        config["mlp_bias"] = pick(True, False)
    if kind in ("mistral", "mixtral", "phi3"):
        config["sliding_window"] = pick(None, 6)
    if kind in ("gemma2", "gemma3_text", "gpt_oss", "olmo3"):
        config["sliding_window"] = 6
    if kind in ("qwen2", "qwen3", "qwen2_moe"):
        config |= {"use_sliding_window": pick(True, False), "sliding_window": 6, "max_window_layers": pick(0, 1, 3)}
    if kind in ("qwen3_moe", "smollm3"):
        config |= {"use_sliding_window": pick(True, False), "sliding_window": 6}
    if kind in ("mixtral", "gpt_oss"):
        config |= {"num_local_experts": pick(3, 4), "num_experts_per_tok": pick(1, 2)}
    if kind in QWEN_MOE:
        config |= {"num_experts": pick(3, 4), "num_experts_per_tok": pick(1, 2), "moe_intermediate_size": pick(8, 16)}
        config |= {"decoder_sparse_step": pick(1, 2), "mlp_only_layers": pick([], [0], [1])}
        config |= {"shared_expert_intermediate_size": pick(8, 24)} if kind != "qwen3_moe" else {}
    if kind == "qwen2_moe":
        config["qkv_bias"] = pick(True, False)
    if kind == "qwen3_next":
        config |= {"linear_num_key_heads": 2, "linear_num_value_heads": pick(2, 4), "linear_key_head_dim": pick(4, 8)}
        config |= {"linear_value_head_dim": pick(4, 8), "linear_conv_kernel_dim": pick(3, 4)}
    if kind in LATENT:
        config |= {"num_key_value_heads": heads, "q_lora_rank": pick(None, 12), "kv_lora_rank": pick(16, 20)}
        config |= {"qk_nope_head_dim": pick(8, 12), "qk_rope_head_dim": pick(4, 8), "v_head_dim": pick(8, 12)}
        config |= {"n_routed_experts": 4, "num_experts_per_tok": pick(1, 2), "n_shared_experts": pick(1, 2)}
        config |= {"first_k_dense_replace": pick(0, 1, 9), "moe_intermediate_size": pick(8, 16), "n_group": 1}
        config |= {"topk_group": 1, "topk_method": "greedy"} if kind == "deepseek_v2" else {"topk_group": 1}
    return config


def built(config: Mapping[str, Any], device: torch.device = META) -> Any:
    fields = {key: value for key, value in config.items() if key != "model_type"}
    with device:
        made = transformers.AutoConfig.for_model(config["model_type"], **fields)
        return transformers.AutoModelForCausalLM.from_config(made).eval()


def theirs(model: torch.nn.Module, kind: str) -> Counter[Key]:
    """The tensors of transformers, experts taken apart as they are in checkpoints."""
    found: Counter[Key] = Counter()
    named = [*model.named_parameters(), *((n, b) for n, b in model.named_buffers() if "correction" in n)]
    gate, up, down = ("w1", "w3", "w2") if kind == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    for path, value in named:
        number = re.search(r"layers\.(\d+)\.", path)
        layer, shape, last = int(number[1]) if number else None, tuple(value.shape), path.removesuffix(".weight")
        name = last.rpartition(".")[2]
        if last.endswith(".bias"):
            name = ".".join(last.split(".")[-2:])
        if ".experts." not in path:
            found[name, layer, shape] += 1
        elif kind == "gpt_oss":
            name = name.replace("_bias", ".bias")
            found[name, layer, shape[:0:-1]] += shape[0]
        elif name == "gate_up_proj":
            for half in (gate, up):
                found[half, layer, (shape[1] // 2, shape[2])] += shape[0]
        else:
            found[down, layer, shape[1:]] += shape[0]
    return found


def ours(shape: Shape) -> Counter[Key]:
    found: Counter[Key] = Counter()
    for tensor in shape.tensors:
        for layer in tensor.layers or (None,):
            found[tensor.name, layer, tensor.shape] += tensor.copies
    return found


@pytest.mark.parametrize("kind", FAMILIES)
@FEW
@given(data=st.data())
def test_every_tensor_is_the_one_that_transformers_builds(kind: str, data: st.DataObject) -> None:
    config = data.draw(configs(kind))
    model, shape = built(config), shape_of(config, "m")
    assert ours(shape) == theirs(model, kind)
    assert shape.params == sum(ours(shape)[key] * torch.Size(key[2]).numel() for key in ours(shape))
    assert shape.tied == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)
    assert {tensor.part for tensor in shape.tensors if tensor.name.endswith("norm")} == {"norm"}
    again = model.config.to_dict()  # with all defaults, as a loaded model tells it
    assert (shape_of(again, "m").tensors, caches_of(again)) == (shape.tensors, shape.caches)


def kept(cache: Any) -> int:
    """Numbers in a cache of transformers."""
    count = 0
    for layer in cache.layers:
        states = [each for name in ("conv_states", "recurrent_states") for each in getattr(layer, name, {}).values()]
        states += [getattr(layer, name, None) for name in ("keys", "values")]
        count += sum(state.numel() for state in states if isinstance(state, torch.Tensor))
    return count


def filled(config: Config, cache: type, tokens: int, **limits: int) -> int:
    model = built(config, CPU)
    keeps = cache(config=model.config, **limits)
    with torch.inference_mode():
        model(
            input_ids=torch.ones(1, tokens, dtype=torch.int64), **{cache_argument(type(model)): keeps}, use_cache=True
        )
    return kept(keeps)


@pytest.mark.parametrize("kind", FAMILIES)
@settings(FEW, max_examples=4)
@given(data=st.data())
def test_caches_have_the_numbers_of_a_real_one(kind: str, data: st.DataObject) -> None:
    config = data.draw(configs(kind))
    caches = caches_of(config)
    # A dynamic cache holds what was written, a static one all that it may ever hold: a window where there is one.
    assert sum(cache.numbers(4) for cache in caches) == filled(config, transformers.DynamicCache, 4)
    assert sum(cache.numbers(20) for cache in caches) == filled(config, transformers.StaticCache, 4, max_cache_len=20)
    assert sum(cache.layers for cache in caches) == config["num_hidden_layers"]


QWEN7: Config = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 131072,
}
R1: Config = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "first_k_dense_replace": 3,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "num_nextn_predict_layers": 1,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
}


def test_what_only_speculative_decoding_uses_stands_apart() -> None:
    shape = shape_of(R1, "r1")
    assert shape.params == shape_of({**R1, "num_nextn_predict_layers": 0}, "r1").params == 671_026_419_200
    layer = built({**R1, "num_hidden_layers": 1, "first_k_dense_replace": 0})
    extra = sum(p.numel() for p in layer.model.layers.parameters()) + 256  # its router's bias is no parameter there
    # Of its own it has a layer, a matrix of 2 × hidden to hidden, and three norms.
    assert shape.draft == extra + 2 * 7168 * 7168 + 3 * 7168
    assert 11.5e9 < shape.draft < 11.7e9  # 11.5B, says the README_WEIGHTS.md of DeepSeek-V3
    assert shape_of({**R1, "num_nextn_predict_layers": 2}, "r1").draft == 2 * shape.draft
    assert shape_of(QWEN7, "q").draft == 0


def test_width_is_that_of_what_a_token_passes_through() -> None:
    assert shape_of(QWEN7, "q").inner == 18944
    assert shape_of(R1, "r1").inner == 18432  # of a dense layer, and 9 experts of 2048 are as wide
    assert shape_of({**R1, "num_experts_per_tok": 9}, "r1").inner == 20480
    shape = shape_of({**R1, "first_k_dense_replace": 61}, "r1")
    assert (shape.inner, shape.mixture, shape.key_dim, shape.value_dim) == (18432, False, 192, 128)


TINY: Config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
OTHERS: dict[str, Config] = {
    "falcon": {**TINY, "vocab_size": 50},
    "gpt_neox": {**TINY, "intermediate_size": 48},
    "opt": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    },
    "gemma": {**TINY, "num_key_value_heads": 1},
    "starcoder2": {**TINY, "num_key_value_heads": 2},
    "cohere2": {"hidden_size": 32, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2},
    "exaone4": {"hidden_size": 32, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2},
    "seed_oss": {**TINY, "num_key_value_heads": 2},
    "olmoe": {**TINY, "num_key_value_heads": 2},
    "glm4_moe": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen3_5_text": {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2},
}
OTHERS["seed_oss"]["head_dim"] = OTHERS["gemma"]["head_dim"] = OTHERS["qwen3_5_text"]["head_dim"] = 16
SMALL_MIXTURE: Config = {"moe_intermediate_size": 16, "num_experts": 6, "n_routed_experts": 6, "num_experts_per_tok": 2}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_of_transformers_are_built_and_read(kind: str) -> None:
    config = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None, "vocab_size": 50, **OTHERS[kind]}
    if kind in ("olmoe", "glm4_moe"):
        config |= {"intermediate_size": 24, **SMALL_MIXTURE}
    config |= {"model_type": kind}
    shape, model = shape_of(config, "m"), built(config)
    assert kind not in FAMILIES
    assert shape.params == sum(parameter.numel() for parameter in model.parameters())
    assert sum(c.numbers(4) for c in caches_of(config)) == filled(config, transformers.DynamicCache, 4)
    assert shape.tied == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)
    if shape.mixture:
        experts = [tensor for tensor in shape.tensors if tensor.part == "expert"]
        assert {(tensor.copies, tensor.active) for tensor in experts} == {(6, 2)}


def test_layers_that_use_the_cache_of_others_keep_none() -> None:
    config = {"model_type": "gemma4_text", "num_hidden_layers": 8, "num_kv_shared_layers": 3, "hidden_size": 32}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 24}
    config |= {"intermediate_size": 24, "vocab_size": 50, "vocab_size_per_layer_input": 50, "pad_token_id": None}
    config |= {"layer_types": ["sliding_attention", "full_attention"] * 4, "sliding_window": 16}
    config |= {"hidden_size_per_layer_input": 8, "bos_token_id": None, "eos_token_id": None}
    caches = caches_of(config)
    assert sum(cache.layers for cache in caches) == 5
    assert sum(cache.numbers(4) for cache in caches) == filled(config, transformers.DynamicCache, 4)


def test_a_model_that_sees_is_the_part_that_writes() -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    whole = {"model_type": "gemma3", "text_config": text, "torch_dtype": "float16", "vision_config": {"hidden_size": 9}}
    shape = shape_of(whole, "gemma-3-4b-it")
    reference = built(text)
    assert shape.params == sum(parameter.numel() for parameter in reference.parameters())
    assert (shape.tied, shape.published, shape.architecture) == (True, "fp16", "gemma3_text")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({}, "bf16"),
        ({"torch_dtype": "float16"}, "fp16"),
        ({"dtype": "torch.float32"}, "fp32"),
        ({"torch_dtype": 7}, "bf16"),
        ({"quantization_config": None, "dtype": "bfloat16"}, "bf16"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "int4"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8}}, "int8"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "nf4"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "int8"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "nvfp4"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, "fp8"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}}, "nvfp4"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized"}}, "fp8"),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "format": "pack-quantized",
                    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
                }
            },
            "int4",
        ),
        ({"quantization_config": {"quant_method": ["x"] * 10**5, "config_groups": 3}}, "bf16"),
    ],
)
def test_the_published_format_is_read(said: Config, name: str) -> None:
    assert shape_of({**QWEN7, **said}, "q").published == name
    assert find_format(name).name == name


@pytest.mark.parametrize(
    "field", sorted(set(R1) - {"num_nextn_predict_layers", "q_lora_rank", "first_k_dense_replace"})
)
def test_a_field_that_is_missing_is_named(field: str) -> None:
    with pytest.raises(UserError, match=f"model r1: the config lacks the field .*{field}"):
        shape_of({key: value for key, value in R1.items() if key != field}, "r1")


HOSTILE = (
    "7",
    "x" * 10**6,
    10**30,
    -1,
    0,
    1.5,
    float("nan"),
    float("inf"),
    True,
    [],
    [[1]],
    {},
    {"a": 1},
    2**62,
    10**4000,
)


@pytest.mark.parametrize("config", [QWEN7, R1, {**QWEN7, "model_type": "gemma"}], ids=["formula", "latent", "built"])
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:12])
def test_no_field_can_do_harm(config: Config, value: Any) -> None:
    for field in config:
        changed = {**config, field: value}
        try:
            shape = shape_of(changed, "m")
        except UserError as error:
            assert len(str(error)) < 400  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert 0 < shape.params <= 10**18
            assert all(cache.per_token >= 0 for cache in shape.caches)


@pytest.mark.parametrize("field", sorted(set(R1) - {"model_type"}))
def test_true_is_no_number(field: str) -> None:
    with pytest.raises(UserError, match=f"the config's {field} is True: it must be a whole number"):
        shape_of({**R1, field: True}, "r1")


@settings(FEW, max_examples=150)
@given(
    name=st.sampled_from(
        [
            "layer_types",
            "sliding_window",
            "use_sliding_window",
            "head_dim",
            "tie_word_embeddings",
            "quantization_config",
        ]
    ),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=4,
    ),
)
def test_fields_that_may_be_missing_may_be_wrong(name: str, value: Any) -> None:
    try:
        assert shape_of({**QWEN7, name: value}, "q").params > 0
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "lacks the field model_type"),
        ({"model_type": 3}, "lacks the field model_type"),
        ({"model_type": "qwen33"}, "'qwen33' is not known here: did you mean qwen3"),
        ({"model_type": "t5"}, "'t5' is not a causal language model"),
        ({"model_type": "mamba"}, "lacks the field num_attention_heads"),
        ({"model_type": "bert"}, "keep keys and values"),
        ({**QWEN7, "num_key_value_heads": 3}, "no multiple of its num_key_value_heads"),
        ({**QWEN7, "layer_types": ["full_attention"]}, "names 1 layers, its num_hidden_layers 28"),
        ({**QWEN7, "layer_types": ["chunked"] * 28}, "layer_types has 'chunked'"),
        ({**R1, "num_experts_per_tok": 257}, "num_experts_per_tok is 257: it must be from 1 to 256"),
        ({**R1, "moe_layer_freq": 2}, "moe_layer_freq"),
        ({**QWEN7, "hidden_size": 2**31 - 1, "intermediate_size": 2**31 - 1}, r"make a model of 10\^20 parameters"),
        ({"model_type": "gemma", "num_hidden_layers": 10**7}, "num_hidden_layers is larger than any model's"),
        ({"model_type": "gemma", "hidden_size": "many"}, "transformers cannot build this gemma"),
        ({"model_type": "gemma", "layer_types": [0] * 10**5}, "layer_types is a list of 100000"),
    ],
)
def test_mistakes_are_told_in_a_line(config: Config, message: str) -> None:
    with pytest.raises(UserError, match=message):
        shape_of(config, "m")


def test_a_config_cannot_make_code_be_fetched_or_run() -> None:
    code = {
        "auto_map": {"AutoConfig": "x.C"},
        "_attn_implementation": "owner/kernel",
        "attn_implementation": "owner/kernel",
    }
    small = {"model_type": "gemma", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 50, "pad_token_id": None}
    assert shape_of({**small, **code}, "m").params == shape_of(small, "m").params


def test_formulas_need_no_torch() -> None:
    code = f"import sys; from thinksmith.fit.shapes.configs import *; shape_of({R1!r}, 'r'); caches_of({QWEN7!r})"
    subprocess.run(
        [sys.executable, "-c", f"{code}; assert not {{'torch', 'transformers'}} & set(sys.modules)"], check=True
    )
