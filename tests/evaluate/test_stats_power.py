"""Power: what is said to be told in 80 % of the comparisons is told in 80 % of simulated ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.evaluate.statistics.power import chance_to_tell, detectable, needed, power_of, spread
from thinksmith.evaluate.statistics.significance import sign_flip_p


@pytest.mark.parametrize(("problems", "noise"), [(100, 0.3), (300, 0.1), (1000, 0.4)])
def test_yes_no_differences_that_can_be_told_are_told_in_80_percent(problems, noise):
    """A share `noise` of the problems changes by chance, half of it each way; the difference comes on top."""
    difference = 0.05
    for _ in range(30):  # the variance depends on the difference
        difference = detectable(problems, noise + difference - difference**2)
    random, told = np.random.default_rng(1), 0
    for _ in range(2000):
        draw = random.random(problems)
        won, lost = draw < noise / 2 + difference, draw > 1 - noise / 2
        told += sign_flip_p(won.astype(float) - lost) < 0.05
    assert told / 2000 == pytest.approx(0.8, abs=0.035)


@pytest.mark.parametrize(("problems", "spread"), [(30, 0.3), (150, 0.25)])
def test_mean_differences_that_can_be_told_are_told_in_80_percent_and_with_few_problems_in_some_more(problems, spread):
    difference = detectable(problems, spread**2)
    random = np.random.default_rng(2)
    told = sum(sign_flip_p(np.round(random.normal(difference, spread, problems), 2)) < 0.05 for _ in range(1000))
    assert 0.76 <= told / 1000 <= (0.84 if problems > 100 else 0.88)


@given(st.integers(5, 10_000), st.floats(0.001, 0.5), st.floats(0.5, 0.99))
def test_the_formulas_are_each_others_inverse(problems, variance, power):
    found = detectable(problems, variance, power)
    if found is not None:
        assert abs(needed(found, variance, power) - problems) <= 1
        assert needed(-found, variance, power) == needed(found, variance, power)
        assert chance_to_tell(problems, found, variance) == pytest.approx(power, abs=1e-6)
        more = detectable(4 * problems, variance, power)
        assert more is not None
        assert more < found


def test_connors_formula_for_mcnemar_by_hand():
    """Connor 1987: (z₁ √ψ + z₂ √(ψ - D²))² / D², with ψ the share of changed problems."""
    changed, difference = 0.3, 0.1
    by_hand = (1.959964 * math.sqrt(changed) + 0.841621 * math.sqrt(changed - difference**2)) ** 2 / difference**2
    assert needed(difference, changed - difference**2) == math.ceil(by_hand) == 234


def test_it_is_told_in_a_sentence():
    differences = np.array([1.0] * 20 + [-1.0] * 10 + [0.0] * 270)
    found = power_of(differences)
    assert str(found) == (
        f"with 300 problems a difference of {100 * found.detectable:.1f} points is told with 80 % chance; "
        f"this one would need {found.needed:,}"
    )
    assert found.needed > 300
    assert power_of(np.zeros(300)).needed is None
    assert 0 < power_of(np.zeros(300)).detectable < 0.05
    assert "too few" in str(power_of(np.array([1.0, 0.0])))
    assert spread(np.zeros(8)) == pytest.approx(0.1)


def test_no_number_of_problems_tells_nothing_from_nothing():
    with pytest.raises(ValueError, match="difference of 0"):
        needed(0, 0.1)
