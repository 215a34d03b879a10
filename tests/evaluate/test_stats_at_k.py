"""avg@k, pass@k, pass^k and maj@k against exact fractions and all subsets, and their intervals by simulation."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.evaluate.statistics import at_k
from thinksmith.evaluate.statistics.at_k import all_P, led_by_right, majority, pass_at_k, pass_P
from thinksmith.evaluate.statistics.measures import answer_classes, measures, trials_in
from thinksmith.evaluate.statistics.stats import share
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.figures import figures_of


@st.composite
def counts(draw):
    n = draw(st.integers(1, 200))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@given(counts())
def test_pass_at_k_and_pass_hat_k_are_the_exact_fractions(case):
    n, c, k = case
    some = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    every = Fraction(math.comb(c, k), math.comb(n, k))
    # Relative: also a chance of one in a million keeps its digits.
    assert pass_at_k(n, c, k) == pytest.approx(float(some), rel=1e-11, abs=0)
    assert all_P(np.array([n]), np.array([c]), k)[0] == pytest.approx(float(every), rel=1e-11, abs=0)


def test_large_counts_neither_overflow_nor_lose_digits():
    exact = 1 - Fraction(math.comb(10**6 - 1, 3), math.comb(10**6, 3))
    assert pass_at_k(10**6, 1, 3) == pytest.approx(float(exact), rel=1e-11, abs=0)
    assert pass_at_k(10_000, 17, 5_000) == pytest.approx(1, abs=1e-4)
    assert pass_at_k(10_000, 5_001, 5_000) == 1


def test_a_million_problems_are_one_call():
    n_P, c_P = np.full(1_000_000, 16), np.arange(1_000_000) % 17
    expected = [1 - math.comb(16 - c, 4) / math.comb(16, 4) for c in range(17)]
    assert pass_P(n_P, c_P, 4)[:17] == pytest.approx(expected)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match="pass@k"):
        pass_at_k(n, c, k)
    with pytest.raises(ValueError, match="pass\\^k"):
        all_P(np.array([4, n]), np.array([2, c]), k)


# An attempt's vote: a class of answers, or None.
votes = st.lists(st.sampled_from([0, 1, 2, 3, None]), min_size=1, max_size=9)
worths = st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 4)


def led(voted, worth, by_first=False):
    """What the leading class of these votes is worth: ties by lot, or the class that appeared first."""
    counted = Counter(vote for vote in voted if vote is not None)
    if not counted:
        return Fraction(0)
    most = max(counted.values())
    leaders = [vote for vote, count in counted.items() if count == most]
    chosen = leaders[:1] if by_first else leaders
    return sum((Fraction(worth[vote]) for vote in chosen), Fraction(0)) / len(chosen)


def columns(voted, worth):
    class_N = np.array([-1 if vote is None else vote for vote in voted])
    score_N = np.array([0.0 if vote is None else worth[vote] for vote in voted])
    return np.zeros(len(voted), dtype=int), class_N, score_N


@settings(max_examples=150, deadline=None)
@given(votes, worths, st.data())
def test_maj_at_k_is_the_mean_over_all_subsets(voted, worth, data):
    k = data.draw(st.integers(1, len(voted)))
    subsets = list(itertools.combinations(voted, k))
    exact = sum((led(subset, worth) for subset in subsets), Fraction(0)) / len(subsets)
    assert majority(*columns(voted, worth), k).value_P[0] == pytest.approx(float(exact), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, None]), min_size=1, max_size=6), worths, st.data())
def test_ties_by_the_first_that_appeared_come_to_the_same_over_all_orders(voted, worth, data):
    k = data.draw(st.integers(1, len(voted)))
    orders = [order[:k] for order in itertools.permutations(voted)]
    exact = sum((led(order, worth, by_first=True) for order in orders), Fraction(0)) / len(orders)
    assert majority(*columns(voted, worth), k).value_P[0] == pytest.approx(float(exact), abs=1e-12)


@given(votes, worths, st.randoms())
def test_the_order_of_the_attempts_and_the_names_of_the_classes_do_not_matter(voted, worth, random):
    k = max(1, len(voted) // 2)
    mixed = list(voted)
    random.shuffle(mixed)
    names = [7, 2, 9, 4]
    renamed = [None if vote is None else names[vote] for vote in mixed]
    by_name = {names[at]: worth[at] for at in range(4)}
    there = majority(*columns(voted, worth), k).value_P[0]
    assert majority(*columns(renamed, by_name), k).value_P[0] == pytest.approx(there, abs=1e-12)


def test_one_vote_is_the_accuracy_and_two_are_no_better():
    voted = [0, 0, 0, 1, 2, None]
    worth = (1.0, 0.0, 0.0, 0.0)
    one, two = (majority(*columns(voted, worth), k).value_P[0] for k in (1, 2))
    assert one == pytest.approx(3 / 6)
    assert two >= one  # equal, but that who is silent leaves the other to decide


@pytest.mark.parametrize("k", [3, 8, 40])
def test_what_is_too_much_to_count_is_drawn_with_its_error(k, monkeypatch):
    random = np.random.default_rng(1)
    problems, n = 200, 60
    problem_N = np.repeat(np.arange(problems), n)
    chances = random.beta(2, 2, problems)[problem_N]
    class_N = np.where(random.random(len(problem_N)) < chances, 0, random.integers(-1, 5, len(problem_N)))
    score_N = (class_N == 0).astype(float)
    exact = majority(problem_N, class_N, score_N, k)
    monkeypatch.setattr(at_k, "_MOST_WORK", 0)
    drawn = majority(problem_N, class_N, score_N, k)
    assert exact.error == 0 < drawn.error < 0.01
    assert drawn.value_P.mean() == pytest.approx(exact.value_P.mean(), abs=4 * drawn.error)
    assert np.array_equal(majority(problem_N, class_N, score_N, k).value_P, drawn.value_P)


def test_many_attempts_at_one_problem():
    ballot = (900, ((200, 0.0), (300, 1.0), (350, 0.0)))
    assert led_by_right(ballot, 1) == pytest.approx(1 / 3)
    random, draws = np.random.default_rng(0), 20_000
    drawn = random.multivariate_hypergeometric([300, 200, 350, 50], 21, size=draws)
    rivals = drawn[:, 1:3].max(axis=1)
    ties = 1 + (drawn[:, 1:3] == drawn[:, :1]).sum(axis=1)
    about = np.where(drawn[:, 0] >= rivals, 1 / ties, 0).mean()
    assert led_by_right(ballot, 21) == pytest.approx(about, abs=4 * 0.5 / math.sqrt(draws))
    assert led_by_right(ballot, 900) == 0


def attempt(problem, sample, status, answer):
    verdict = Verdict(status, float(status == "correct"), answer)
    return Attempt(Problem(problem, f"of {problem}", "0.5"), Trace("", f"The answer is {answer}."), verdict, sample)


def run(rows):
    """`rows`: problem → (status, answer) of its attempts."""
    return figures_of(
        attempt(problem, sample, status, answer)
        for problem, each in rows.items()
        for sample, (status, answer) in enumerate(each)
    )


def test_a_run_is_summed_up_by_classes_of_equivalent_answers():
    right, same, wrong = ("correct", "0.5"), ("correct", "1/2"), ("wrong", "7")
    figures = run(
        {"a": [right, same, wrong, wrong, ("wrong", "8")], "b": [wrong, wrong, right, ("truncated", "0.5"), same]}
    )
    class_N = answer_classes(figures)
    first, second = class_N[:5].tolist(), class_N[5:].tolist()
    assert first[0] == first[1] != first[2] == first[3] != first[4]
    assert second[0] == second[1] != second[2] == second[4]
    assert second[3] == -1
    found = {each.name: each for each in measures(figures, [1, 5], class_N=class_N)}
    assert found["maj@5"].value.mean == pytest.approx(1 / 2)  # two against two in both
    assert found["avg@5"].value.mean == found["pass@1"].value.mean == found["maj@1"].value.mean == pytest.approx(0.4)
    assert (found["pass@5"].value.mean, found["pass^5"].value.mean) == (1, 0)
    assert all(each.value.low < each.value.high for each in found.values())


def test_problems_with_too_few_attempts_are_left_out_and_counted():
    rows = {"a": [("correct", "0.5")] * 3, "b": [("correct", "0.5"), ("bad_gold", None), ("wrong", "1")]}
    (average, *_rest) = measures(run(rows), [3])
    assert (average.value.problems, average.left_out, average.value.mean) == (1, 1, 1)
    with pytest.raises(UserError, match=r"k=4 is more than the 3 attempts"):
        measures(run(rows), [4])
    with pytest.raises(UserError, match="at least 1"):
        measures(run(rows), [0])


def test_both_intervals_of_every_measure_agree():
    random = np.random.default_rng(3)
    rows = {}
    for index in range(400):
        p = random.beta(1, 1)
        drawn = random.random(8)
        rows[f"p{index:03}"] = [("correct", "0.5") if each < p else ("wrong", str(int(5 * each))) for each in drawn]
    figures = run(rows)
    for each in measures(figures, [1, 4], class_N=figures.answer_N):
        assert each.bootstrap == pytest.approx((each.value.low, each.value.high), abs=0.006), each.name


# (measure, problems, n, k, a, b): the chance of each problem is drawn from Beta(a, b).
WORLDS = [
    ("pass", 100, 8, 4, 2, 6),
    ("pass", 30, 32, 16, 1, 1),  # nearly all values are near 1
    ("pass", 300, 4, 4, 0.5, 0.5),
    ("all", 100, 8, 4, 1, 1),
    ("maj", 100, 8, 4, 2, 6),
    ("maj", 30, 16, 16, 1, 1),
    ("maj", 100, 4, 4, 2, 6),  # ties make half a point of a problem
]


@pytest.mark.parametrize(("measure", "problems", "n", "k", "a", "b"), WORLDS)
def test_a_95_percent_interval_holds_the_truth_95_times_in_100(measure, problems, n, k, a, b):
    random, sets, held = np.random.default_rng(9), 800, 0
    p = random.beta(a, b, 400_000)
    # With two answers, ties by lot: more than half of k are right, or half of them and the lot.
    half = sum(
        math.comb(k, right) * p**right * (1 - p) ** (k - right) * (0.5 if 2 * right == k else 1)
        for right in range(math.ceil(k / 2), k + 1)
    )
    true = {"pass": 1 - (1 - p) ** k, "all": p**k, "maj": half}[measure].mean()
    for _ in range(sets):
        solved = random.random((problems, n)) < random.beta(a, b, problems)[:, None]
        problem_N, right_N = np.repeat(np.arange(problems), n), solved.ravel()
        if measure == "maj":
            value_P = majority(problem_N, (~right_N).astype(int), right_N.astype(float), k).value_P
        else:
            value_P = (pass_P if measure == "pass" else all_P)(np.full(problems, n), solved.sum(axis=1), k)
        found = share(value_P, trials_in(value_P, np.full(problems, n)))
        held += found.low <= true <= found.high
    assert 0.93 - 0.008 <= held / sets <= 0.97 + 0.008  # 93 to 97 %, and a standard error of 800
