"""Equations: found where they are claims, left alone where they are not, and judged by arithmetic done apart."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.audit import find_equations

TRUE = [
    ("12 + 7 = 19", 1),
    ("517 = 7 * 73 + 6.", 1),
    ("So 3 * 7 + 5 = 21 + 5 = 26, done.", 2),
    ("12 × 7 = 84; 84 ÷ 12 = 7 and 7 − 12 = −5", 3),
    ("1,234 + 1 = 1,235", 1),
    ("$5 * 3 = $15 and \\$2 + \\$3 = \\$5.", 2),
    ("\\[ \\frac{3925}{5} = 785 \\text{ feet} \\]", 1),
    ("\\(5 \\times 733 = 3665\\)", 1),
    ("\\begin{align*} x &= 3 \\cdot 4 + 1 \\\\ &= 12 + 1 \\\\ &= 13 \\end{align*}", 2),
    ("x = 3 + 4 = 7", 1),
    ("2 * (3 + 4) = 14 (as before)", 1),
    ("(12 + 7 = 19)", 1),
    ("1. 3 + 4 = 7\n2) 4 + 4 = 8\n- 5 + 5 = 10\n* 6 + 6 = 12", 4),
    ("**3 + 4 = 7** and *4 + 4 = 8*", 2),
    ("49{,}994 + 20{,}006 = 70{,}000", 1),
    ("5² + 12² = 169, 2^10 = 1024, 2**3 = 8", 3),
    ("27 * 3: 7 * 3 = 21, 2 * 3 + 2 = 8, so 81", 2),
    ("Check: 8 * (-3) - 2 = -24 - 2 = -26.", 2),
    ("5 - 8 = -3", 1),
    ("-3 + 5 = 2", 1),
    ("3 x 4 = 12", 1),
    ("the cost is 19.5 / 2 = 9.75 dollars", 1),
    ("12 + 7\n= 19", 1),
]

NOT_CLAIMED = [
    "x = 7",
    "3x = 21",
    "x + 3 * 4 = 13",
    "3 + 4 = 8x",
    "2x + 3 = 8",
    "f(3) + 4 = 8",
    "a == 3 + 4",
    "3 + 4 ≠ 8",
    "3 + 4 != 8",
    "10 / 3 ≈ 3.3",
    "10 / 3 \\approx 3.3",
    "y += 3 + 4",
    "y_1 + 3 = 4",
    "half of 6 + 4 = 5",
    "the sum of 3 + 4 + 5 = 60",
    "twice 3 + 4 = 14",
    "20% of 50 + 5 = 15",
    "\\sqrt{9} + 1 = 4",
    "√16 + 1 = 5",
    "|3 - 5| + 1 = 3",
    "4! + 1 = 25",
    "3 + 4! = 27",
    "1 + 2 + ... + 10 = 55",
    "1 + 2 + \\cdots + 10 = 55",
    "2 \\pi + 1 = 7",
    "3 + 4 = 7 \\pi",
    "90^\\circ + 45^\\circ = 135^\\circ",
    "2:30 + 2 = 4:30",
    "2024-01-15 = today",
    "pages 3-5 = the text",
    "sin 30 + 1 = 2",
    "\\log 8 + 1 = 4",
    "C(5, 2) + 1 = 11",
    "(3, 4) + (1, 2) = (4, 6)",
    "Week 1 + Week 2 = 35 + 35",
    "weeks 1-2 = 96 - 70",
    "17 / 5 = 3 remainder 2",
    "17 / 5 = 3 R 2",
    "8 + 7 = 5 carry 1",
    "17 / 3 = 5 and 2/3",
    "6/2(1+2) = 9",
    "1 1/2 + 1 = 2 1/2",
    "1/3 = 0.333...",
    "279/99999 = 0.\\overline{00279}",
    "0900-0130 = 0730",
]

DIFFERENT_BUT_NOT_MEANT = [
    "Is 3 + 4 = 8?",
    "\\(3 + 4 = 8\\)?",
    "3 + 4 = 8, which is wrong",
    "3 + 4 = 8 is not true",
    "If 3 + 4 = 8 then pigs fly",
    "modulo 5, 3 + 4 = 2",
    "3 + 4 = 2 (mod 5)",
    "3 + 4 = 2 \\pmod{5}",
    "In base 5, 3 + 4 = 12",
    "10 / 3 = 3.33",
    "2 / 3 = 0.66 and 2 / 3 = 0.67",
    "13 / 6 = 2 full cycles",
    "1 / 2 = 50 cents",
    "2000 / 2/3 = 3000",
    "14, 400 / 80 = 180",
]

FALSE = [
    ("12 + 7 = 20", 0),
    ("8 * 9 = 71, not 24. No.", 0),
    ("8 * 9 = 71. Wait, that is wrong.", 0),
    ("3 * 7 + 5 = 21 + 5 = 27", 1),
    ("x = 3 + 4 = 8", 0),
    ("So 7 / 2 = 3.6 exactly", 0),
    ("17 / 5 = 3", 0),
    ("1,234 + 1 = 1,236", 0),
    ("\\[ \\frac{3925}{5} = 786 \\text{ feet} \\]", 0),
    ("The total is 3 * 60 = 190 minutes", 0),
    ("517 = 7 * 73 + 5", 0),
    ("is -3 + 5 = 3", 0),
    ("10 / 3 = 3.43", 0),
]


@pytest.mark.parametrize(("text", "count"), TRUE)
def test_true_equations_are_found_and_true(text, count):
    found = find_equations(text)
    assert [equation.true for equation in found] == [True] * count
    for equation in found:
        assert equation.text == text[equation.start : equation.end]


@pytest.mark.parametrize("text", [*NOT_CLAIMED, *DIFFERENT_BUT_NOT_MEANT])
def test_what_is_no_claim_is_left_alone(text):
    assert find_equations(text) == []
    assert find_equations(f"So we see: {text}.\nAnd so on.") == []


@pytest.mark.parametrize(("text", "which"), FALSE)
def test_false_equations_are_found(text, which):
    found = find_equations(text)
    assert [equation.true for equation in found].index(False) == which
    assert sum(not equation.true for equation in found) == 1


SURROUNDINGS = [
    "{}",
    "So {}.",
    "Now, {}, and then",
    "Check: {}",
    "\n- {}\n",
    "1. {}\n",
    "\\({}\\)",
    "${}$",
    "\\[\n{}\n\\]",
    "We get {} apples",
    "({})",
    "**{}**",
    "x = 3, so {}",
]
OPERATORS = {"+": ["+"], "-": ["-", "−"], "*": ["*", "×", "\\times", "\\cdot"], "/": ["/", "÷", "\\div"]}
numbers = st.integers(1, 9999)


@given(numbers, st.sampled_from("+-*"), numbers, st.integers(-50, 50), st.sampled_from(SURROUNDINGS), st.data())
@settings(max_examples=400, deadline=None)
def test_one_written_equation_is_found_in_any_surroundings_and_judged_rightly(a, operator, b, off, around, data):
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    sign = data.draw(st.sampled_from(OPERATORS[operator]))
    write = data.draw(st.sampled_from([str, "{:,}".format]))
    left, right = f"{write(a)} {sign} {write(b)}", write(value + off)
    if data.draw(st.booleans()) and value + off >= 0 and around != "We get {} apples":
        left, right = right, left
    text = around.format(f"{left} = {right}")
    found = find_equations(text)
    assert [equation.true for equation in found] == [off == 0]
    assert {found[0].left, found[0].right} == {Fraction(value), Fraction(value + off)}


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20))
def test_equations_of_two_texts_do_not_disturb_each_other(pairs):
    parts = [f"{a} + {b} = {a + b}.\n" for a, b in pairs]
    found = find_equations("".join(parts))
    assert [equation.text + ".\n" for equation in found] == parts


@given(st.text(alphabet="0123456789+-*/=()., \n$\\fracxis&^{}?", max_size=120))
@settings(max_examples=400, deadline=None)
def test_any_text_gives_equations_that_lie_in_it_in_order(text):
    found = find_equations(text)
    assert all(equation.text == text[equation.start : equation.end] and "=" in equation.text for equation in found)
    assert [equation.start for equation in found] == sorted(equation.start for equation in found)
    assert all(equation.true == (equation.left == equation.right) for equation in found)
