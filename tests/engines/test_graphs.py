"""CUDA graphs of decoding steps: which bucket a step goes into; on a GPU, the same tokens as without."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.engines.local.graphs import bucket
from thinksmith.policy.adapter import LoRA, add_lora, reference
from thinksmith.policy.load import load_policy
from thinksmith.records import Request, Sampling

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@given(rows=st.integers(1, 300), entries=st.integers(1, 5000))
def test_a_bucket_holds_the_step_and_not_much_more(rows, entries):
    height, width = bucket(rows, entries, most=304)
    assert rows <= height <= 304
    assert height < 2 * rows
    assert entries <= width < max(entries + 8, entries * 1.5 + 1)
    assert bucket(height, width, most=304) == (height, width)


def test_there_are_few_buckets():
    found = {bucket(rows, entries, most=256) for rows in range(1, 257) for entries in range(1, 2049)}
    assert len(found) <= 9 * 30


def requests(**sampling) -> list[Request]:
    return [
        Request(
            token_ids=tuple(range(5, 8 + 9 * number)),
            n=2,
            sampling=Sampling(**{"max_tokens": 20 + 7 * number, "seed": number} | sampling),
        )
        for number in range(6)
    ]


def tokens(engine: LocalEngine, **sampling) -> list[tuple[int, ...]]:
    return [trace.token_ids for traces in engine.sample_all(requests(**sampling)) for trace in traces]


@needs_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_graphs_change_no_token(checkpoint, dtype):
    policy = load_policy(str(checkpoint), device="cuda", dtype=dtype)
    with_graphs, without = LocalEngine(policy, slots=16), LocalEngine(policy, slots=16, graphs=False)
    assert tokens(with_graphs, temperature=0.0) == tokens(without, temperature=0.0)
    assert tokens(with_graphs, temperature=1.0, top_p=0.9) == tokens(without, temperature=1.0, top_p=0.9)
    assert with_graphs._batch._road._graphs._recorded


@needs_gpu
def test_graphs_see_trained_weights_and_switched_adapters(checkpoints):
    policy = load_policy(str(checkpoints["Qwen3"]), device="cuda", dtype="float32")
    engine, judge = LocalEngine(policy, slots=16), LocalEngine(policy, slots=16, graphs=False)
    before = tokens(engine, temperature=0.0)
    add_lora(policy, LoRA(rank=4))
    assert tokens(engine, temperature=0.0) == before
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    adapted = tokens(engine, temperature=0.0)
    assert adapted == tokens(judge, temperature=0.0) != before
    with reference(policy):
        assert tokens(engine, temperature=0.0) == before
    assert tokens(engine, temperature=0.0) == adapted
    engine.release()
    assert tokens(engine, temperature=0.0) == adapted
