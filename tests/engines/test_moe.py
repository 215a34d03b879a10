"""Mixtures of experts through the local engine: which experts a token goes to does not depend on how it is batched."""

from __future__ import annotations

import pytest
import torch
import transformers

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.load import load_policy
from thinksmith.records import Message, Request, Sampling

KINDS = {
    "Qwen2Moe": {"num_experts": 4, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 64},
    "Qwen3Moe": {"num_experts": 4, "moe_intermediate_size": 48, "head_dim": 16},
    "Mixtral": {"num_local_experts": 4},
}


@pytest.fixture(scope="module", params=KINDS)
def policy(request, tokenizer, tmp_path_factory):
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_experts_per_tok=2, max_position_embeddings=256, initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        **KINDS[request.param],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, f"{request.param}ForCausalLM")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_policy(str(folder), device="cpu")


def ask(number, **sampling):
    text = f"What is {number} * 34?" + " Think well." * (number % 4)
    sampling = {"temperature": 1.0, "max_tokens": 24, "seed": number} | sampling
    return Request(messages=(Message(role="user", content=text),), n=2, sampling=Sampling(**sampling))


def test_logprobs_are_transformers(policy):
    engine = LocalEngine(policy, slots=8)  # 12 samples: rows come and go
    for trace in (trace for traces in engine.sample_all([ask(number) for number in range(6)]) for trace in traces):
        ids = torch.tensor([trace.prompt_ids + trace.token_ids])
        with torch.no_grad():
            table = policy.model(ids).logits[0].double().log_softmax(-1)
        expected = table[trace.prompt_tokens - 1 : -1].gather(-1, ids[0, trace.prompt_tokens :, None])[:, 0]
        assert len(trace.logprobs) == len(expected) > 0
        assert (torch.tensor(trace.logprobs, dtype=torch.float64) - expected).abs().max() <= 1e-4


def test_greedy_equals_generate(policy):
    engine = LocalEngine(policy, slots=8)
    for trace, _ in engine.sample_all([ask(number, temperature=0.0) for number in range(5)]):
        prompt = torch.tensor([trace.prompt_ids])
        with torch.no_grad():
            expected = policy.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=24, pad_token_id=0
            )
        assert list(trace.token_ids) == expected[0, prompt.shape[1] :].tolist()
