"""Memory of serving a model: against what the engine, torch and llama.cpp really reserve."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines.local.cache import BLOCK, blocks_for
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.engines.local.graphs import bucket as engines_bucket
from thinksmith.engines.local.road import cache_argument
from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import cache_bytes, find_format, find_kv_format, weights_bytes
from thinksmith.fit.memory import local
from thinksmith.fit.memory.free import available_bytes, memory_bytes
from thinksmith.fit.memory.inference import Serving, local_token_numbers, serving_memory
from thinksmith.fit.memory.runtime import ENGINES, runtime_items
from thinksmith.fit.memory.servers import compute_bytes, llamacpp_cache_bytes
from thinksmith.fit.shapes.catalogue import find_shape
from thinksmith.fit.shapes.configs import shape_of
from thinksmith.fit.speed.device import Device
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy, _parts
from thinksmith.records import Request, Sampling

MiB = 2**20
PC = Device("pc", "a computer", "cpu", 24 * 10**9, 2e10, {})
GPU = Device("rtx", "a GPU", "cuda", 24 * 10**9, 1e12, {})
BIG = Device("h200", "a large GPU", "cuda", 141 * 10**9, 4e12, {})
SPARK = replace(GPU, name="spark", unified=True)

# --- what is free


def machine(
    root: Path, cgroup: str, mountinfo: str, files: dict[str, dict[str, str]], available: int = 8 * 2**20
) -> Path:
    """A folder with the files that the system would have; `available` and the total (twice that) in KiB."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {2 * available} kB\nMemAvailable:   {available} kB\n")
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/mountinfo").write_text(mountinfo)
    for folder, inside in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, text in inside.items():
            (root / folder / name).write_text(text)
    return root


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def group2(limit: str, used: int, pages: int = 0) -> dict[str, str]:
    stat = f"anon {used - pages}\ninactive_file {pages // 2}\nactive_file {pages - pages // 2}\n"
    return {"memory.max": limit, "memory.current": str(used), "memory.stat": stat}


def test_free_memory_without_a_container_is_what_the_system_says(tmp_path):
    root = machine(tmp_path, "0::/user.slice\n", V2, {"sys/fs/cgroup/user.slice": group2("max\n", 5)})
    assert available_bytes(root) == 8 * 2**30
    assert memory_bytes(root) == 16 * 2**30


def test_a_containers_limit_counts_and_pages_of_files_do_not(tmp_path):
    inside = {"sys/fs/cgroup/box": group2(f"{4 * 2**30}\n", 3 * 2**30, pages=2**30)}
    root = machine(tmp_path, "0::/box\n", V2, inside)
    assert available_bytes(root) == 2 * 2**30
    assert memory_bytes(root) == 4 * 2**30


def test_the_tightest_of_the_groups_above_decides(tmp_path):
    inside = {
        "sys/fs/cgroup/a": group2(str(2**30), 2**29),
        "sys/fs/cgroup/a/b": group2("max", 2**20),
        "sys/fs/cgroup/a/b/c": group2(str(4 * 2**30), 2**20),
    }
    root = machine(tmp_path, "0::/a/b/c\n", V2, inside)
    assert available_bytes(root) == 2**29
    assert memory_bytes(root) == 2**30


def test_a_container_that_sees_its_group_as_the_top(tmp_path):
    """Its path is told as in the whole, or as one outside of what it sees."""
    for at, (path, top) in enumerate((("/docker/x", "/docker/x"), ("/../x", "/"), ("/", "/"))):
        mount = V2.replace("0:26 / ", f"0:26 {top} ")
        root = machine(tmp_path / str(at), f"0::{path}\n", mount, {"sys/fs/cgroup": group2(str(2**30), 2**20)})
        assert available_bytes(root) == 2**30 - 2**20


def test_the_first_version_of_control_groups(tmp_path):
    inside = {
        "sys/fs/cgroup/memory/box": {
            "memory.limit_in_bytes": str(2 * 2**30),
            "memory.usage_in_bytes": str(2**30),
            "memory.stat": f"inactive_file 7\ntotal_inactive_file {2**28}\ntotal_active_file {2**27}\n",
        },
        "sys/fs/cgroup/memory": {
            "memory.limit_in_bytes": "9223372036854771712",
            "memory.usage_in_bytes": "1",
            "memory.stat": "",
        },
    }
    root = machine(tmp_path, "9:cpu,memory:/box\n0::/\n", V1 + V2.replace("cgroup ", "unified "), inside)
    assert available_bytes(root) == 2**30 + 2**28 + 2**27
    assert memory_bytes(root) == 2 * 2**30


def test_a_full_container_has_nothing_and_broken_files_say_nothing(tmp_path):
    full = machine(tmp_path / "a", "0::/x\n", V2, {"sys/fs/cgroup/x": group2("1000", 4000)})
    assert available_bytes(full) == 0
    broken = {"sys/fs/cgroup/x": {"memory.max": "12", "memory.stat": "\n\nanon\n", "memory.current": "many"}}
    assert available_bytes(machine(tmp_path / "b", "nonsense\n0::/x", "a b\n" + V2, broken)) == 12
    assert available_bytes(tmp_path / "nowhere") > 0
    assert memory_bytes(tmp_path / "nowhere") >= available_bytes(tmp_path / "nowhere")


def test_here_there_is_less_free_than_there_is():
    assert 0 < available_bytes() < memory_bytes()


# --- the local engine

SMALL = {
    "num_hidden_layers": 3,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
}
FAMILIES = {
    "llama": (transformers.LlamaConfig, {}),
    "qwen2 with a window": (
        transformers.Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
    ),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 24}),
    "mistral": (transformers.MistralConfig, {"sliding_window": 16, "head_dim": 8}),
    "qwen3_moe": (
        transformers.Qwen3MoeConfig,
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "gemma3": (transformers.Gemma3TextConfig, {"sliding_window": 32, "head_dim": 16, "layer_types": None}),
    "deepseek_v3": (
        transformers.DeepseekV3Config,
        {
            "num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16, "v_head_dim": 20, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
            "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
        },
    ),
}  # fmt: skip


def policy_of(family: str) -> Policy:
    made, more = FAMILIES[family]
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(made(**{**SMALL, **more})).eval()
    return Policy(model, load_policy("tiny").tokenizer, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_values_are_what_the_engines_pool_holds(family):
    policy = policy_of(family)
    engine = LocalEngine(policy, slots=2, native=False)
    engine.sample_all([Request(token_ids=(5, 6, 7), sampling=Sampling(max_tokens=40, seed=1), n=2)])
    pool = engine._batch._road.pool
    held = sum(buffer.nbytes for buffer in (*pool.keys, *pool.values))
    config = policy.model.config.to_dict()
    assert local_token_numbers(config) * 4 * BLOCK * pool.blocks == held
    assert local.pool_bytes(shape_of(config, family), pool.size, 4) == held
    assert engine._batch._token_bytes() * BLOCK * pool.blocks == held
    engine.close()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_keys_and_values_are_what_transformers_caches(family):
    policy, tokens = policy_of(family), 20
    cache = transformers.DynamicCache()
    with torch.no_grad():
        policy.model(torch.arange(tokens)[None], **{cache_argument(type(policy.model)): cache}, use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cache_bytes(shape_of(policy.model.config.to_dict(), family), tokens, "fp32") == held


@pytest.mark.parametrize("word", ["float32", "bfloat16", "bfloat16:int8"])
def test_weights_are_what_a_loaded_policy_holds(word):
    policy = load_policy(f"tiny:{word}")
    tensors = {id(tensor): tensor for _, tensor in policy.model.named_parameters()}
    held = sum(part.nbytes for tensor in tensors.values() for _, part in _parts("", tensor.data))
    name = {"float32": "fp32", "bfloat16": "bf16"}.get(word, "int8")
    assert weights_bytes(find_shape("tiny"), find_format(name, "local", "cpu")) == held


@pytest.mark.parametrize(("rows", "prompt", "tokens"), [(1, 9, 30), (5, 40, 70), (40, 33, 20)])
def test_the_decoder_in_c_reserves_what_the_formula_says(rows, prompt, tokens):
    policy, shape = load_policy("tiny"), find_shape("tiny")
    engine = LocalEngine(policy, slots=rows)
    asked = [
        Request(token_ids=(*range(5, 4 + prompt), 5 + at), sampling=Sampling(max_tokens=tokens, seed=at))
        for at in range(rows)
    ]
    policy.__dict__["eos_ids"] = frozenset()  # so that every row goes on to the end
    most, buffers = [0, 0], {}

    def look() -> None:
        road = engine._batch._road
        for name in ("_scratch", "_logits", "_angles"):
            buffers[name] = max(buffers.get(name, 0), getattr(road, name).nbytes)

    waiting = deque(row for request in asked for row in engine._prepare(request).rows)
    with torch.no_grad():
        while waiting or engine._batch.rows:
            engine._batch.admit(waiting)
            engine._batch.fill()
            engine._batch.step(waiting)
            look()
            most[0] = max(most[0], engine._batch._road.pool.most)
    lanes, threads = engine._batch._road._lanes, torch.get_num_threads()
    reads = min(1024, rows * (prompt - 1))
    passes = [(min(reads, 1024 // (prompt - 1) * (prompt - 1)), prompt - 1), (rows, prompt - 1 + tokens)]
    assert buffers["_scratch"] == max(local.scratch_bytes(shape, n, seen, threads, lanes) for n, seen in passes)
    assert buffers["_logits"] == -(-rows // lanes) * lanes * shape.vocab * 4
    assert buffers["_angles"] <= local.angles_bytes(shape, prompt + tokens)
    assert most[0] <= rows * (blocks_for(prompt + tokens) + 1)
    told = serving_memory(shape, Serving("local", "fp32", "fp32", prompt + tokens, rows, prompt), PC)
    assert told.named("logits") == -(-rows // 32) * 32 * shape.vocab * 4  # panels at their widest
    assert told.named("pass") >= buffers["_scratch"]
    assert told.named("angles") >= buffers["_angles"]
    engine.close()


def test_graphs_come_in_the_engines_buckets():
    assert all(local.bucket(entries) == engines_bucket(4, entries, 8)[1] for entries in range(1, 3000))


# --- llama.cpp

# hidden, inner, vocabulary, tokens of the cache, in main memory or not, MiB of the compute buffer that it reports:
# llama-cpp-python 0.3.36 on a CPU with flash attention, for Qwen2s of 2 or 3 layers; then what is published of
# Llama-3-8B and Qwen2.5-7B on CUDA ("CUDA0 compute buffer size").
COMPUTE = [
    (1024, 4096, 32000, 4096, False, 66.50),
    (1024, 4096, 32000, 32768, False, 66.50),
    (1024, 8192, 1000, 4096, False, 60.01),
    (1024, 8192, 1000, 32768, False, 88.01),
    (2048, 7168, 8000, 4096, False, 62.01),
    (2048, 7168, 8000, 65536, False, 122.01),
    (2048, 7168, 8000, 131072, False, 186.01),
    (896, 4864, 50000, 4096, False, 101.16),
    (896, 4864, 50000, 131072, False, 163.51),
    (512, 1536, 2000, 4096, False, 17.01),
    (512, 1536, 2000, 32768, False, 45.01),
    (4096, 14336, 128256, 512, True, 258.50),
    (3584, 18944, 152064, 4096, True, 304.00),
]


@pytest.mark.parametrize(("hidden", "inner", "vocab", "tokens", "apart", "told"), COMPUTE)
def test_llama_cpps_compute_buffer(hidden, inner, vocab, tokens, apart, told):
    shape = replace(find_shape("tiny"), hidden=hidden, inner=inner, vocab=vocab)
    assert compute_bytes(shape, tokens, apart) / MiB == pytest.approx(told, abs=0.02)


def test_llama_cpps_cache_is_exact_and_small_where_there_is_a_window():
    plain = find_shape("deepseek-ai/DeepSeek-R1-Distill-Llama-8B")
    kv = Serving("llamacpp", kv_format="fp16")
    told = serving_memory(plain, replace(kv, format="q8_0", context=8192), PC).named("KV cache")
    assert told == 1024 * MiB  # "KV self size = 1024.00 MiB" of a Llama-3-8B
    config = {**FAMILIES["gemma3"][0](**{**SMALL, **FAMILIES["gemma3"][1]}).to_dict()}
    windowed = shape_of(config, "gemma3")
    assert llamacpp_cache_bytes(windowed, 65536, 1, find_kv_format("fp16")) < cache_bytes(
        replace(windowed, caches=tuple(replace(c, window=None) for c in windowed.caches)), 65536, "fp16"
    )


def test_what_llama_cpp_puts_on_a_gpu():
    """ "CUDA0 buffer size = 4403.49 MiB" of a Llama-3-8B in Q4_K_M: all but the table of embeddings."""
    shape = find_shape("deepseek-ai/DeepSeek-R1-Distill-Llama-8B")
    asked = Serving("ollama", "q4_k_m", "fp16", context=8192)
    assert serving_memory(shape, asked, GPU).named("weights") / MiB == pytest.approx(4403.49, abs=0.02)
    assert serving_memory(shape, asked, SPARK).named("weights") == weights_bytes(shape, find_format("q4_k_m"))


# --- vLLM


@pytest.mark.parametrize(
    ("model", "device", "told"),
    [("Qwen/Qwen3-8B", GPU, 1.40), ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", BIG, 5.59)],
)
def test_vllms_peak_of_activations(model, device, told):
    """As vLLM logs it for vocabularies of 151,936 entries, with 256 and 1,024 sequences."""
    found = serving_memory(find_shape(model), Serving("vllm", "bf16"), device).named("pass")
    assert found / 2**30 == pytest.approx(told, rel=0.05)


# --- laws, and mistakes

KINDS = [
    ("local", PC),
    ("local", GPU),
    ("local", SPARK),
    ("vllm", GPU),
    ("vllm", BIG),
    ("llamacpp", PC),
    ("ollama", GPU),
]
SHAPES = ["tiny", "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-R1", "openai/gpt-oss-20b"]
FORMATS = {"local": ["fp32", "bf16", "int8", "int4"], "vllm": ["fp32", "bf16", "fp8", "int4"]}
GGUF = ["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k"]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(SHAPES),
    st.integers(0, 3),
    st.integers(1, 300000),
    st.integers(1, 300000),
    st.integers(1, 500),
    st.integers(1, 500),
)
def test_more_never_takes_less(kind, name, at, context, longer, batch, larger):
    (engine, device), shape = kind, find_shape(name)
    format = FORMATS.get(engine, GGUF)[at]
    asked = Serving(engine, format, "fp16", min(context, longer), min(batch, larger))
    more = replace(asked, context=max(context, longer), batch=max(batch, larger))
    before, after = (serving_memory(shape, each, device) for each in (asked, more))
    assert 0 < before.total <= after.total
    assert before.named("weights") == after.named("weights")
    assert all(item.bytes > 0 and item.name and item.why for item in after.items)
    for item in runtime_items(engine, device):
        assert item in after.items


@pytest.mark.parametrize(("engine", "device"), KINDS)
def test_fewer_bits_never_take_more(engine, device):
    shape = find_shape("Qwen/Qwen3-8B")
    words = FORMATS.get(engine, GGUF)
    if (engine, device.kind) == ("local", "cpu"):
        words = words[:-1]  # torchao has no packed int4 on a CPU: it takes what int8 does, and its scales
    sizes = [serving_memory(shape, Serving(engine, word, "fp16"), device).named("weights") for word in words]
    assert sizes == sorted(sizes, reverse=True)


def test_loading_another_format_needs_the_file_beside_it():
    shape = find_shape("Qwen/Qwen3-8B")
    same, other = (serving_memory(shape, Serving("local", word, "bf16", 256), PC) for word in ("bf16", "fp32"))
    assert "loading" not in same.phases
    assert other.phases["loading"] - other.of("") == weights_bytes(shape, find_format("bf16"))
    assert other.peak == "loading"


@pytest.mark.parametrize(
    ("asked", "device", "says"),
    [
        (Serving("vllm", "q4_k_m"), GPU, "vllm does not run weights in q4_k_m: use llamacpp or ollama, or format int4"),
        (Serving("ollama", "int4"), PC, "ollama does not run weights in int4: use vllm"),
        (Serving("local", "bf16", "fp8"), PC, "local does not keep keys and values in fp8"),
        (Serving("vllm", "bf16"), PC, "vllm is planned for on NVIDIA GPUs only"),
        (Serving("vlm", "bf16"), GPU, "no engine 'vlm': use vllm"),
        (Serving("local", "q9"), GPU, "unknown format 'q9'"),
    ],
)
def test_what_does_not_go_together_is_one_line(asked, device, says):
    with pytest.raises(UserError, match=r"^[^\n]*$") as told:
        serving_memory(find_shape("tiny"), asked, device)
    assert says in str(told.value)


@pytest.mark.parametrize("wrong", [{"context": 0}, {"batch": -1}, {"context": 10**30}, {"batch": True}, {"prompt": 1.5},
                                   {"format": 4}, {"engine": None}])  # fmt: skip
def test_numbers_that_mean_nothing(wrong):
    with pytest.raises(UserError, match="must be"):
        Serving(**wrong)


def test_every_engine_says_what_it_takes_before_any_weight():
    for engine in ENGINES:
        on_gpu, shared = (sum(item.bytes for item in runtime_items(engine, each)) for each in (GPU, SPARK))
        assert 400 * MiB < on_gpu < shared
