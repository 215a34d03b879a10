"""The decoder in C: against transformers' forward, against itself in other company, and where it must step aside."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from itertools import chain

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.engines.local.native.road import ALL_SHARED, NativeRoad
from thinksmith.engines.local.road import TransformersRoad
from thinksmith.engines.local.sampler import Rules, draw
from thinksmith.native import build
from thinksmith.policy.adapter import LoRA, add_lora
from thinksmith.policy.policy import Policy
from thinksmith.records import Request, Sampling

SIZES = {"vocab_size": 200, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
# Family, query heads, key heads, size of a head, and what else is unlike the others.
MODELS = {
    "qwen2": ("Qwen2", 6, 2, 8, {}),
    "qwen2, windows": ("Qwen2", 4, 4, 16, {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1}),
    "qwen3": ("Qwen3", 4, 1, 40, {}),
    "qwen3, tied": ("Qwen3", 8, 1, 24, {"tie_word_embeddings": True}),
    "llama": ("Llama", 3, 1, 64, {"rope_parameters": LLAMA3}),
    "llama, biases": ("Llama", 2, 2, 128, {"attention_bias": True, "mlp_bias": True, "rope_parameters": YARN}),
    "mistral": ("Mistral", 6, 1, 8, {"sliding_window": 9}),
}


def policy_of(tokenizer, name: str, **changes) -> Policy:
    family, heads, kv_heads, dim, more = MODELS[name]
    torch.manual_seed(len(name))
    config = getattr(transformers, f"{family}Config")(
        **SIZES | {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": 512},
        **{"head_dim": dim, "initializer_range": 0.2, "eos_token_id": None, "bos_token_id": None, "pad_token_id": 0}
        | more
        | changes,
    )
    network = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in network.parameters():  # norms and biases too, which begin as ones and zeros
        if parameter.ndim == 1:
            parameter.data.uniform_(0.5, 1.5)
    return Policy(network, tokenizer, name)


@pytest.fixture(scope="module", params=sorted(MODELS))
def policy(request, tokenizer):
    return policy_of(tokenizer, request.param)


def opened(policy: Policy, blocks: int = 400) -> NativeRoad:
    road = NativeRoad(policy)
    road.pool.open(blocks)
    road.open()
    return road


def whole(numbers) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


def passed(road: NativeRoad, ids: list[int], cuts: list[int]) -> torch.Tensor:
    """Logits [tokens, vocabulary] of one sequence, written in pieces that end at `cuts`."""
    blocks = road.pool.take(-(-len(ids) // 16))
    logits = []
    for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        count = end - start
        panels = road._forward(
            token_N=whole(ids[start:end]),
            position_N=torch.arange(start, end, dtype=torch.int32),
            shared_N=whole([ALL_SHARED] * count),
            line_N=whole([0] * count),
            table=whole([blocks]),
            draws=True,
        )
        logits += [road._row(panels, row, count).clone() for row in range(count)]
    road.pool.give(blocks)
    return torch.stack(logits)


def words(length: int, seed: int = 0) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(SIZES["vocab_size"]) for _ in range(length)]


@pytest.mark.parametrize("length", [1, 15, 17, 100, 300])
def test_logits_are_those_of_transformers(policy, length):
    ids = words(length)
    with torch.no_grad():
        expected = policy.model(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(passed(opened(policy), ids, []), expected, atol=2e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_bit_depends_on_how_a_sequence_is_cut(policy, data):
    length = data.draw(st.integers(2, 120))
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), max_size=5)))
    road, ids = opened(policy), words(length)
    assert torch.equal(passed(road, ids, cuts), passed(road, ids, []))


def engine_of(policy: Policy, **options) -> LocalEngine:
    return LocalEngine(policy, slots=48, **options)


def requests_of(lengths, **sampling) -> list[Request]:
    return [
        Request(
            token_ids=tuple(words(length, length)),
            n=3,
            sampling=Sampling(**{"max_tokens": 3 + length % 40, "seed": length} | sampling),
        )
        for length in lengths
    ]


def drawn(groups):
    return [[(trace.token_ids, trace.logprobs) for trace in traces] for traces in groups]


def test_a_request_gets_the_same_alone_and_among_others(policy):
    requests = requests_of((1, 2, 16, 17, 18, 33, 70, 130, 5, 64))
    alone = [drawn(engine_of(policy).sample_all([each]))[0] for each in requests]
    engine = engine_of(policy)
    assert drawn(engine.sample_all(requests)) == alone
    assert isinstance(engine._batch._road, NativeRoad)


def test_both_roads_draw_the_same(policy):
    """Rounding apart; with logits this far apart it changes no token."""
    mixed = [*requests_of((3, 40)), *requests_of((20, 33), top_k=20), *requests_of((21, 6), temperature=0.7, top_p=0.9)]
    mixed += requests_of((9, 50), repetition_penalty=1.3, top_logprobs=4) + requests_of((11,), temperature=0.0)
    ours, theirs = (engine_of(policy, native=native).sample_all(mixed) for native in (True, False))
    for one, other in zip(chain.from_iterable(ours), chain.from_iterable(theirs), strict=True):
        assert one.token_ids == other.token_ids
        torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-4, rtol=1e-4)
        assert (one.top_logprobs is None) == (other.top_logprobs is None)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(tokenizer, threads):
    policy = policy_of(tokenizer, "qwen2")
    requests, before = requests_of((5, 30, 60)), torch.get_num_threads()
    expected = drawn(engine_of(policy).sample_all(requests))
    torch.set_num_threads(threads)
    try:
        assert drawn(engine_of(policy).sample_all(requests)) == expected
    finally:
        torch.set_num_threads(before)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 70), vocab=st.integers(1, 400), seed=st.integers(0, 2**31), scale=st.floats(0.01, 30))
def test_the_draw_is_that_of_the_sampler(tokenizer_free_road, rows, vocab, seed, scale):
    road, lanes = tokenizer_free_road, tokenizer_free_road._lanes
    made = torch.Generator().manual_seed(seed)
    logits_BV = torch.randn(rows, vocab, generator=made) * scale
    key_B = torch.randint(-(2**62), 2**62, (rows,), generator=made)
    step_B = torch.randint(0, 1000, (rows,), generator=made)
    temperature_B = torch.tensor([0.0, 1.0, 0.6, 2.5])[torch.randint(0, 4, (rows,), generator=made)]
    panels = []
    for start in range(0, rows, lanes):
        part = logits_BV[start : start + lanes]
        width = lanes // 2 if len(part) <= lanes // 2 else lanes
        panels.append(torch.nn.functional.pad(part, (0, 0, 0, width - len(part))).T.reshape(-1))
    road._model.vocab = vocab
    token_B, logprob_B = road._draw(torch.cat(panels).contiguous(), key_B, step_B, temperature_B)
    expected = draw(logits_BV, Rules(key_B=key_B, step_B=step_B, temperature_B=temperature_B))
    # Where the uniform number falls within rounding of a border, either side of it is right.
    same = token_B == expected.token_B
    assert (~same).sum() <= 1
    assert same[temperature_B == 0].all()
    torch.testing.assert_close(logprob_B[same], expected.logprob_B[same], atol=2e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def tokenizer_free_road(tokenizer):
    return opened(policy_of(tokenizer, "qwen2"))


def test_logits_that_are_not_finite_draw_nothing(tokenizer_free_road):
    road = tokenizer_free_road
    road._model.vocab = 70
    logits = torch.zeros(70, road._lanes // 2)
    logits[5, 0], logits[69, 1], logits[0, 2] = torch.nan, torch.inf, -torch.inf
    key, step = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    token_B, _ = road._draw(logits, key, step, torch.tensor([1.0, 0.7, 1.0, 0.0]))
    assert token_B[:2].tolist() == [-1, -1]
    assert (token_B[2:] >= 0).all()


def test_draws_follow_the_distribution(tokenizer_free_road):
    """A chi-square test over 40,000 draws."""
    from scipy.stats import chisquare

    road, rows, vocab = tokenizer_free_road, 40_000, 37
    road._model.vocab = vocab
    torch.manual_seed(1)
    logits_V = torch.randn(vocab) * 1.5
    count = road._lanes
    token = [
        road._draw(
            logits_V[:, None].repeat(1, count).contiguous(),
            torch.arange(start, start + count) * 7919,
            torch.zeros(count, dtype=torch.int64),
            torch.full((count,), 0.8),
        )[0]
        for start in range(0, rows, count)
    ]
    seen = torch.bincount(torch.cat(token), minlength=vocab)
    expected = torch.softmax(logits_V / 0.8, 0).double() * seen.sum()
    assert chisquare(seen.numpy(), (expected / expected.sum() * seen.sum()).numpy()).pvalue > 1e-4


def test_training_in_place_and_by_new_tensors_is_seen(tokenizer):
    policy = policy_of(tokenizer, "qwen3")
    engine, (request,) = engine_of(policy), requests_of((12,), temperature=0.0)
    before = drawn(engine.sample_all([request]))
    with torch.no_grad():
        policy.model.model.layers[0].mlp.up_proj.weight *= -1
    after = drawn(engine.sample_all([request]))
    assert after != before
    assert after == drawn(engine_of(policy).sample_all([request]))
    policy.model.model.norm.weight.data = policy.model.model.norm.weight.data.flip(0).clone()
    assert drawn(engine.sample_all([request])) == drawn(engine_of(policy).sample_all([request])) != after


def changed(policy: Policy, name: str) -> Policy:
    """A policy that the C decoder does not compute."""
    if name == "bfloat16":
        policy.model.bfloat16()
    elif name == "hook":
        policy.model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    elif name == "another linear":
        policy.model.model.layers[0].mlp.up_proj = torch.nn.Sequential(policy.model.model.layers[0].mlp.up_proj)
    elif name == "forward":
        mlp = policy.model.model.layers[1].mlp
        mlp.forward = lambda hidden: 2 * type(mlp).forward(mlp, hidden)
    elif name == "code of one's own":
        norm = policy.model.model.norm
        norm.__class__ = type("Norm", (type(norm),), {})
    elif name == "eps":
        policy.model.model.layers[1].input_layernorm.variance_epsilon = 0.5
    elif name == "one wider layer":
        mlp, width = policy.model.model.layers[1].mlp, 96
        mlp.gate_proj, mlp.up_proj = torch.nn.Linear(48, width, bias=False), torch.nn.Linear(48, width, bias=False)
        mlp.down_proj = torch.nn.Linear(width, 48, bias=False)
    return policy


@pytest.mark.parametrize(
    "name",
    ["bfloat16", "hook", "another linear", "forward", "code of one's own", "eps", "one wider layer"],
)
def test_other_models_go_by_transformers(tokenizer, name):
    policy = changed(policy_of(tokenizer, "qwen2"), name)
    engine = engine_of(policy)
    assert engine.sample_all(requests_of((5,)))[0][0].finish == "length"
    assert isinstance(engine._batch._road, TransformersRoad)


def test_a_layer_that_lies_elsewhere_is_not_read(tokenizer):
    policy = policy_of(tokenizer, "qwen2")
    policy.model.model.layers[1].mlp.up_proj.to("meta")
    assert not NativeRoad.fits(policy)


def test_weights_that_are_computed_when_asked_for_are_not_read(tokenizer):
    policy = policy_of(tokenizer, "qwen2")
    torch.nn.utils.parametrizations.weight_norm(policy.model.model.embed_tokens)
    assert not NativeRoad.fits(policy)


@pytest.mark.parametrize("scale", [1.0, 10 / 3])
def test_adapters_are_a_side_path(tokenizer, scale):
    policy = policy_of(tokenizer, "qwen3")
    add_lora(policy, LoRA(rank=3, alpha=3 * scale))
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    ids = words(60)
    with torch.no_grad():
        expected = policy.model(torch.tensor([ids])).logits[0]
    road = opened(policy)
    torch.testing.assert_close(passed(road, ids, []), expected, atol=2e-4, rtol=1e-4)
    assert torch.equal(passed(road, ids, [1, 7, 30]), passed(road, ids, []))


@pytest.mark.parametrize(
    "changes",
    [{"hidden_act": "gelu"}, {"head_dim": 12}, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}],
    ids=str,
)
def test_other_shapes_go_by_transformers(tokenizer, changes):
    assert NativeRoad.fits(policy_of(tokenizer, "qwen3"))
    assert not NativeRoad.fits(policy_of(tokenizer, "qwen3", **changes))


def test_a_model_that_changes_its_road_between_requests(tokenizer):
    policy = policy_of(tokenizer, "qwen2")
    engine, requests = engine_of(policy), requests_of((5, 30))
    expected = engine.sample_all(requests)
    handle = policy.model.model.register_forward_hook(lambda *_: None)
    assert [t.token_ids for g in engine.sample_all(requests) for t in g] == [t.token_ids for g in expected for t in g]
    assert isinstance(engine._batch._road, TransformersRoad)
    handle.remove()
    assert drawn(engine.sample_all(requests)) == drawn(expected)
    assert isinstance(engine._batch._road, NativeRoad)


SAMPLE = """
from thinksmith.engines import open_engine
from thinksmith.records import Problem, Request, Sampling
engine = open_engine("tiny")
ask = Request(messages=Problem(id="x", prompt="What is 3 + 4?").messages, sampling=Sampling(max_tokens=5))
print(len(engine.sample_all([ask])[0][0].token_ids), type(engine._batch._road).__name__)
"""


def program(tmp_path, **environment) -> str:
    clean = {key: value for key, value in os.environ.items() if key not in ("CC", "THINKSMITH_NATIVE")}
    done = subprocess.run(
        [sys.executable, "-c", SAMPLE],
        env=clean | {"XDG_CACHE_HOME": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.strip()


def test_without_a_compiler_or_with_a_broken_one_it_goes_by_transformers(tmp_path):
    assert program(tmp_path, CC="/nonexistent/cc") == "5 TransformersRoad"
    assert program(tmp_path, CC=shutil.which("false") or "false") == "5 TransformersRoad"
    assert program(tmp_path, THINKSMITH_NATIVE="0") == "5 TransformersRoad"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_it_is_compiled_once_and_again_where_the_file_is_broken(tmp_path):
    assert program(tmp_path) == "5 NativeRoad"
    (made,) = (tmp_path / "thinksmith" / "native").glob("*.so")
    assert made.stat().st_mode & 0o022 == 0
    written = made.stat().st_mtime_ns
    assert program(tmp_path) == "5 NativeRoad"
    assert made.stat().st_mtime_ns == written
    made.write_bytes(b"not a library")
    assert program(tmp_path) == "5 NativeRoad"


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build._folder() == tmp_path / "thinksmith" / "native"
    (tmp_path / "thinksmith" / "native").chmod(0o777)
    assert build._folder() is None
