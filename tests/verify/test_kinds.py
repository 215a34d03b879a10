"""What counts as the same answer, kind by kind; every pair is tried in both directions where the kind is symmetric."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.records import Problem, Trace
from thinksmith.verify import check_gold, verify
from thinksmith.verify.number import read_number


def status(kind: str, gold: str, answer: str, **meta) -> str:
    trace = Trace(thinking="", answer=f"\\boxed{{{answer}}}", thinking_status="none")
    return verify(Problem("p", "?", gold, kind, meta), trace).status


SAME_NUMBERS = [
    ("1234", "1,234"),
    ("1234", "$1,234"),
    ("1234", "1234.0"),
    ("1234", "1.234e3"),
    ("1234", r"1.234 \times 10^{3}"),
    ("1234", "1.234 × 10^3"),
    ("-5", "−5"),
    ("-5", "-$5"),
    ("-5", "$-5"),
    ("0.5", "1/2"),
    ("1/2", r"\frac{1}{2}"),
    ("1/2", r"\dfrac12"),
    ("-1/2", r"\frac{-1}{2}"),
    ("3/2", "1 1/2"),
    ("3/2", r"1\frac{1}{2}"),
    ("42", "42 apples"),
    ("7", "7 km"),
    ("7", r"7 \text{ cm}^2"),
    ("7", "7km"),
    ("7", "x = 7"),
    ("7", "f(2) = 7"),
    ("7", "3 + 4 = 7"),
    ("10", "10%"),
    ("10", r"10\%"),
    ("0.1", "10%"),
    ("10%", "10 percent"),
    ("90", r"90^\circ"),
    ("3000000", "3 million dollars"),
    ("10080", r"10,\!080"),
    ("11111111100", r"11,\! 111,\! 111,\! 100"),
    ("10000", "10{,}000"),
    ("113", r"\textbf{(113) }"),
    ("025", "25"),
    (".5", "0.50"),
    ("2.5", "$2.50 per pound"),
    ("4", "4th"),
    ("0", "-0"),
    ("5", r"5\,"),
    ("5", r"\;5\;"),
    ("5", "5\\ "),
    ("2\\,", "2"),
    ("1234567", r"1\,234\,567"),
    ("500000", "5 hundred thousand"),
    ("5", "5 dozens"),
    ("1000000", "10^6"),
    *(("12", f"{money}12") for money in ("₹", "¥", "Rs. ", "US$")),
    *(("5", dressed) for dressed in (r"\bf 5", r"\color{blue}{5}", r"\underline{5}")),
    ("5", "5 sq cm"),
    ("5", "$5/hour"),
    ("5", r"\text{Total cost} = 5"),
    ("5", "sum of roots = 5"),
    ("5", "AB = 5"),
    ("5", r"\overline{AB} = 5"),
    ("5", "[ABC] = 5"),
    ("5", "|z| = 5"),
    ("5", r"\theta = 5"),
    ("4", r"\gcd(12, 8) = 4"),
    ("0.6", r"\cos A = \frac35"),
    ("60", r"m\angle ABC = 60^\circ"),
]

OTHER_NUMBERS = [
    ("918", "917"),
    ("7", "-7"),
    ("7", "7x"),
    ("7", "7ab"),
    ("7", "7 or 8"),
    ("7", "7 and a half"),
    ("7", "about 7"),
    ("7", "7 million"),
    ("7", "3 + 4"),
    ("7", "3 + 3 = 7"),
    ("7", r"7\pi"),
    ("7", r"7\sqrt{2}"),
    ("7", "7i"),
    ("7", "7:30"),
    ("7", "7 km 300 m"),
    ("7", "not 7"),
    ("10%", "0.1%"),
    ("10%", "0.001"),
    ("0.3333", "1/3"),
    ("1234", "1,2,3,4"),
    ("1234", "12,34"),
    ("1", "(1, 2)"),
    ("3", "３"),
    ("1", "1/0"),
    ("7", "7 remainder 2"),
    ("10", "10^2"),
    ("7", "7 7"),
    ("7", "seven 7"),
    ("500", "5 hundred thousand"),
    ("0.3", "0.3..."),
    ("0.3", "0.3 repeating"),
    ("52", r"52\text{ in base eight}"),
    ("52", "52 in octal"),
    *(("5", f"5 {words}") for words in ("eighths", "quarters", "dozen", "factorial", "negative", "below zero")),
    *(("5", f"5{words}") for words in (" point five", " base eight", "/six", "*six", " - six", " - m", " sin t")),
    *(
        ("5", f"{left} = 5")
        for left in ("not x", "minus x", "sqrt x", "log x", r"\log", "wrong", "xy", "abcd", "a times b")
    ),
]


@pytest.mark.parametrize(("gold", "answer"), SAME_NUMBERS)
def test_the_same_number(gold, answer):
    for kind in ("number", "math"):
        assert status(kind, gold, answer) == "correct"
        assert status(kind, answer, gold) == "correct"


@pytest.mark.parametrize(("gold", "answer"), OTHER_NUMBERS)
def test_another_number_or_none(gold, answer):
    for kind in ("number", "math"):
        assert status(kind, gold, answer) == "wrong"


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_numbers_are_compared_exactly(a, b):
    assert status("number", str(a), str(b)) == ("correct" if a == b else "wrong")


@given(st.integers(-(10**30), 10**30))
def test_a_neighbour_is_never_right_however_large(n):
    assert status("number", f"{n:,}", str(n)) == "correct"
    assert status("number", str(n), str(n + 1)) == "wrong"


def test_tolerance_is_absolute_exact_and_off_by_default():
    assert status("number", "3.14", "3.15") == "wrong"
    assert status("number", "3.14", "3.15", tolerance="0.01") == "correct"
    assert status("number", "3.14", "3.1500001", tolerance=0.01) == "wrong"
    assert status("number", "3.14", "3.14", tolerance="a bit") == "bad_gold"
    assert status("number", "3.14", "3.14", tolerance=-1) == "bad_gold"


def test_percent_is_kept_apart_from_the_value():
    assert read_number("12.5%").value == Fraction(25, 2)
    assert read_number("12.5%").percent


@pytest.mark.parametrize(
    "answer",
    [
        "73 remainder 6",
        "73 r 6",
        "73 R6",
        "73 rem. 6",
        "73, remainder 6",
        "quotient 73 and remainder 6",
        "73 with a remainder of 6",
        "73 remainder = 6",
        r"73 \text{ remainder } 6",
        "73R6",
        "Quotient: 73, Remainder: 6",
    ],
)
def test_remainders_read(answer):
    assert status("remainder", "73 remainder 6", answer) == "correct"


@pytest.mark.parametrize(
    "answer",
    [
        "73",
        "6 remainder 73",
        "73 remainder 7",
        "74 remainder 6",
        "73.857",
        "517/7",
        "73 6",
        "-73 remainder 6",
        "73 remainder 6 remainder 6",
    ],
)
def test_remainders_refused(answer):
    assert status("remainder", "73 remainder 6", answer) == "wrong"


def test_no_remainder_may_be_left_out():
    assert status("remainder", "73 remainder 0", "73") == "correct"


NUMBERS = {"numbers": [3, 5, 9], "target": 24}


@pytest.mark.parametrize(
    "answer",
    [
        "3 * 5 + 9",
        "9 + 5 * 3",
        "9+3×5",
        r"9 + 3 \cdot 5",
        "3 * 5 + 9 = 24",
        "24 = 3 * 5 + 9",
        "(3 * 5) + 9",
        "9 - -3 * 5",
    ],
)
def test_countdown_right(answer):
    assert status("countdown", "3 * 5 + 9", answer, **NUMBERS) == "correct"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("3 * 9 - 3", "each"),
        ("24", "each"),
        ("3 + 5 + 9", "makes 17"),
        ("3 * 5 + 9 = 25", "says 25"),
        ("3 * 5 + 9 + 0", "each"),
        ("(3 * 5 + 9", "expression"),
        ("3 * 5 + 9 = 24 = 24", "equals"),
        ("__import__('os')", "expression"),
        ("3^5^9", "expression"),
        ("35 - 9", "makes 26"),
        ("3 * 5 + 9 * 1", "each"),
        ("", "expression"),
    ],
)
def test_countdown_wrong_and_why(answer, why):
    trace = Trace(thinking="", answer=f"The answer is {answer}\n", thinking_status="none")
    verdict = verify(Problem("p", "?", "3 * 5 + 9", "countdown", NUMBERS), trace)
    if answer:
        assert verdict.status == "wrong"
        assert why in verdict.reason
    else:
        assert verdict.status == "no_answer"


def test_countdown_fractions_only_when_the_problem_allows_them():
    meta = {"numbers": [3, 3, 8, 8], "target": 24}
    assert status("countdown", "8 / (3 - 8 / 3)", "8 / (3 - 8 / 3)", fractions=True, **meta) == "correct"
    assert status("countdown", "8 / (3 - 8 / 3)", "8 / (3 - 8 / 3)", **meta) == "bad_gold"


def test_countdown_needs_no_gold_answer():
    meta = {"numbers": [8, 3], "target": 24}
    assert status("countdown", None, "8 * 3", **meta) == "correct"
    assert status("countdown", None, "8 + 3", **meta) == "wrong"
    assert status("countdown", None, "8 * 3", numbers=[8, 3]) == "bad_gold"
    assert check_gold(Problem("p", "?", None, "countdown", meta), thorough=True) is None
    assert check_gold(Problem("p", "?", "3 * 8 * 1", "countdown", meta)) == (
        "gold answer '3 * 8 * 1' is no solution: it must use each of 8, 3 once, and uses 3, 8, 1"
    )
    assert "no expression" in check_gold(Problem("p", "?", "", "countdown", meta))
    assert "not a list" in check_gold(Problem("p", "?", None, "countdown", {"target": 24}))


def test_countdown_counts_repeated_numbers():
    meta = {"numbers": [2, 2, 6], "target": 24}
    assert status("countdown", "2 * 2 * 6", "6 * 2 * 2", **meta) == "correct"
    assert status("countdown", "2 * 2 * 6", "6 * 2 + 6 * 2", **meta) == "wrong"


SAME_MATHS = [
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\dfrac{\pi}{2})"),
    (r"\text{Evelyn}", "evelyn"),
    (r"11\sqrt2", r"11 \sqrt{2}"),
    (r"\frac43", r"\tfrac{4}{3}"),
    ("1,-2", "-2, 1"),
    ("1,-2", r"1 \text{ and } -2"),
    ("3, 5, 7", r"\{7, 5, 3\}"),
    ("x=5", "5"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"\text{(C)}", "C"),
    ("52_8", "52_{8}"),
    (r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}"),
    (r"(0,9) \cup (9,36)", r"(9,36)\cup(0,9)"),
    (r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}", r"\begin{pmatrix}-\frac13\\\frac23\end{pmatrix}"),
    (r"(0.5, 3)", r"\left(\frac{1}{2},3\right)"),
    ("6 - 5i", "6-5i"),
    (r"288 \pi", r"288\pi"),
    (r"3\cdot x", "3x"),
    (r"x \le 3", r"x\leq3"),
    (r"(-\infty, 2]", "(−∞, 2]"),
    (r"\$32,\!348", "32348"),
    ("y = 2x + 3", "2x+3"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^\circ"),
    (r"864 \mbox{ inches}^2", "864"),
    ("x^2+1", "x^{2} + 1"),
    ("2, 3", "x = 2 or x = 3"),
]
OTHER_MATHS = [
    ("(1,2)", "[1,2]"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "1,2"),
    ("1,-2", "1"),
    ("1", "1,-2"),
    ("1,2", "1,2,2"),
    (r"2\sqrt{2}", r"2\sqrt{3}"),
    ("52_8", "52"),
    ("x", "X"),
    (r"1 \pm \sqrt{19}", r"1 + \sqrt{19}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
    (r"\text{(C)}", "(D)"),
    ("2k", "2"),
    ("3R^2", "3R"),
    (r"7\pi", "7"),
    ("1,2", r"1,2,\ldots"),
    (r"\{1,2\}", r"\{1,3\}"),
    (r"(2,\infty)", r"[2,\infty)"),
    ("east", "west"),
    (r"\frac{11+9a}{20}", r"\frac{9a}{20}"),
    ("x+1", "x-1"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME_MATHS)
def test_the_same_maths(gold, answer):
    assert status("math", gold, answer) == "correct"
    assert status("math", answer, gold) == "correct"


@pytest.mark.parametrize(("gold", "answer"), OTHER_MATHS)
def test_other_maths(gold, answer):
    assert status("math", gold, answer) == "wrong"
    assert status("math", answer, gold) == "wrong"


def test_exact():
    assert status("exact", "Monday", "**monday**.") == "correct"
    assert status("exact", "New York", "new   york") == "correct"
    assert status("exact", "Monday", "Tuesday") == "wrong"
    assert status("exact", " ", "x") == "bad_gold"


def test_two_boxes_pay_only_if_both_are_right():
    def boxes(gold: str, answer: str) -> str:
        return verify(Problem("p", "?", gold, "math"), Trace("", answer, "none")).status

    assert boxes("4", r"\boxed{3} or \boxed{4}") == "wrong"
    assert boxes("3, 4", r"\boxed{3} and \boxed{4}") == "correct"
    assert boxes(r"\frac{639}{40}", r"\boxed{15\frac{39}{40}} or \boxed{\frac{639}{40}}") == "correct"
