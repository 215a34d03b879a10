"""Kind `choice`: one option by letter or by its whole text, and never two."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.records import Problem, Trace
from thinksmith.verify import check_gold, verify
from thinksmith.verify.choice import LETTERS

CITIES = ["Berlin", "Rome", "Paris", "New York"]


def status(text: str, gold: str = "C", options: object = None) -> str:
    meta = {} if options is None else {"options": options}
    return verify(Problem("p", "?", gold, "choice", meta), Trace("", text, "none")).status


@pytest.mark.parametrize(
    "text",
    [
        "C",
        "c",
        "(C)",
        "[C]",
        "C.",
        "C)",
        "**C**",
        "**(C)**",
        "Option C",
        "option C.",
        "The correct option is C",
        "C) Paris",
        "C. Paris",
        "C: Paris",
        "(C) Paris",
        "C - Paris",
        "C) Paris, since it lies on the Seine",
        r"\boxed{C}",
        r"\boxed{\text{C}}",
        r"\boxed{\textbf{(C)}\ Paris}",
        r"$\boxed{\mathrm{C}}$",
        "The answer is C.",
        "The answer is (C) because it lies on the Seine.",
        "The correct answer is option C.",
        "**Answer:** C",
        "Answer: C. Paris",
        r"\boxed{C} and again \boxed{(C)}",
        "C (Paris)",
        "Option C (Paris)",
        "C, not B",
        "C, not B or D",
        "The answer is C, not A.",
        "C rather than D",
        "C) Paris, not (A)",
        "C) Paris (C)",
        "C) Paris is right, B is wrong",
        "C. For A is not correct, B is false.",
        "<answer>C</answer>",
    ],
)
def test_the_letter_in_any_dress(text):
    assert status(text) == status(text, options=CITIES) == "correct"
    assert status(text, gold="B") == status(text, gold="B", options=CITIES) == "wrong"


@pytest.mark.parametrize("text", ["option C, Paris", "C, Paris", "C, Paris, not B", "The answer is C, **Paris**."])
def test_behind_a_comma_stands_the_options_own_text(text):
    assert status(text, options=CITIES) == "correct"
    for gold in "ABD":
        assert status(text, gold, CITIES) != "correct"
    for other in ("Rome", "a city in France", "for one, cannot be right"):
        assert status(rf"\boxed{{C, {other}}}", options=CITIES) == status(rf"\boxed{{C, {other}}}") == "wrong"


@pytest.mark.parametrize(
    "text", ["B) vitamin D", "B) F = ma", "B. Hepatitis C causes it", "B) 20 °C", "B) A river that I know", "B) is A+"]
)
def test_a_letter_in_an_explanation_is_no_option(text):
    assert status(text, "B") == "correct"


@pytest.mark.parametrize("text", ["Paris", "paris.", r"\boxed{\text{Paris}}", "The answer is **Paris**.", '"Paris"'])
def test_the_text_of_the_option(text):
    assert status(text, options=CITIES) == "correct"
    assert status(text, gold="D", options=CITIES) == "wrong"
    assert status(text) != "correct"  # without options nobody knows what it stands for


@pytest.mark.parametrize(
    "text",
    [
        "The answer is A or C.",
        "The answer is C or A.",
        "A or C",
        "A, C",
        "C/A",
        "C and D",
        "(A) (B) (C) (D)",
        r"\boxed{C} or \boxed{D}",
        r"\boxed{C, D}",
        r"\boxed{C) or D)}",
        r"\boxed{C) Paris or B) Rome}",
        r"\boxed{both C and D}",
        r"\boxed{either C or D}",
        r"\boxed{ABCD}",
        "B) is wrong, C is right",
        "B: no. It is C",
        "The answer is B: no, C is correct.",
        "B) hmm, rather it is C.",
        "B) Rome is nice, but C is better.",
        "B) is wrong",
        "B) is not correct.",
        r"\boxed{B (C)}",
        r"\boxed{B (or C)}",
        r"\boxed{B, not A, C}",
    ],
)
def test_two_options_are_wrong_whichever_they_are(text):
    for gold in "ABCD":
        assert status(text, gold=gold) == status(text, gold=gold, options=CITIES) == "wrong"


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{C) Rome}",
        r"\boxed{C) Paris or Rome}",
        r"\boxed{Paris or Rome}",
        r"\boxed{Paris, Texas}",
        r"\boxed{York}",
        r"\boxed{B (Paris)}",
        r"\boxed{B, Paris}",
        r"\boxed{option B, Paris}",
        r"\boxed{B, not Paris}",
    ],
)
def test_a_text_that_names_another_option_or_only_contains_one_is_wrong(text):
    for gold in "ABCD":
        assert status(text, gold=gold, options=CITIES) == "wrong"


@pytest.mark.parametrize(
    "text", ["", "I am not sure", "Let me think about what the capital of France could be", "E or so"]
)
def test_no_answer(text):
    assert status(text, options=CITIES) == "no_answer"


def test_letters_that_only_look_alike_are_none():
    assert status(r"\boxed{С}") == status(r"\boxed{Ｃ}") == status(r"\boxed{Ⅽ}") == "wrong"


def test_an_option_that_is_not_there_is_wrong():
    assert status("E", options=CITIES) == "wrong"
    assert status("J") == "wrong"


def test_long_options_may_be_said_whole():
    options = ["it rains because the air is cold and wet", "it rains because clouds are heavy in autumn nights"]
    assert status("It rains because the air is cold and wet.", "A", options) == "correct"
    assert status("A) It rains because the air is cold and wet.", "A", options) == "correct"
    assert status("It rains because clouds are heavy in autumn nights", "A", options) == "wrong"
    assert status("It rains because the air is cold", "A", options) == "no_answer"


def test_options_that_speak_of_letters():
    options = ["vitamin A", "vitamin C", "A and B", "none of them"]
    assert status("vitamin C", "B", options) == status("B) Vitamin C", "B", options) == "correct"
    assert status("A and B", "C", options) == status("C) A and B", "C", options) == "correct"
    assert status("A and B", "A", options) == "wrong"


def test_options_that_contain_each_other():
    options = ["vitamin", "vitamin C", "vitamin C and D", "B but not A"]
    assert status("B) Vitamin C, since it is sour", "B", options) == "correct"
    assert status("B) vitamin C or vitamin", "B", options) == "wrong"
    assert status("A) vitamin C", "A", options) == status("B) vitamin C and D", "B", options) == "wrong"
    assert status("B but not A", "D", options) == status("D) B but not A", "D", options) == "correct"
    assert status("B but not A", "B", options) == "wrong"


@pytest.mark.parametrize("gold", ["C", "(c)", "2", "Paris", "C) Paris", " paris "])
def test_gold_by_letter_number_or_text(gold):
    assert status("C", gold, CITIES) == "correct"
    assert status("B", gold, CITIES) == "wrong"


def test_options_by_letter():
    assert status("yellow", "B", {"A": "red", "B": "yellow"}) == "correct"
    assert status("B", "yellow", {"a": "red", "b": "yellow"}) == "correct"


@pytest.mark.parametrize(
    ("gold", "options", "why"),
    [
        ("2", ["3", "2", "1"], "as B or as C"),
        ("A", ["B", "A", "AB", "O"], "as A or as B"),
        ("same", ["same", "same"], "as A or as B"),
        ("E", CITIES, "none of the options"),
        ("4", CITIES, "none of the options"),
        ("London", CITIES, "none of the options"),
        ("A, C", CITIES, "none of the options"),
        ("2", None, "no letter"),
        ("", None, "no letter"),
        ("A", ["one"], "2 to 10 texts"),
        ("A", "AB", "2 to 10 texts"),
        ("A", ["x"] * 11, "2 to 10 texts"),
        ("A", ["x", None], "2 to 10 texts"),
        ("A", {"first": "x", "second": "y"}, "2 to 10 texts"),
    ],
)
def test_gold_that_cannot_be_used(gold, options, why):
    assert status("A", gold, options) == "bad_gold"
    assert why in check_gold(Problem("p", "?", gold, "choice", {} if options is None else {"options": options}))


@settings(deadline=None)
@given(
    st.lists(st.text(max_size=12), min_size=2, max_size=10),
    st.integers(0, 9),
    st.text(max_size=30),
    st.sampled_from(["{}", r"\boxed{{{}}}", "The answer is {}"]),
)
def test_at_most_one_option_is_right_whatever_the_answer_says(options, index, text, form):
    golds = [letter for letter in LETTERS[: len(options)] if status(form.format(text), letter, options) == "correct"]
    assert len(golds) <= 1
    letter = LETTERS[index % len(options)]
    assert status(f"\\boxed{{{letter}}}", letter, options) in ("correct", "bad_gold")
