"""The policy: rendering, identity of the weights, and log-probabilities against a plain forward pass."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.records import Message

KINDS = ("Qwen2", "Qwen3", "Llama")


@pytest.fixture(scope="module")
def policies(checkpoints):
    return {kind: load_policy(str(checkpoints[kind]), device="cpu") for kind in KINDS}


def plain(policy, ids):
    """Log-probabilities of one sequence by transformers alone: [T] with 0 first, and the entropy of each position."""
    with torch.no_grad():
        logits = policy.model(torch.tensor([ids])).logits[0].double()
    table = torch.log_softmax(logits, -1)
    entropy = -(table.exp() * table).sum(-1)
    picked = [table[t - 1, ids[t]].item() for t in range(1, len(ids))]
    return torch.tensor([0.0, *picked]), torch.cat((torch.zeros(1), entropy[:-1].float()))


def pad(sequences, value=0):
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), value)
    where = torch.zeros(ids.shape, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        where[row, 1 : len(sequence)] = True
    return ids, where


sequences_of_ids = st.lists(st.lists(st.integers(3, 300), min_size=2, max_size=24), min_size=1, max_size=5)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(sequences=sequences_of_ids, chunk=st.sampled_from([1, 3, 64, None]), padding=st.integers(0, 300))
def test_logprobs_do_not_depend_on_padding_chunks_or_order(policies, kind, sequences, chunk, padding):
    policy = policies[kind]
    ids, where = pad(sequences, padding)
    order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(chunk or 0))
    with torch.no_grad():
        scored = policy.logprobs(ids[order], where[order], entropy=True, chunk_tokens=chunk)
    for place, row in enumerate(order.tolist()):
        expected, entropy = plain(policy, sequences[row])
        length = len(sequences[row])
        torch.testing.assert_close(scored.logprobs_BT[place, :length], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scored.entropy_BT[place, :length], entropy, atol=1e-5, rtol=1e-5)
        assert not scored.logprobs_BT[place, length:].any()


def test_only_what_is_asked_for(policies):
    policy = policies["Qwen2"]
    ids, where = pad([[5, 6, 7, 8, 9], [9, 8, 7]])
    where[0, 1:3] = False
    with torch.no_grad():
        some = policy.logprobs(ids, where)
    assert some.entropy_BT is None
    assert (some.logprobs_BT != 0).equal(where)
    with pytest.raises(ValueError, match="first token"):
        policy.logprobs(ids, torch.ones_like(where))
    assert not policy.logprobs(ids, torch.zeros_like(where)).logprobs_BT.any()


def test_gradients_do_not_depend_on_chunks(policies):
    policy = policies["Qwen3"]
    ids, where = pad([[5, 6, 7, 8, 9, 20, 21], [9, 8, 7]])

    def gradient(chunk):
        policy.model.zero_grad()
        scored = policy.logprobs(ids, where, entropy=True, chunk_tokens=chunk)
        (scored.logprobs_BT.sum() + 0.3 * scored.entropy_BT.pow(2).sum()).backward()
        return torch.cat([p.grad.flatten() for p in policy.model.parameters()])

    whole, cut = gradient(None), gradient(2)
    policy.model.zero_grad()
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(whole, cut, atol=1e-5, rtol=1e-4)


def test_hash_follows_every_weight(checkpoints):
    policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    first = policy.weights_hash()
    assert first == load_policy(str(checkpoints["Qwen2"]), device="cpu").weights_hash()
    assert first != load_policy(str(checkpoints["Qwen3"]), device="cpu").weights_hash()
    for parameter in policy.model.parameters():
        with torch.no_grad():
            old = parameter.view(-1)[-1].item()
            parameter.view(-1)[-1] = old + 1
        assert policy.weights_hash() == first
        policy.touch()
        assert policy.weights_hash() != first
        with torch.no_grad():
            parameter.view(-1)[-1] = old
        policy.touch()
        assert policy.weights_hash() == first


def test_render_tells_what_was_opened(policies):
    policy = policies["Qwen2"]
    messages = [Message(role="user", content="What is <think>2</think> + 2?")]
    bare = policy.render(messages)
    assert bare.opened == "<think>\n"
    assert bare.text.endswith("<|im_start|>assistant\n<think>\n")
    assert policy.decode(bare.ids) == bare.text
    more = policy.render(messages, prefill="Let me")
    assert more.opened == "<think>\nLet me"
    assert policy.decode(more.ids) == bare.text + "Let me"


def test_render_without_a_template_or_with_one_that_refuses(checkpoints):
    policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    policy.tokenizer.chat_template = "{{ raise_exception('roles must\nalternate') }}"
    with pytest.raises(UserError, match="alternate") as caught:
        policy.render([Message(role="user", content="x")])
    assert "\n" not in str(caught.value)
    policy.tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        policy.render([Message(role="user", content="x")])
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert policy.render([Message(role="user", content="x")]).opened == ""
