"""Near duplicates, against the plain definition: sets of shingles, and every pair compared."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.distill.curate.near import BANDS, ROWS, near_duplicates
from thinksmith.distill.curate.signature import SHINGLE, K, signature, similarity
from thinksmith.problems.wording import Wording


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def sign(text: str):
    return signature(Wording.of(text).hashes_W)


def text_of(seed: int, count: int) -> list[str]:
    chance = Random(seed)
    return [f"w{chance.randrange(400)}" for _ in range(count)]


def changed(words: list[str], share: float, seed: int) -> str:
    chance = Random(seed)
    return " ".join(f"n{chance.randrange(10**6)}" if chance.random() < share else word for word in words)


@given(
    seed=st.integers(0, 10**6),
    count=st.sampled_from([30, 100, 300, 1500]),
    share=st.sampled_from([0, 0.01, 0.05, 0.2, 1]),
)
@settings(max_examples=150, deadline=None)
def test_signatures_estimate_the_jaccard_index(seed: int, count: int, share: float) -> None:
    """Within five standard errors; K / 2 stands for the bins that short texts leave empty."""
    words = text_of(seed, count)
    one, other = " ".join(words), changed(words, share, seed + 1)
    exact = jaccard(one, other)
    estimate = similarity(sign(one), sign(other)[None])[0]
    assert abs(estimate - exact) <= 5 * np.sqrt(max(exact * (1 - exact), 0.02) / (K / 2))
    if one == other:
        assert estimate == 1


def test_the_estimate_is_not_biased() -> None:
    errors = []
    for seed in range(300):
        words = text_of(seed, 400)
        one, other = " ".join(words), changed(words, 0.04, seed + 1)
        errors.append(similarity(sign(one), sign(other)[None])[0] - jaccard(one, other))
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors)) + 1e-3
    assert np.std(errors) < 1 / (2 * np.sqrt(K)) * 1.3


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_pairs_are_those_of_comparing_each_with_each(seed: int) -> None:
    chance = Random(seed)
    bases = [text_of(seed + at, 300) for at in range(4)]
    texts = [changed(bases[chance.randrange(4)], chance.choice([0, 0.002, 0.01, 0.1]), seed + at) for at in range(40)]
    signatures = np.stack([sign(text) for text in texts])
    leaders, similar = near_duplicates(signatures, 0.8)
    kept: list[int] = []
    for at in range(len(texts)):
        found = [(similarity(signatures[at], signatures[[other]])[0], -other) for other in kept]
        best = max(found, default=(0.0, 0))
        if leaders[at] >= 0:
            assert leaders[at] in kept
            assert similar[at] == similarity(signatures[at], signatures[[leaders[at]]])[0] >= 0.8
        else:
            assert best[0] < 0.9, "a pair this similar is missed once in a million"
            kept.append(at)


def test_how_likely_a_pair_is_compared() -> None:
    """As the module says."""

    def found(similar: float) -> float:
        return 1 - (1 - similar**ROWS) ** BANDS

    assert found(0.8) > 0.998
    assert found(0.9) > 1 - 1e-6
    assert found(0.5) == pytest.approx(0.28, abs=0.01)


def test_short_texts_and_none() -> None:
    for text in ("", "one", "one two", "one two three four five"):
        assert similarity(sign(text), sign(text)[None])[0] == 1
    assert similarity(sign("one two"), sign("one three")[None])[0] < 0.1
    leaders, _ = near_duplicates(np.zeros((0, K), dtype=np.uint32), 0.8)
    assert len(leaders) == 0


def test_many_that_share_a_band_take_no_quadratic_time() -> None:
    signatures = np.random.default_rng(0).integers(0, 2**32, (20_000, K), dtype=np.uint64).astype(np.uint32)
    signatures[:, : K // 2] = 7  # half of each is the same: similar to 0.5, all with all
    leaders, _ = near_duplicates(signatures, 0.8)
    assert (leaders < 0).all()
