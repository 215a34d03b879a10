"""The sampler: its random numbers, its distribution, and what filters leave, against slow and obvious references."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from thinksmith.engines.local.sampler import Rules, draw, row_key, uniform

ALL = (1 << 64) - 1
words = st.integers(0, 2**63 - 1)


def mix(x):
    """SplitMix64's output function as its authors write it, on unbounded integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & ALL
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & ALL
    return x ^ (x >> 31)


def rules(rows, seed=0, step=0, temperature=1.0, **filters):
    tensors = {
        name: torch.full((rows,), value, dtype=torch.int64 if name == "top_k_B" else torch.float32)
        for name, value in filters.items()
    }
    return Rules(
        key_B=torch.tensor([row_key(seed, row) for row in range(rows)]),
        step_B=torch.full((rows,), step),
        temperature_B=torch.full((rows,), temperature),
        **tensors,
    )


@given(key=st.integers(-(2**63), 2**63 - 1), step=st.integers(0, 10**6))
def test_uniform_is_splitmix64(key, step):
    expected = mix((key + (step + 1) * 0x9E3779B97F4A7C15) & ALL) >> 40
    got = uniform(torch.tensor([key]), torch.tensor([step])).item()
    assert got == expected / 2**24
    assert 0 <= got < 1


def test_keys_of_neighbours_are_unrelated():
    keys = [row_key(seed, sample) for seed in range(200) for sample in range(50)]
    assert len(set(keys)) == len(keys)
    # Seed s sample i + 1 must not be seed s + 1 sample i, nor one row's step the next row's.
    table = torch.stack([uniform(torch.tensor(keys[:400]), torch.full((400,), step)) for step in range(100)])
    assert table.unique().numel() > 0.998 * table.numel()
    assert abs(table.mean().item() - 0.5) < 5 / math.sqrt(12 * table.numel())
    for other in (table.roll(1, 0), table.roll(1, 1), table.roll((1, -1), (0, 1))):
        assert abs(torch.corrcoef(torch.stack((table.flatten(), other.flatten())))[0, 1]) < 0.025


@pytest.mark.parametrize("vocab", [5, 256, 257, 1000])
def test_frequencies_are_the_distribution(vocab):
    torch.manual_seed(vocab)
    logits = torch.randn(vocab) * 3
    rows = 20_000
    for temperature in (1.0, 0.5):
        tokens = draw(logits.expand(rows, vocab), rules(rows, temperature=temperature)).token_B
        expected = torch.softmax(logits.double() / temperature, 0)
        seen = torch.bincount(tokens, minlength=vocab) / rows
        error = (seen - expected).abs() / (expected * (1 - expected) / rows).sqrt().clamp(min=1 / rows)
        assert error.max() < 5


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40),
    top_k=st.integers(1, 45),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0, 1),
    temperature=st.floats(0.1, 3),
)
def test_filters_leave_what_their_definitions_say(logits, top_k, top_p, min_p, temperature):
    scores = torch.tensor(logits)
    probabilities = torch.softmax(scores / temperature, 0)
    order = sorted(range(len(logits)), key=lambda i: -probabilities[i].item())
    kept = order[:top_k]
    total = sum(probabilities[i].item() for i in kept)
    mass, nucleus = 0.0, []
    for i in kept:
        if nucleus and mass >= top_p * total + 1e-6:  # a border within rounding may fall on either side
            break
        nucleus.append(i)
        mass += probabilities[i].item()
    floor = min_p * probabilities.max().item()
    allowed = {i for i in nucleus if probabilities[i].item() >= floor - 1e-6}
    # Equal probabilities: which of them a cut keeps is a matter of order.
    allowed |= {i for i in range(len(logits)) if any(abs(logits[i] - logits[j]) < 1e-4 for j in allowed)}
    rows = 64
    how = rules(rows, temperature=temperature, top_k_B=top_k, top_p_B=top_p, min_p_B=min_p)
    drawn = draw(scores.expand(rows, -1), how)
    tokens, logprobs = drawn.token_B, drawn.logprob_B
    assert set(tokens.tolist()) <= allowed
    torch.testing.assert_close(logprobs, torch.log_softmax(scores, 0)[tokens], atol=1e-4, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=words, step=st.integers(0, 1000), rows=st.integers(2, 30))
def test_a_row_does_not_see_its_neighbours(seed, step, rows):
    generator = torch.Generator().manual_seed(seed % 1000)
    logits = torch.randn(rows, 300, generator=generator) * 2
    how = rules(rows, seed=seed, step=step, temperature=0.8, top_p_B=0.9)
    together = draw(logits, how).token_B
    for row in range(rows):
        alone = Rules(
            how.key_B[row : row + 1], how.step_B[:1], how.temperature_B[:1], top_p_B=torch.tensor([0.9]), greedy=False
        )
        assert draw(logits[row : row + 1], alone).token_B.item() == together[row].item()


def test_greedy_ban_force_and_what_is_not_finite():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [0.0, float("nan"), 1.0]])
    how = Rules(
        key_B=torch.arange(4),
        step_B=torch.zeros(4, dtype=torch.int64),
        temperature_B=torch.zeros(4),
        ban=(torch.tensor([1]), torch.tensor([1])),
        force=(torch.tensor([2]), torch.tensor([0])),
    )
    drawn = draw(logits, how)
    tokens, logprobs = drawn.token_B, drawn.logprob_B
    assert tokens.tolist() == [1, 2, 0, -1]
    torch.testing.assert_close(logprobs[:3], torch.log_softmax(logits[0], 0)[torch.tensor([1, 2, 0])])
    assert logits[1, 1] == 3.0  # banning changed the caller's tensor nowhere


def test_an_entry_without_mass_is_never_drawn():
    logits = torch.full((1, 700), -torch.inf)
    logits[0, [3, 255, 256, 699]] = 0.0
    for step in range(300):
        assert draw(logits, rules(1, step=step)).token_B.item() in (3, 255, 256, 699)


def test_what_is_withheld_is_swapped_where_it_is_drawn():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [4.0, 3.0, 1.0]])
    how = Rules(
        key_B=torch.arange(3),
        step_B=torch.zeros(3, dtype=torch.int64),
        temperature_B=torch.zeros(3),
        swap=(torch.tensor([1, 2]), torch.tensor([1]), torch.tensor([2, 2])),
    )
    drawn = draw(logits, how)
    assert drawn.token_B.tolist() == [1, 2, 0]
    assert drawn.swapped_B is not None
    assert drawn.swapped_B.tolist() == [False, True, False]
    torch.testing.assert_close(drawn.logprob_B[1], torch.log_softmax(logits[1], 0)[2])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), penalty=st.floats(0.5, 3.0))
def test_the_repetition_penalty_is_that_of_transformers(seed, penalty):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 50, generator=generator) * 3
    ids = torch.randint(0, 50, (4, 9), generator=generator)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    seen = torch.zeros(4, 50, dtype=torch.bool).scatter_(1, ids, True)
    how = replace(rules(4, temperature=0.0), penalty_B=torch.full((4,), penalty), seen_BV=seen)
    drawn = draw(logits, how)
    assert drawn.token_B.tolist() == expected.argmax(-1).tolist()
    raw = torch.log_softmax(logits, -1).gather(1, drawn.token_B[:, None])[:, 0]
    torch.testing.assert_close(drawn.logprob_B, raw)  # what is told is the model's own


def test_the_likeliest_are_told():
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    top = draw(logits, replace(rules(3), top=5)).top
    assert top is not None
    expected = torch.log_softmax(logits, -1).topk(5)
    assert top[0].tolist() == expected.indices.tolist()
    torch.testing.assert_close(top[1], expected.values)
