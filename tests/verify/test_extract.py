"""What is taken as the final answer, and that extraction is linear on hostile texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.verify.extract import extract


@pytest.mark.parametrize(
    ("text", "taken", "rule"),
    [
        (r"So \boxed{42}.", "42", "boxed"),
        (r"\boxed{\frac{1}{2}} and so on", r"\frac{1}{2}", "boxed"),
        (r"\boxed{1}. Wait, \boxed{2}.", "2", "boxed"),
        (r"\boxed{3} or \boxed{4}", "3, 4", "boxed"),
        (r"$\boxed{1}$, $\boxed{-2}$ and \(\boxed{5}\)", "1, -2, 5", "boxed"),
        (r"\boxed{7} and again \boxed{7}", "7", "boxed"),
        (r"What goes in \boxed{}? The answer is \boxed{4}; the empty one was \boxed{ }.", "4", "boxed"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        (r"\boxed{\left\{x\right.}", r"\left\{x\right.", "boxed"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}", "boxed"),
        (r"\fbox{A}", "A", "boxed"),
        (r"\boxed 5", "5", "boxed"),
        (r"a } stray brace and { another, \boxed{9}", "9", "boxed"),
        (r"The answer is 3, no: \boxed{4}", "4", "boxed"),
        ("He has 3 left.\n#### 1,080", "1,080", "####"),
        ("#### Step 1\nwe add\nThe answer is 8.", "8", "phrase"),
        ("The answer is 42.", "42", "phrase"),
        ("The answer is 3.5.", "3.5", "phrase"),
        ("So the final answer is: $42$ because of this", "42", "phrase"),
        ("**Answer:** 42 apples\n\nGood luck!", "42 apples", "phrase"),
        ("Answer:\n\n7", "7", "phrase"),
        ("The answer is **42**.", "42", "phrase"),
        ("**Answer: 42**", "42", "phrase"),
        ("The answer is **$\\frac{1}{2}$**, as we saw", "\\frac{1}{2}", "phrase"),
        ("The answer is 1. No, the answer is 2.", "2", "phrase"),
        ("The answer is (3 + 5) * 9.", "(3 + 5) * 9", "phrase"),
        ("918", "918", "bare"),
        ("x = 7.", "x = 7", "bare"),
        (" **73 remainder 6** ", "73 remainder 6", "bare"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}", "bare"),
    ],
)
def test_rules(text, taken, rule):
    extracted = extract(text)
    assert extracted is not None
    assert (extracted.text, extracted.rule) == (taken, rule)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "I think that it must be about 42 or so",
        "3 apples and 4 pears make 7 fruits in all, as we saw",
        r"\boxed{1} then \boxed{2",
        r"\boxed{}",
        "line one\nline two",
        "unanswered: 5 is not it, surely not, never",
    ],
)
def test_no_answer(text):
    assert extract(text) is None


def test_the_last_number_is_taken_only_when_asked_for():
    text = "First there were 3 of them, and then in the end there were 1,234 of them left."
    assert extract(text) is None
    assert extract(text, last_number=True).text == "1,234"


@given(st.text(alphabet="ab{}\\boxed 1$,", max_size=80), st.integers(0, 999))
def test_a_closed_box_at_the_end_wins_whatever_balanced_text_came_before(before, number):
    before = re.sub(r"[{}\\]", "", before)
    assert extract(f"{before}. \\boxed{{{number}}}").text == str(number)


UNITS = [
    "\\boxed{",
    "\\boxed",
    "\\boxed{1} or ",
    "{",
    "}",
    "answer is ",
    "Answer: ",
    "answer",
    "####",
    "#### 1\n",
    "$",
    "**",
    "\\",
    "1,234,",
    "\x00",
    "and ",
    "(",
    "Ａ１ ",
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_hundred_thousand_repetitions_are_read_once(unit):
    # 100,000 units: any quadratic step would take minutes, and the suite's time would show it.
    extract(unit * 100_000, last_number=True)
