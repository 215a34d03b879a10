"""The statistics against plain formulas and scipy, and by simulation: 95 % intervals hold the truth 95 times in 100."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from thinksmith.evaluate.stats import accuracy, paired, pass_at_k

scores = st.dictionaries(
    st.text(max_size=3), st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=5), min_size=1
)


def table(rows):
    return {str(index): list(map(float, row)) for index, row in enumerate(rows)}


@pytest.mark.parametrize(("right", "of"), [(0, 300), (300, 300), (0, 1), (1, 1), (7, 300), (150, 300), (29, 30)])
def test_one_attempt_a_problem_is_the_wilson_interval_of_scipy(right, of):
    result = accuracy(table([[1]] * right + [[0]] * (of - right)))
    expected = reference.binomtest(right, of).proportion_ci(0.95, method="wilson")
    assert result.mean == right / of
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert result.low < result.high


def test_attempts_that_always_agree_count_once():
    once = accuracy(table([[1]] * 20 + [[0]] * 30))
    copied = accuracy(table([[1] * 16] * 20 + [[0] * 16] * 30))
    assert copied.attempts == 800
    # As wide as the 50 problems deserve, and a little wider for the quantile of t: never as narrow as 800 attempts.
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.03)


@given(scores)
def test_an_accuracy_lies_inside_its_interval_which_always_has_width(table):
    result = accuracy(table)
    assert 0 <= result.low <= result.mean <= result.high <= 1
    assert result.high - result.low > 1e-3
    assert result.problems == len(table)


@given(scores)
def test_failing_everywhere_mirrors_solving_everywhere(table):
    result, mirror = accuracy(table), accuracy({key: [1 - score for score in row] for key, row in table.items()})
    assert (mirror.low, mirror.high) == pytest.approx((1 - result.high, 1 - result.low), abs=1e-6)


@pytest.mark.parametrize("bad", [{}, {"a": []}, {"a": [1.5]}, {"a": [float("nan")]}, {"a": [-0.1]}])
def test_an_accuracy_of_nothing_or_of_non_scores_is_refused(bad):
    with pytest.raises(ValueError, match=r"problem|score"):
        accuracy(bad)


# (problems, attempts each, a, b): each problem's chance is drawn from Beta(a, b), so its attempts are clustered.
WORLDS = [(300, 1, 1, 4), (300, 1, 8, 0.4), (100, 4, 0.5, 0.5), (100, 8, 2, 2), (50, 16, 1, 9), (30, 4, 1, 1)]


@pytest.mark.parametrize(("problems", "attempts", "a", "b"), WORLDS)
def test_a_95_percent_interval_holds_the_truth_95_times_in_100(problems, attempts, a, b):
    random, sets = np.random.default_rng(7), 2000
    held = 0
    for _ in range(sets):
        chances = random.beta(a, b, problems)
        result = accuracy(table(random.random((problems, attempts)) < chances[:, None]))
        held += result.low <= a / (a + b) <= result.high
    assert 0.93 <= held / sets <= 0.97


def test_ignoring_the_clusters_would_claim_too_much():
    """The test above can fail: the same worlds with every attempt taken for a problem of its own."""
    random, held = np.random.default_rng(7), 0
    for _ in range(300):
        chances = random.beta(0.5, 0.5, 60)
        attempts = (random.random((60, 4)) < chances[:, None]).reshape(-1, 1)
        result = accuracy(table(attempts))
        held += result.low <= 0.5 <= result.high
    assert held / 300 < 0.85


@pytest.mark.parametrize(("problems", "win", "lose"), [(300, 0.4, 0.05), (300, 0.1, 0.1), (50, 0.3, 0.02)])
def test_the_interval_of_a_paired_difference_holds_the_truth(problems, win, lose):
    random, sets = np.random.default_rng(3), 1000
    held = 0
    for _ in range(sets):
        draw = random.random(problems)
        won, lost = draw < win, draw > 1 - lose
        kept = random.random(problems) < 0.5
        after, before = np.where(won, 1, np.where(lost, 0, kept)), np.where(won, 0, np.where(lost, 1, kept))
        result = paired(table(before[:, None]), table(after[:, None]))
        held += result.low <= win - lose <= result.high
    assert 0.925 <= held / sets <= 0.975


def test_several_attempts_are_compared_by_the_t_interval_of_scipy():
    random = np.random.default_rng(0)
    before, after = random.random((40, 4)) < 0.3, random.random((40, 4)) < 0.5
    result = paired(table(before), table(after))
    change = after.mean(axis=1) - before.mean(axis=1)
    expected = reference.ttest_1samp(change, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert result.mean == pytest.approx(change.mean())
    flipped = reference.permutation_test((change,), np.sum, permutation_type="samples", n_resamples=4000, rng=1)
    assert result.p == pytest.approx(flipped.pvalue, abs=0.02)
    assert paired(table(before), table(after)) == result


@pytest.mark.parametrize(("wins", "losses", "ties"), [(9, 1, 290), (5, 5, 0), (0, 0, 300), (120, 6, 174), (0, 7, 1)])
def test_yes_no_pairs_are_compared_by_the_exact_sign_test(wins, losses, ties):
    before = [[0]] * wins + [[1]] * losses + [[1]] * ties
    after = [[1]] * wins + [[0]] * losses + [[1]] * ties
    result = paired(table(before), table(after))
    assert (result.wins, result.losses, result.ties) == (wins, losses, ties)
    expected = reference.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert result.p == pytest.approx(expected)
    assert result.low < result.mean < result.high or wins + losses == 0


def test_sign_flips_are_exact_where_all_can_be_enumerated():
    before = table([[0, 0, 0, 0]] * 6)
    after = table([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    changes = [0.25, 0.5, 0.75, 1, 0.5]
    flips = [sum(s * c for s, c in zip(signs, changes, strict=True)) for signs in itertools.product((1, -1), repeat=5)]
    exact = sum(abs(total) >= sum(changes) for total in flips) / len(flips)
    assert paired(before, after).p == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize(("was", "now"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_differences_that_are_all_equal_still_have_an_interval(was, now, attempts):
    result = paired(table([[was] * attempts] * 50), table([[now] * attempts] * 50))
    assert -1 <= result.low <= result.mean <= result.high <= 1
    assert 0.02 < result.high - result.low < 0.2
    assert result.mean == now - was
    one = paired(table([[was] * attempts]), table([[now] * attempts]))
    assert one.high - one.low > 0.9


def test_only_shared_problems_are_compared_and_the_others_are_counted():
    result = paired({"a": [0], "b": [1], "only before": [0]}, {"b": [1], "a": [1], "x": [0], "y": [0]})
    assert (result.mean, result.problems, result.dropped) == (0.5, 2, 3)
    with pytest.raises(ValueError, match="share no problem"):
        paired({"a": [1]}, {"b": [1]})


@settings(max_examples=50, deadline=None)
@given(scores, scores)
def test_swapping_before_and_after_turns_the_difference_round(before, after):
    after = {**{key: [0.5] for key in before}, **after}
    there, back = paired(before, after), paired(after, before)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low), abs=1e-9)
    assert (there.wins, there.losses, there.p) == (back.losses, back.wins, back.p)


@pytest.mark.parametrize(("n", "c"), [(6, 0), (6, 1), (6, 3), (6, 6), (5, 2)])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_one(n, c):
    for k in range(1, n + 1):
        subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    assert math.isfinite(pass_at_k(10_000, 17, 100))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match="pass@k"):
        pass_at_k(n, c, k)
