"""The statistics against plain formulas and scipy, and by simulation: 95 % intervals hold the truth 95 times in 100."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from thinksmith.evaluate.statistics.stats import Means, accuracy, paired

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
def test_yes_no_pairs_are_compared_by_mcnemars_mid_p_value(wins, losses, ties):
    before = [[0]] * wins + [[1]] * losses + [[1]] * ties
    after = [[1]] * wins + [[0]] * losses + [[1]] * ties
    result = paired(table(before), table(after))
    assert (result.wins, result.losses, result.ties) == (wins, losses, ties)
    exact = reference.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    as_far = reference.binom.pmf(wins, wins + losses, 0.5) if wins + losses else 0.0
    # Fagerland 2013: less the chance of exactly what was seen, of which half counts where both sides are equal.
    assert result.p == pytest.approx(exact - as_far / (2 if wins == losses else 1))
    assert result.low < result.mean < result.high or wins + losses == 0


def test_sign_flips_are_exact_where_all_can_be_enumerated():
    before = table([[0, 0, 0, 0]] * 6)
    after = table([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    changes = [0.25, 0.5, 0.75, 1, 0.5]
    flips = [sum(s * c for s, c in zip(signs, changes, strict=True)) for signs in itertools.product((1, -1), repeat=5)]
    beyond = sum(abs(total) > sum(changes) + 1e-9 for total in flips) / len(flips)
    equal = sum(abs(abs(total) - sum(changes)) < 1e-9 for total in flips) / len(flips)
    assert paired(before, after).p == pytest.approx(beyond + equal / 2, abs=1e-12)


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


def test_permuting_problems_and_attempts_changes_nothing():
    random = np.random.default_rng(4)
    before, after = random.random((40, 3)), random.random((40, 3))
    order, samples = random.permutation(40), random.permutation(3)
    one, other = paired(table(before), table(after)), paired(table(before[order]), table(after[order][:, samples]))
    assert (one.mean, one.low, one.high, one.p) == pytest.approx((other.mean, other.low, other.high, other.p))
    there, back = accuracy(table(before)), accuracy(table(before[order][:, samples]))
    assert (there.mean, there.low, there.high) == pytest.approx((back.mean, back.low, back.high))


@pytest.mark.parametrize("attempts", [1, 4])
def test_twice_the_problems_narrow_an_interval_by_the_root_of_two(attempts):
    random = np.random.default_rng(5)
    before, after = (random.random((400, attempts)) < 0.5 for _ in range(2))
    twice = [table(np.concatenate([rows, rows])) for rows in (before, after)]
    for once, doubled in (
        (accuracy(table(before)), accuracy(twice[0])),
        (paired(table(before), table(after)), paired(*twice)),
    ):
        assert (once.high - once.low) / (doubled.high - doubled.low) == pytest.approx(math.sqrt(2), rel=0.01)
        assert doubled.mean == pytest.approx(once.mean)


@given(scores)
def test_arrays_say_what_lists_say(table):
    ids = [*table, "without an attempt"]
    score_N = np.array([score for row in table.values() for score in row])
    problem_N = np.array([at for at, row in enumerate(table.values()) for _ in row])
    means = Means.of(score_N, problem_N, ids)
    assert means.ids == tuple(table)
    listed, counted = accuracy(table), accuracy(means)
    assert (counted.mean, counted.low, counted.high) == pytest.approx((listed.mean, listed.low, listed.high), abs=1e-9)
    assert (counted.problems, counted.attempts) == (listed.problems, listed.attempts)
    assert paired(means, table).mean == 0


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan")])
def test_arrays_of_non_scores_are_refused(score):
    with pytest.raises(ValueError, match="score"):
        Means.of(np.array([0.0, score]), np.array([0, 0]), ["a"])
    with pytest.raises(ValueError, match="no problem"):
        Means.of(np.array([]), np.array([], dtype=int), [])


def test_a_million_attempts_take_well_under_a_second():
    random = np.random.default_rng(0)
    problem_N, ids = np.repeat(np.arange(1000), 1000), [str(index) for index in range(1000)]
    before, after = ((random.random(1_000_000) < 0.5).astype(float) for _ in range(2))
    began = time.process_time()
    result = paired(Means.of(before, problem_N, ids), Means.of(after, problem_N, ids))
    assert time.process_time() - began < 1
    assert result.problems == 1000


def test_rare_hard_problems_that_were_not_seen_still_have_their_place_in_the_interval():
    """1 of 50 problems is never solved, the others always: of 30, none may be such. The spread that was seen is then
    all but none, and an interval by that alone would deny the truth most of the time."""
    random, held = np.random.default_rng(11), 0
    for _ in range(1000):
        hard = random.random(30) < 0.02
        rows = np.where(hard[:, None], 0.0, random.random((30, 16)) < 0.999)
        result = accuracy(table(rows))
        held += result.low <= 0.98 * 0.999 <= result.high
    assert held / 1000 > 0.93
