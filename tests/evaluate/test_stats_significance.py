"""p-values: against scipy and all flips, by simulation, and Holm's correction against its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from thinksmith.evaluate.statistics.significance import _counted, _flipped, holm, sign_flip_p

few = st.lists(st.integers(-4, 4), min_size=1, max_size=9)


def by_all_flips(differences):
    sums = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    seen = abs(sum(differences))
    return sum(total > seen for total in sums) / len(sums), sum(total == seen for total in sums) / len(sums)


@given(few)
def test_fractions_are_counted_exactly(quarters):
    beyond, equal = by_all_flips(quarters)
    differences = np.array(quarters) / 4
    assert sign_flip_p(differences, mid=False) == pytest.approx(beyond + equal)
    if any(quarters):
        assert sign_flip_p(differences) == pytest.approx(beyond + equal / 2)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_permutation_test_of_scipy(seed):
    differences = np.round(np.random.default_rng(seed).normal(0.2, 0.5, 12), 1)
    flipped = reference.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(differences, mid=False) == pytest.approx(flipped.pvalue)


@pytest.mark.parametrize(("wins", "losses"), [(9, 1), (5, 5), (0, 7), (300, 230), (4000, 3800)])
def test_equal_sizes_are_the_exact_sign_test(wins, losses):
    differences = np.concatenate([np.full(wins, 0.25), np.full(losses, -0.25), np.zeros(30)])
    assert sign_flip_p(differences, mid=False) == pytest.approx(reference.binomtest(wins, wins + losses).pvalue, 1e-6)


def test_many_problems_and_sizes_agree_with_random_flips():
    random = np.random.default_rng(2)
    steps = random.integers(-16, 17, 900) + (random.random(900) < 0.03)
    beyond, equal = _counted(steps[steps != 0])
    about, same = _flipped(steps[steps != 0].astype(float))
    assert beyond + equal / 2 == pytest.approx(about + same / 2, abs=0.015)


def test_other_numbers_are_flipped_at_random():
    random = np.random.default_rng(3)
    differences = random.normal(0.1, 0.3, 40)
    flipped = reference.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=20_000, rng=1)
    assert sign_flip_p(differences) == pytest.approx(flipped.pvalue, abs=0.015)
    assert sign_flip_p(np.sort(differences)) == sign_flip_p(differences) == sign_flip_p(-differences)


@pytest.mark.parametrize("mid", [True, False])
def test_no_change_is_no_evidence(mid):
    assert sign_flip_p(np.zeros(10), mid=mid) == 1


# (problems, attempts of the one, of the other, a, b): both have the same chance at every problem, from Beta(a, b).
SAME = [
    (300, 1, 1, 1, 1),
    (100, 1, 1, 2, 6),
    (100, 4, 4, 0.5, 0.5),
    (30, 4, 4, 1, 1),
    (1000, 2, 2, 2, 6),
    (100, 1, 4, 1, 1),
]


@pytest.mark.parametrize(("problems", "one", "other", "a", "b"), SAME)
def test_the_same_is_called_different_one_time_in_twenty(problems, one, other, a, b):
    random, sets, rejected = np.random.default_rng(8), 3000, 0
    for _ in range(sets):
        p = random.beta(a, b, problems)
        differences = np.round(random.binomial(other, p) / other - random.binomial(one, p) / one, 12)
        rejected += sign_flip_p(differences) < 0.05
    assert 0.038 <= rejected / sets <= 0.062  # 4 to 6 %, and half a standard error of 3,000


def test_the_exact_p_value_would_reject_too_seldom():
    """The test above can fail: so it does by the exact p-value where few problems change."""
    random, rejected = np.random.default_rng(8), 0
    for _ in range(2000):
        p = random.beta(1, 1, 60)
        differences = random.binomial(1, p) - random.binomial(1, p)
        rejected += sign_flip_p(differences.astype(float), mid=False) < 0.05
    assert rejected / 2000 < 0.038


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p_values):
    """Holm 1979: go up from the smallest p, reject while p ≤ α / (how many are left), stop at the first that is not."""
    corrected = holm(p_values)
    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
            if p_values[at] * (len(p_values) - rank) > alpha:
                break
            rejected.add(at)
        assert {at for at, p in enumerate(corrected) if p <= alpha} == rejected
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
