"""The bootstrap against scipy's, and the laws of what is resampled by problem."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from thinksmith.evaluate.statistics.resample import bootstrap, bootstrap_difference
from thinksmith.evaluate.statistics.stats import mean_interval, share

values = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(-1, 1), min_size=1, max_size=30)


def skewed(seed, size=60):
    return np.random.default_rng(seed).exponential(1.0, size)


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
@pytest.mark.parametrize("seed", [0, 1])
def test_means_agree_with_scipy(method, theirs, seed):
    data = skewed(seed)
    expected = reference.bootstrap((data,), np.mean, n_resamples=40_000, method=theirs, rng=1).confidence_interval
    found = bootstrap(data, method=method, draws=40_000)
    assert found == pytest.approx((expected.low, expected.high), abs=0.015)


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_any_statistic_of_rows_agrees_with_scipy(method, theirs):
    random = np.random.default_rng(5)
    one = random.exponential(1.0, 50)
    other = one + random.normal(0.5, 0.3, 50)

    def ratio(a, b, axis):
        return b.mean(axis=axis) / a.mean(axis=axis)

    theirs = reference.bootstrap(
        (one, other), ratio, n_resamples=20_000, method=theirs, paired=True, vectorized=True, rng=1
    )
    found = bootstrap(
        np.stack([one, other], axis=1),
        lambda rows_BPK: rows_BPK[..., 1].mean(axis=1) / rows_BPK[..., 0].mean(axis=1),
        method=method,
        draws=20_000,
    )
    assert found == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_the_mean_as_any_statistic_is_the_mean():
    data = skewed(2)
    assert bootstrap(data, lambda rows_BP: rows_BP.mean(axis=1)) == pytest.approx(bootstrap(data))


def test_studentised_by_hand():
    data = np.sort(skewed(3, 20))
    chosen = np.random.default_rng(0).integers(0, 20, (4000, 20))
    drawn = data[chosen]
    t = (drawn.mean(axis=1) - data.mean()) / (drawn.std(axis=1, ddof=1) / math.sqrt(20))
    low, high = np.quantile(t, (0.025, 0.975))
    error = data.std(ddof=1) / math.sqrt(20)
    assert bootstrap(data, method="t") == pytest.approx((data.mean() - high * error, data.mean() - low * error))


@pytest.mark.parametrize("method", ["percentile", "bca", "t"])
def test_it_agrees_with_the_formulas_where_these_are_right(method):
    random = np.random.default_rng(6)
    chances = random.beta(2, 2, 500)
    means = random.binomial(8, chances) / 8
    exact = share(means, 4000)
    assert bootstrap(means, method=method) == pytest.approx((exact.low, exact.high), abs=0.004)
    differences = random.binomial(8, chances) / 8 - means
    assert bootstrap_difference(differences, method=method) == pytest.approx(mean_interval(differences), abs=0.003)


@settings(max_examples=40, deadline=None)
@given(values, st.randoms(), st.sampled_from(["percentile", "bca", "t"]))
def test_the_order_of_the_problems_does_not_matter(data, random, method):
    mixed = list(data)
    random.shuffle(mixed)
    assert bootstrap(np.array(data), method=method, draws=200) == bootstrap(np.array(mixed), method=method, draws=200)


@settings(max_examples=40, deadline=None)
@given(values, st.sampled_from(["percentile", "bca", "t"]))
def test_turning_a_difference_round_turns_its_interval_round(data, method):
    low, high = bootstrap_difference(np.array(data), method=method, draws=200)
    there = bootstrap_difference(-np.array(data), method=method, draws=200)
    assert there == pytest.approx((-high, -low), abs=1e-12)
    assert low <= high
    assert all(map(math.isfinite, there))


@pytest.mark.parametrize("method", ["percentile", "bca", "t"])
def test_twice_the_problems_narrow_it_by_the_root_of_two(method):
    data = np.random.default_rng(7).normal(0.1, 0.4, 300)
    low, high = bootstrap_difference(data, method=method)
    less, more = bootstrap_difference(np.concatenate([data, data]), method=method)
    assert (high - low) / (more - less) == pytest.approx(math.sqrt(2), rel=0.05)


@pytest.mark.parametrize("method", ["percentile", "bca", "t"])
def test_equal_values_have_no_width_and_make_no_trouble(method):
    assert bootstrap(np.full(10, 0.3), method=method) == pytest.approx((0.3, 0.3))
    assert bootstrap(np.array([0.3]), method=method) == pytest.approx((0.3, 0.3))
    low, high = bootstrap_difference(np.array([1.0, 0.0, 0.0]), method=method, most=1.0)
    assert -1 <= low <= high <= 1


def test_the_same_seed_draws_the_same_and_another_does_not():
    data = skewed(8)
    assert bootstrap(data) == bootstrap(data)
    assert bootstrap(data) != bootstrap(data, seed=1)


@pytest.mark.parametrize("bad", [[], [float("nan")], [float("inf"), 1.0]])
def test_what_cannot_be_resampled_is_refused(bad):
    with pytest.raises(ValueError, match="bootstrap"):
        bootstrap(np.array(bad))
    with pytest.raises(ValueError, match="means only"):
        bootstrap(skewed(0), lambda rows_BP: rows_BP.max(axis=1), method="t")
