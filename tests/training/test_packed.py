"""Packed rows: attention against plain softmax, gradients against autograd's, log-probabilities against padded ones."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import example as also
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from training_kit import random_examples, small_model, word_tokenizer

from thinksmith.engines.local.native.road import NativeRoad
from thinksmith.policy.adapter import LoRA, add_lora
from thinksmith.policy.policy import Policy
from thinksmith.training.batches import Example, pad
from thinksmith.training.packed import blocks, buckets
from thinksmith.training.packed.attention import packed_attention
from thinksmith.training.packed.forward import packable, packed_scores
from thinksmith.training.packed.layout import Crossing, Layout, Segment
from thinksmith.training.packed.native import kernel
from thinksmith.training.packed.native.plan import PARTS
from thinksmith.training.packed.pack import pack, packs
from thinksmith.training.recompute import recompute_layers

CPU = torch.device("cpu")
VOCAB = 50
lengths = st.lists(st.tuples(st.integers(1, 30), st.lists(st.integers(1, 40), max_size=5)), min_size=1, max_size=4)


def layout_of(groups: list[tuple[int, list[int]]]) -> tuple[Layout, Tensor]:
    """The layout of prompts and their completions, and who sees whom, [N, N], written down token by token."""
    segments, crossings, at = [], [], 0
    for prompt, completions in groups:
        seen = Segment(at, at + prompt)
        segments.append(seen)
        at += prompt
        for length in completions:
            segments.append(Segment(at, at + length))
            at += length
        if completions:
            crossings.append(Crossing(seen, Segment(seen.end, at)))
    sees = torch.zeros(at, at, dtype=torch.bool)
    for part in segments:
        for query in range(part.start, part.end):
            sees[query, part.start : query + 1] = True
    for crossing in crossings:
        sees[crossing.seers.start : crossing.seers.end, crossing.seen.start : crossing.seen.end] = True
    return Layout(segments, crossings, CPU), sees


def plain(q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, sees_NN: Tensor, scale: float) -> Tensor:
    group = len(q_HND) // len(k_KND)
    k_HND, v_HND = k_KND.repeat_interleave(group, 0), v_KND.repeat_interleave(group, 0)
    score_HNN = (q_HND @ k_HND.mT * scale).masked_fill(~sees_NN, -torch.inf)
    return score_HNN.softmax(-1) @ v_HND


@settings(max_examples=40, deadline=None)
@given(lengths, st.sampled_from([(4, 4), (4, 2), (6, 1)]), st.booleans(), st.integers(0, 99))
def test_attention_and_its_gradients_are_those_of_softmax(
    groups: list[tuple[int, list[int]]], heads: tuple[int, int], by_token: bool, seed: int
) -> None:
    layout, sees_NN = layout_of(groups)
    torch.manual_seed(seed)
    shapes = [(heads[0], len(sees_NN), 8), *[(heads[1], len(sees_NN), 8)] * 2]
    inputs = [torch.randn(shape, dtype=torch.float64) * 3 for shape in shapes]
    if by_token:  # as a model's products leave them
        inputs = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs]
    one, other = ([x.clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs] for _ in range(2))
    out, wanted = packed_attention(*one, layout, 0.3), plain(*other, sees_NN, 0.3)
    torch.testing.assert_close(out, wanted)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (wanted * weights).sum().backward()
    for x, y in zip(one, other, strict=True):
        torch.testing.assert_close(x.grad, y.grad)


def test_numbers_of_16_bits_are_multiplied_in_32() -> None:
    """What comes out is as near to the truth as rounding in and out allows."""
    layout, sees_NN = layout_of([(60, [90, 80]), (5, [40])])
    torch.manual_seed(0)
    exact = [(torch.randn(h, len(sees_NN), 16) * 2).bfloat16().double().requires_grad_() for h in (4, 2, 2)]
    rounded = [x.detach().bfloat16().requires_grad_() for x in exact]
    wanted, out = plain(*exact, sees_NN, 0.25), packed_attention(*rounded, layout, 0.25)
    assert out.dtype == torch.bfloat16
    assert float((out.detach() - wanted.detach()).norm() / wanted.detach().norm()) < 2e-3
    for got, want in zip(
        torch.autograd.grad(out.float().square().sum(), rounded),
        torch.autograd.grad(wanted.square().sum(), exact),
        strict=True,
    ):
        assert got.dtype == torch.bfloat16
        assert float((got - want).norm() / want.norm()) < 8e-3


@pytest.mark.skipif(not kernel.fits(1, 1, 8), reason="no C compiler, or THINKSMITH_NATIVE=0")
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 120), st.lists(st.integers(1, 130), max_size=6)), min_size=1, max_size=3),
    st.sampled_from([(4, 4), (4, 2), (14, 2), (40, 1)]),
    st.sampled_from([1, 8, 40, 64, 100]),
    st.booleans(),
    st.integers(0, 99),
)
def test_the_code_in_c_computes_softmax_too(
    groups: list[tuple[int, list[int]]], heads: tuple[int, int], dim: int, by_token: bool, seed: int
) -> None:
    """In float32, as near to the truth as that allows; the same bit for bit on one thread and on three."""
    layout, sees_NN = layout_of(groups)
    torch.manual_seed(seed)
    inputs = [torch.randn(h, len(sees_NN), dim) * 2 for h in (heads[0], heads[1], heads[1])]
    if by_token:
        inputs = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs]
    exact = [x.double().requires_grad_() for x in inputs]
    wanted = plain(*exact, sees_NN, dim**-0.5)
    weights = torch.randn(wanted.shape)
    want = [wanted.detach(), *torch.autograd.grad((wanted * weights).sum(), exact)]
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        ours = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
        out = packed_attention(*ours, layout, dim**-0.5)
        assert "NativeAttention" in out.grad_fn.name()
        found.append([out.detach(), *torch.autograd.grad((out * weights).sum(), ours)])
    torch.set_num_threads(1)
    for first, second, x in zip(*found, want, strict=True):
        assert torch.equal(first, second)
        scale = max(float(x.abs().max()), 1.0)  # what cancels to nothing is left with the rounding of its parts
        torch.testing.assert_close(first.double(), x, atol=2e-5 * scale, rtol=1e-4)


@pytest.mark.skipif(not kernel.fits(1, 1, 8), reason="no C compiler, or THINKSMITH_NATIVE=0")
def test_what_a_completion_does_not_see_does_not_reach_it() -> None:
    """Not even what is no number: completions lie side by side in one row, and vectors reach over their borders."""
    layout, _ = layout_of([(20, [30, 25, 50]), (3, [4])])
    torch.manual_seed(0)
    inputs = [torch.randn(h, layout.tokens, 24, requires_grad=True) for h in (4, 2, 2)]
    other, spoilt = layout.segments[2], [x.detach().clone() for x in inputs]
    for x in spoilt:
        x[:, other.start : other.end] = torch.nan
    spoilt = [x.requires_grad_() for x in spoilt]
    clean, out = packed_attention(*inputs, layout, 0.2), packed_attention(*spoilt, layout, 0.2)
    others = torch.ones(layout.tokens, dtype=torch.bool)
    others[other.start : other.end] = False
    assert torch.equal(out[:, others], clean[:, others])
    assert out[:, ~others].isnan().all()
    apart = others.clone()  # what `other` sees has its gradient in it
    apart[layout.segments[0].start : layout.segments[0].end] = False
    got, want = (torch.autograd.grad(x[:, others].square().sum(), y) for x, y in ((out, spoilt), (clean, inputs)))
    for x, y in zip(got, want, strict=True):
        assert torch.equal(x[:, apart], y[:, apart])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 600))
def test_the_parts_of_a_backward_pass_cover_each_segment_once(completions: list[int], prompt: int) -> None:
    layout, _ = layout_of([(prompt, completions), (7, [3])])
    parts = layout.plan.parts_P3.tolist()
    assert [number for first, last, _ in parts for number in range(first, last)] == list(range(len(layout.segments)))
    of_first = [(first, last, buffer) for first, last, buffer in parts if 1 <= first <= len(completions)]
    assert len(of_first) <= PARTS
    assert [buffer for *_, buffer in of_first] == [prompt * number for number in range(len(of_first))]
    assert layout.plan.buffers == prompt * len(of_first) + 7


def test_long_rows_are_cut_into_pieces_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [(300, [260, 30, 5]), (7, [200])]
    layout, sees_NN = layout_of(groups)
    torch.manual_seed(0)
    inputs = [torch.randn(h, len(sees_NN), 4, dtype=torch.float64, requires_grad=True) for h in (4, 2, 2)]
    wanted = plain(*inputs, sees_NN, 0.5)
    want = torch.autograd.grad(wanted.square().sum(), inputs)
    for scores, queries in ((1 << 19, 128), (900, 16), (1, 1)):
        monkeypatch.setattr(blocks, "SCORES", scores)
        monkeypatch.setattr(blocks, "QUERIES", queries)
        out = packed_attention(*inputs, layout, 0.5)
        torch.testing.assert_close(out, wanted)
        for x, y in zip(torch.autograd.grad(out.square().sum(), inputs), want, strict=True):
            torch.testing.assert_close(x, y)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_what_a_gpu_computes_is_the_same_pattern() -> None:
    layout, sees_NN = layout_of([(5, [7, 3]), (9, []), (1, [4])])
    inputs = [torch.randn(h, len(sees_NN), 16) for h in (4, 2, 2)]
    torch.testing.assert_close(layout.flex.attend(*inputs, 0.25), plain(*inputs, sees_NN, 0.25))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_outputs_and_gradients_are_those_of_softmax() -> None:
    layout, sees_NN = layout_of([(70, [130, 33, 1]), (9, [200, 64])])
    layout = Layout(layout.segments, layout.crossings, torch.device("cuda"))
    inputs = [torch.randn(h, len(sees_NN), 64, device="cuda", requires_grad=True) for h in (8, 2, 2)]
    out, wanted = packed_attention(*inputs, layout, 0.1), plain(*inputs, sees_NN.cuda(), 0.1)
    torch.testing.assert_close(out, wanted, atol=2e-3, rtol=2e-3)
    got, want = (torch.autograd.grad(x.square().sum(), inputs) for x in (out, wanted))
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, atol=2e-2, rtol=2e-2)


def grouped(count: int, seed: int) -> list[Example]:
    """Examples of few prompts, some of them with tokens that are not learnt."""
    rng = Random(seed)
    prompts = [example.prompt_ids for example in random_examples(3, VOCAB, seed)]
    found = []
    for example in random_examples(count, VOCAB, seed + 1):
        given = tuple(sorted(rng.sample(range(len(example.completion_ids)), rng.randint(0, 1))))
        found.append(Example(rng.choice(prompts), example.completion_ids, given))
    return found


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 25), st.integers(1, 300), st.integers(0, 99))
@also(10, 12, 55)  # two parts of one group in one row
def test_every_example_is_in_one_row_and_every_learnt_token_once(count: int, tokens: int, seed: int) -> None:
    examples = grouped(count, seed)
    seen: list[int] = []
    for row in packs(examples, tokens, CPU):
        assert row.tokens <= tokens or len(row.indices) == 1
        ids = row.ids_N.tolist()
        learnt: dict[int, list[int]] = {}
        for before, target, place in zip(row.before_M, row.targets_M, row.rows_M, strict=True):
            learnt.setdefault(int(place), []).append(int(target))
            assert int(row.positions_N[before]) >= len(examples[row.indices[int(place)]].prompt_ids) - 1
        for place, index in enumerate(row.indices):
            example = examples[index]
            wanted = [t for at, t in enumerate(example.completion_ids) if at not in example.given]
            assert learnt.get(place, []) == wanted
        prompts = {examples[index].prompt_ids for index in row.indices}
        assert len(ids) == sum(map(len, prompts)) + sum(len(examples[i].completion_ids) for i in row.indices)
        seen += row.indices
    assert sorted(seen) == list(range(count))


def policy_of(architecture: str, seed: int = 0) -> Policy:
    return Policy(small_model(architecture, VOCAB, seed=seed), word_tokenizer(), "small")


def padded(policy: Policy, examples: list[Example]) -> list[Tensor]:
    """Log-probabilities of each example's learnt tokens, each alone in a padded batch."""
    found = []
    for index in range(len(examples)):
        batch = pad(examples, [index], 0)
        found.append(policy.logprobs(batch.input_ids_BT, batch.completion_BT).logprobs_BT[batch.completion_BT])
    return found


@pytest.mark.parametrize("architecture", ["Qwen2", "Qwen3", "Llama", "Mistral", "Gemma2"])
def test_log_probs_and_gradients_are_those_of_padded_sequences(architecture: str) -> None:
    policy, examples = policy_of(architecture), grouped(12, 3)
    longest = max(example.tokens for example in examples)
    if architecture == "Gemma2":  # caps the scores of its attention, which only its own code does
        assert not packable(policy, longest)
        return
    assert packable(policy, longest)
    wanted = padded(policy, examples)
    (-torch.cat(wanted).square().sum()).backward()
    want = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    for tokens in (1, 60, 10_000):
        policy.model.zero_grad(set_to_none=True)
        for row in packs(examples, tokens, CPU):
            found = packed_scores(policy, row, entropy=True)
            torch.testing.assert_close(
                found.logprobs_N.detach(), torch.cat([wanted[i] for i in row.indices]).detach(), atol=1e-5, rtol=1e-5
            )
            (-found.logprobs_N.square().sum()).backward()
        for name, parameter in policy.model.named_parameters():
            torch.testing.assert_close(parameter.grad, want[name], atol=2e-4, rtol=2e-4)


def test_the_temperature_divides_the_logits() -> None:
    policy, examples = policy_of("Qwen3"), grouped(5, 1)
    row = pack(examples, [4], CPU)
    ids = torch.tensor([examples[4].prompt_ids + examples[4].completion_ids])
    logits_TV = policy.model(input_ids=ids).logits[0, len(examples[4].prompt_ids) - 1 : -1] / 0.7
    keep = [at for at in range(len(examples[4].completion_ids)) if at not in examples[4].given]
    found = packed_scores(policy, row, entropy=True, temperature=0.7)
    wanted = logits_TV.log_softmax(-1).gather(-1, torch.tensor(examples[4].completion_ids)[:, None])[keep, 0]
    torch.testing.assert_close(found.logprobs_N, wanted, atol=1e-5, rtol=1e-5)
    prob = logits_TV.softmax(-1)[keep]
    assert found.entropy_N is not None
    torch.testing.assert_close(found.entropy_N, -(prob * prob.log()).sum(-1), atol=1e-5, rtol=1e-5)


def test_a_window_narrower_than_a_sequence_is_not_packed() -> None:
    policy = policy_of("Mistral")
    policy.model.config.sliding_window = 32
    assert packable(policy, 32)
    assert not packable(policy, 33)


def test_recomputing_layers_changes_nothing() -> None:
    policy, examples = policy_of("Qwen2"), grouped(8, 2)
    row = pack(examples, sorted(range(8), key=lambda i: examples[i].prompt_ids), CPU)
    grads = []
    for _ in range(2):
        policy.model.zero_grad(set_to_none=True)
        packed_scores(policy, row).logprobs_N.sum().backward()
        grads.append([p.grad.clone() for p in policy.model.parameters()])
        recompute_layers(policy.model)
        policy.model.train()
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


@pytest.mark.parametrize("lora", [False, True])
def test_a_model_whose_layers_are_recomputed_is_still_sampled_in_c(lora: bool) -> None:
    policy = policy_of("Qwen2")
    if lora:
        add_lora(policy, LoRA(rank=2))
    before = NativeRoad.fits(policy)
    recompute_layers(policy.model)
    assert NativeRoad.fits(policy) == before
    if not before:
        pytest.skip("there is no C compiler")


def test_padding_weighs_nothing_however_far_scores_are_apart() -> None:
    layout, _ = layout_of([(40, []), (38, [])])
    assert layout.buckets.padded > layout.tokens
    q = torch.full((1, 78, 2), 30.0, requires_grad=True)
    k = torch.cat([torch.full((1, 1, 2), -30.0), torch.full((1, 77, 2), 30.0)], 1)
    out = packed_attention(q, k, torch.randn(1, 78, 2), layout, 1.0)
    out.sum().backward()
    assert bool(torch.isfinite(out).all() and torch.isfinite(q.grad).all())
    assert buckets.WASTE < 1
