"""Are two answers the same? By the verifier's own rules, whatever the gold answer is, and never by looking at it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.records import Problem, Trace
from thinksmith.verify.same import classes, final, same
from thinksmith.verify.verdict import VERIFIERS, verify

NUMBER = Problem("n", "How many?", "12", "number")
MATH = Problem("m", "What is it?", r"\frac{1}{2}", "math")
COUNTDOWN = Problem("c", "Make 24 of 3, 8, 1", None, "countdown", {"numbers": [3, 8, 1], "target": 24})
CHOICE = Problem("b", "Which?", "B", "choice", {"options": ["red", "green", "blue"]})
EXACT = Problem("e", "What day?", "Monday", "exact")
JSON = Problem("j", "Write it", '{"a": 1}', "json")
REMAINDER = Problem("r", "17 divided by 5", "3 remainder 2", "remainder")
JUDGED = Problem("g", "Write a poem", None, "judge")
ALL = (NUMBER, MATH, COUNTDOWN, CHOICE, EXACT, JSON, REMAINDER, JUDGED)


@pytest.mark.parametrize(
    ("problem", "a", "b"),
    [
        (NUMBER, "1/2", "0.5"),
        (NUMBER, "1,234", "1234.0"),
        (NUMBER, "7 km", "7"),
        (MATH, r"\frac{1}{2}", "0.5"),
        (MATH, "x^2 + 2x + 1", "(x+1)^2"),
        (MATH, "7!", "5040"),  # right for the gold answer 7!, not the other way round
        (MATH, "10{,}000", "10000"),
        (COUNTDOWN, "3 * 8 * 1", "8*3/1"),
        (COUNTDOWN, "3 * 8 * 1 = 24", "(8 * 3) * 1"),
        (COUNTDOWN, "24 = 3*8*1", "3*8*1"),
        (CHOICE, "B", "(B)"),
        (CHOICE, "B", "green"),
        (EXACT, "Monday", "**monday**."),
        (JSON, '{"a": 1, "b": [2]}', '{"b":[2],\n"a":1}'),
        (REMAINDER, "3 remainder 2", "3 R 2"),
        (JUDGED, "one  two", "one two"),
    ],
)
def test_same(problem, a, b):
    assert same(problem, a, b)
    assert same(problem, b, a)


@pytest.mark.parametrize(
    ("problem", "a", "b"),
    [
        (NUMBER, "1/2", "0.51"),
        (NUMBER, "twelve apples or so", "12"),
        (MATH, "x^2", "x^3"),
        (MATH, r"\{1, 2\}", r"\{1\}"),
        (COUNTDOWN, "3 * 8 * 1", "3 + 8 + 1"),
        (COUNTDOWN, "3 * 8 * 1", "20 + 4"),  # it reaches 24, with numbers that were not given
        (COUNTDOWN, "3 * 8 * 1", "24"),
        (COUNTDOWN, "3 * 8 * 1 = 25", "25"),
        (COUNTDOWN, "", "3"),
        (CHOICE, "A", "B"),
        (EXACT, "Monday", "Tuesday"),
        (JSON, '{"a": 1}', '{"a": 2}'),
        (REMAINDER, "3 remainder 2", "3 remainder 1"),
        (JUDGED, "one two", "two one"),
    ],
)
def test_not_the_same(problem, a, b):
    assert not same(problem, a, b)
    assert not same(problem, b, a)


ANSWERS = st.one_of(
    st.sampled_from(
        ["1/2", "0.5", "50%", "0.50", "3*8", "24", "B", "green", "7", "7 km", "x = 7", "", "{", "null", "[1]"]
    ),
    st.text(alphabet="0123456789+-*/=()[]{}\\, .xab%^", max_size=12),
    st.text(max_size=6),
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([each for each in ALL if each.kind not in ("math", "json")]), ANSWERS, ANSWERS)
def test_it_is_reflexive_and_symmetric_and_never_raises(problem, a, b):
    assert same(problem, a, a)
    assert same(problem, a, b) == same(problem, b, a)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(ALL), ANSWERS, ANSWERS, st.sampled_from([None, "12", "B", r"\frac", "{}", "3*8*1"]))
def test_the_gold_answer_is_never_looked_at(problem, a, b, gold):
    other = replace(problem, answer=gold)
    assert same(problem, a, b) == same(other, a, b)
    trace = Trace("", f"The answer is {a}.")
    assert final(problem, trace) == final(other, trace)


def test_a_gold_answer_does_not_lend_its_length_to_what_is_taken():
    """The verifier takes a bare text as long as the gold answer; who votes does not know how long that is."""
    said = "on the first Monday of every month"
    known = replace(EXACT, answer=said)
    assert verify(known, Trace("", said)).correct
    assert final(known, Trace("", said)) == final(EXACT, Trace("", said)) is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.fractions(min_value=-9, max_value=9, max_denominator=4), max_size=8), st.randoms())
def test_classes_are_those_of_equal_values(values, rng):
    """Against a reference: numbers written in several ways fall into the classes of their values."""

    def written(value):
        if value.denominator in (1, 2, 4) and rng.random() < 0.5:
            return f"{float(value):.2f}"
        return f"{value.numerator}/{value.denominator}"

    found = classes(NUMBER, [written(value) for value in values])
    firsts = list(dict.fromkeys(values))
    assert found == [firsts.index(value) for value in values]


def test_no_answer_has_no_class():
    assert classes(NUMBER, [None, "3", None, "4", "3.0"]) == [None, 0, None, 1, 0]
    assert classes(NUMBER, []) == []


@pytest.mark.parametrize(
    "trace",
    [
        Trace("hm", r"\boxed{3}", finish="length"),
        Trace("hm", r"\boxed{3}", "truncated"),
        Trace("", "", "none", finish="error", error="broken"),
        Trace("hm", ""),
        Trace("hm", "I cannot tell which of these it might well be in the end."),
    ],
)
def test_what_names_no_answer_has_none(trace):
    assert final(NUMBER, trace) is None
    assert not verify(NUMBER, trace).correct


@pytest.mark.parametrize("problem", ALL[:-1], ids=lambda problem: problem.kind)
def test_every_kind_that_can_be_verified_has_its_answers_taken(problem):
    assert final(problem, Trace("", r"So the answer is \boxed{7}")) in ("7", r"So the answer is \boxed{7}")
    assert problem.kind in VERIFIERS


def test_answers_too_long_to_be_compared_are_texts():
    long = "1" * 100_000
    assert same(NUMBER, long, long)
    assert not same(NUMBER, long, long + "0")
    assert not same(COUNTDOWN, "1+" * 50_000 + "1", "1+" * 50_000 + "2")
