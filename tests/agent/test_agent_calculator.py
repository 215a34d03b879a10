"""The calculator is exact, bounded, and evaluates nothing."""

from __future__ import annotations

import asyncio
import math
import re
import time
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tool_calling import call, tool

from thinksmith.agent.contract import ToolFault
from thinksmith.agent.tools import calculator
from thinksmith.agent.tools.calculator import evaluate, shown
from thinksmith.errors import UserError
from thinksmith.verify import expression
from thinksmith.verify.expression import ExpressionError

RESULTS = """
12*7  →  84
2^10  →  1024
12 × 7 ÷ 3 − 1  →  27
1/3 + 1/6  →  1/2 = 0.5
0.1+0.2  →  3/10 = 0.3
1/3  →  1/3 ≈ 0.333333333333333
-2**2  →  -4
2**-2  →  1/4 = 0.25
2**3**2  →  512
7//2  →  3
-7//2  →  -4
-7 % 3  →  2
7.5 % 2  →  3/2 = 1.5
sqrt(16)  →  4
sqrt(4/9)  →  2/3 ≈ 0.666666666666667
sqrt(2)  →  ≈ 1.4142135623731
2**0.5  →  ≈ 1.4142135623731
abs(-3/4)  →  3/4 = 0.75
min(3, 1/2, 2)  →  1/2 = 0.5
max(3, 1/2)  →  3
round(2.5)  →  2
round(3.14159, 2)  →  157/50 = 3.14
round(1234, -2)  →  1200
round(sqrt(2), 3)  →  707/500 = 1.414
round(1e15 / 7, -3)  →  142857142857000
floor(-1.5)  →  -2
ceil(1.2)  →  2
log(e)  →  ≈ 1
log(8, 2)  →  ≈ 3
exp(0)  →  ≈ 1
sin(0)  →  ≈ 0
cos(pi)  →  ≈ -1
tan(pi/4)  →  ≈ 1
pi  →  ≈ 3.1415926535898
π  →  ≈ 3.1415926535898
factorial(20)  →  2432902008176640000
gcd(12, 18, 27)  →  3
comb(52, 5)  →  2598960
comb(3, 5)  →  0
factorial(0)  →  1
1e3  →  1000
0x1F  →  31
1_000 * 2  →  2000
10**30/3  →  1000000000000000000000000000000/3 ≈ 333333333333333000000000000000
10**-12  →  1/1000000000000 = 1E-12
log(10**1000) / log(10)  →  ≈ 1000
((((((1))))))  →  1
"""


@pytest.mark.parametrize("line", RESULTS.strip().split("\n"))
def test_results(line: str) -> None:
    text, result = line.split("  →  ")
    assert shown(evaluate(text)) == result


def test_a_long_sum_is_not_deep() -> None:
    assert evaluate("+".join(["1"] * 500)) == 500


REFUSED = r"""
9**9**9  →  digits
factorial(10**6)  →  digits
factorial(10**300)  →  digits|large
2**(2**40)  →  digits
comb(10**6, 10**5)  →  digits
10**3000 * 10**3000  →  digits
1e5000  →  power of ten
exp(1000)  →  large
10.0**400 * sin(1)  →  large
1/0  →  zero
1 // 0  →  zero
1 % 0  →  zero
0**-1  →  zero
sqrt(-1)  →  real
(-8)**(1/3)  →  real
log(0)  →  above 0
log(2, 1)  →  zero
factorial(-1)  →  negative
factorial(1.5)  →  whole
gcd(1.5, 2)  →  whole
comb(5, -1)  →  negative
round(1, 10**6)  →  decimal places
1,234 * 5  →  comma
x + 1  →  x is no number
sum(1)  →  no function sum
sqrt()  →  few arguments
sqrt(1, 2)  →  few arguments
sqrt(x=1)  →  no function|few|knows no
5!  →  can be read
1 +  →  can be read
True  →  no number
'a' * 9  →  no number
1j  →  no number
...  →  no number
None  →  no number
[1]  →  knows no List
1 < 2  →  knows no Compare
1 if 2 else 3  →  knows no IfExp
5 & 3  →  knows no BitAnd
1 << 9  →  knows no LShift
max(*[1])  →  knows no Starred
(lambda: 1)()  →  knows no
(x := 3)  →  knows no NamedExpr
f'{1}'  →  knows no JoinedStr
pi.real  →  knows no Attribute
1 @ 2  →  knows no MatMult
~1  →  knows no
__import__('os').system('true')  →  knows no
().__class__.__bases__  →  knows no
open('/etc/passwd')  →  no function open
eval('1')  →  no function eval
"""
DEEP_OR_LONG = {
    "": "can be read", "\0": "can be read", "1" * 1001: "longer", "-" * 900 + "1": "deep",
    "abs(" * 61 + "1" + ")" * 61: "deep", "(" * 300 + "1" + ")" * 300: "can be read",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"), [*(line.split("  →  ") for line in REFUSED.strip().split("\n")), *DEEP_OR_LONG.items()]
)
def test_refusals(text: str, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(ExpressionError, match=why) as refused:
        evaluate(text)
    assert time.monotonic() - began < 2
    assert "\n" not in str(refused.value)


SIGNS = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "^"])
NODES = st.recursive(
    st.one_of(
        st.integers(0, 10**6).map(str),
        st.decimals(0, 1000, places=3).map(str),
        st.sampled_from(["pi", "e", "1e300", "9" * 300, "0", "1/3", "(-1)", "x", "'a'"]),
    ),
    lambda inner: st.one_of(
        st.tuples(st.just("("), inner, SIGNS, inner, st.just(")")).map("".join),
        st.tuples(st.sampled_from([*calculator._FUNCTIONS, "eval"]), st.lists(inner, max_size=3)).map(
            lambda t: f"{t[0]}({', '.join(t[1])})"
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(NODES)
@example("((0*9)**(-1))")
@example("factorial(factorial(6))")
@example("round(1e300*1e300, 1000)")
@example("comb(factorial(200), factorial(100))")
@example("log(((1/3)**3000), (1/3))")
def test_whatever_is_asked_has_a_value_or_a_reason_at_once(text: str) -> None:
    began = time.monotonic()
    try:
        result = shown(evaluate(text))
    except ExpressionError as error:
        result = str(error)
    assert time.monotonic() - began < 1
    assert len(result) < 8500


@given(st.text(max_size=200))
def test_any_text_has_a_value_or_a_reason(text: str) -> None:
    with suppress(ExpressionError):
        assert shown(evaluate(text))


ARITHMETIC = st.recursive(
    st.one_of(st.integers(0, 999).map(str), st.decimals(0, 99, places=2).map(str)),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(
        lambda t: f"({t[0]} {t[1]} {t[2]})"
    ),
    max_leaves=12,
)


@given(ARITHMETIC)
def test_exact_arithmetic_is_that_of_the_verifiers_reader(text: str) -> None:
    """Another reader, of another grammar, by other hands: `verify/expression.py`."""
    try:
        wanted = expression.evaluate(text)
    except ExpressionError:
        with pytest.raises(ExpressionError):
            evaluate(text)
        return
    assert evaluate(text) == wanted


@given(st.fractions(max_denominator=10**6))
def test_what_is_shown_is_the_value(value: Fraction) -> None:
    """Read back, the fraction is exact, and the decimals are where they say so with =."""
    told = shown(value)
    exact, sign, decimals = re.fullmatch(r"(\S+)(?: ([=≈]) (\S+))?", told).groups()  # type: ignore[union-attr]
    assert Fraction(exact) == value
    if sign:
        assert (Fraction(decimals) == value) is (sign == "=")
        assert math.isclose(float(decimals), value, rel_tol=1e-13)


def test_the_tool() -> None:
    toolset = asyncio.run(calculator.open_toolset(""))
    asked = tool(toolset, "calculator")
    assert (asked.kind, asked.group, asked.repeatable) == ("read", "calculator", True)
    assert asked.parameters["required"] == ["expression"]
    assert call(asked, expression="12*7").text == "84"
    with pytest.raises(ToolFault, match="zero"):
        call(asked, expression="1/0")
    with pytest.raises(UserError, match="nothing behind the colon"):
        asyncio.run(calculator.open_toolset("x"))
