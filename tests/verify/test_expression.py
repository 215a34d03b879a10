"""The exact reader against Python's own arithmetic on generated expressions, and against hostile texts."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.verify.expression import MAX_BITS, ExpressionError, evaluate, parse

# A tree is a whole number, or (operator, left, right); it is written with every bracket and computed by Fraction alone.
leaves = st.integers(0, 999)
trees = st.recursive(leaves, lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner), max_leaves=12)
SIGNS = {"+": ["+"], "-": ["-", "−", "–"], "*": ["*", "×", "·", r"\times ", r" \cdot "], "/": ["/", "÷", r"\div "]}


def value_of(tree) -> Fraction:
    if isinstance(tree, int):
        return Fraction(tree)
    operator, left, right = tree[0], value_of(tree[1]), value_of(tree[2])
    return {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[operator](right)


def written(tree, data) -> str:
    if isinstance(tree, int):
        return data.draw(st.sampled_from([f"{tree}", f"{tree:,}", f"{tree}.0", f" {tree} "]))
    left, right = written(tree[1], data), written(tree[2], data)
    if tree[0] == "/" and data.draw(st.booleans()):
        return rf"\frac{{{left}}}{{{right}}}"
    opening, closing = data.draw(st.sampled_from(["()", "[]", (r"\left(", r"\right)")]))
    return f"{opening}{left}{data.draw(st.sampled_from(SIGNS[tree[0]]))}{right}{closing}"


@given(trees, st.data())
@settings(max_examples=300, deadline=None)
def test_equals_exact_arithmetic_on_any_tree(tree, data):
    text = written(tree, data)
    try:
        expected = value_of(tree)
    except ZeroDivisionError:
        with pytest.raises(ExpressionError, match="zero"):
            evaluate(text)
        return
    assert evaluate(text) == expected


@given(st.lists(st.tuples(st.sampled_from("+-*/"), st.integers(1, 50)), min_size=1, max_size=8), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_precedence_is_pythons_without_brackets(steps, first):
    text = f"{first}" + "".join(f" {operator} {number}" for operator, number in steps)
    exact = _by_hand(first, steps)
    read = parse(text)
    assert read.value == exact
    assert read.numbers == (first, *(number for _, number in steps))
    assert read.operators == tuple(operator for operator, _ in steps)


def _by_hand(first: int, steps: list[tuple[str, int]]) -> Fraction:
    """Sums of products: an independent two-pass reading."""
    terms = [Fraction(first)]
    for operator, number in steps:
        if operator in "+-":
            terms.append(Fraction(number if operator == "+" else -number))
        else:
            terms[-1] = terms[-1] * number if operator == "*" else terms[-1] / number
    return sum(terms, Fraction(0))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("2^3^2", 512),
        ("2^-1", Fraction(1, 2)),
        ("2**10", 1024),
        ("5² + 12²", 169),
        ("10⁻²", Fraction(1, 100)),
        ("1,234.5", Fraction(2469, 2)),
        ("10{,}000", 10000),
        (r"10,\!080", 10080),
        ("$5 × 3", 15),
        (r"\$5 + \$2", 7),
        (".5", Fraction(1, 2)),
        ("1.5e3", 1500),
        ("3 x 4", 12),
        ("2(3 + 4)", 14),
        ("(2)(3)", 6),
        (r"\frac12", Fraction(1, 2)),
        (r"\dfrac{7+21}{14+42}", Fraction(1, 2)),
        ("3 - -4", 7),
        ("--3", 3),
        ("2 * -3", -6),
        (r"3\cdot4", 12),
        ("{3}", 3),
        ("10^{2}", 100),
        ("0^0", 1),
    ],
)
def test_writings(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "3 +",
        "+",
        "(3",
        "3)",
        "(3]",
        "3 4",
        "1 1/2",
        "6/2(1+2)",
        "1,23",
        "1,2345",
        "3x",
        "x",
        "4^0.5",
        "1/0",
        "0^-1",
        r"\frac{1}{0}",
        r"\frac123",
        r"\sqrt{4}",
        "3 = 3",
        "5!",
        "50%",
        "٣",
        "３",
        "3 +* 4",
        "1..2",
        "()",
        "1e",
        r"\frac{1}",
        "2 (3)x",
    ],
)
def test_what_is_no_arithmetic_is_refused(text):
    with pytest.raises(ExpressionError):
        evaluate(text)


ATTACKS = [
    "__import__('os').system('touch /tmp/owned')",
    "().__class__.__bases__[0]",
    "9**9**9",
    "9^9^9^9",
    "2^99999999999",
    "5^(5^(5^5))",
    "9" * 1_000_000,
    "1e999999999",
    "1e-999999999",
    "(" * 100_000,
    "(" * 5_000 + "1" + ")" * 5_000,
    "-" * 9_999 + "1",
    "2^" * 4_999 + "2",
    "1\x002",
    "\x00",
    "1+" * 4_999 + "1",
    "9^400*" * 1_600 + "9",
    "1/3+" * 2_400 + "1",
    r"\frac" * 1_900,
    r"\frac{" * 1_600,
    "1/" * 4_999 + "1",
    "lambda: 0",
    "f'{1}'",
    "0x10",
    "1_000",
    "10000!" * 50,
    "ⅷ",
    "²",
]


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: text[:20])
def test_hostile_texts_give_a_bounded_value_or_an_expression_error(text):
    value, message = evaluated(text)
    assert len(message) < 200
    assert max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_BITS


def evaluated(text: str) -> tuple[Fraction, str]:
    try:
        return evaluate(text), ""
    except ExpressionError as error:
        return Fraction(0), str(error)


@given(st.text(alphabet="0123456789+-*/^()[]{}., ×÷−²xe\\frac$", max_size=60))
@settings(max_examples=500, deadline=None)
def test_never_raises_anything_else(text):
    evaluated(text)
