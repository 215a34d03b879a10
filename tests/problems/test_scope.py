"""What is told to lie outside of the families: nothing of theirs, and what plainly does."""

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.problems.families import FAMILIES, stream
from thinksmith.problems.scope import outside


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_no_problem_of_a_family_is_outside(name, split):
    for problem in islice(stream(name, {}, split=split, seed=99), 300):
        assert outside(problem.text) is None, problem.text


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("What is the capital of France?", "no number"),
        ("", "no number"),
        ("What is 123456 * 3?", "digits"),
        ("What is 2.5 + 1?", "decimals"),
        ("Who won the football championship of 98 in Paris?", "words"),
        ("Integrate sin x from 0 to 3", "words"),
        ("Wie viele Äpfel hat Mia, wenn sie 3 verliert?", "words"),
    ],
)
def test_what_plainly_is_outside_is_told_with_a_reason(question, reason):
    assert reason in (outside(question) or "")


def test_an_ordinary_question_of_ones_own_is_inside():
    for question in ("27*34", "What's 27 times 34?", "gcd(12, 18)", "Please compute 4 + 5.", "Solve 3x + 4 = 10."):
        assert outside(question) is None, question


@settings(max_examples=50)
@given(st.text())
def test_any_text_at_all_gets_a_short_answer(text):
    reason = outside(text)
    assert reason is None or "\n" not in reason
