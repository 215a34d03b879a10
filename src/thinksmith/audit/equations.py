r"""Finds every arithmetic equation in a text and checks it exactly.

An equation is two readable sides around one `=`, at least one of them with an operation: `12 + 7 = 19`,
`517 = 7 * 73 + 6`, `\frac{3925}{5} = 785`, `$5 × 3 = $15`. A chain `3 * 7 + 5 = 21 + 5 = 26` is two. Sides are read by
`verify.expression`, so nothing is evaluated.

To call a true statement false is the worst this finder can do, so it leaves out what is no arithmetic claim:

- algebra and functions: a side that touches a letter, `√`, `|`, `!`, `%`, `_` or an unknown command (`3x = 21`,
  `\sqrt{9} + 1 = 4`), or follows a word that works on it ("half of 6 + 4 = 5") or counts things ("Week 1 + Week 2 =");
- `x = 7` (no operation), `≈`, `==`, `≠`, ratios, dates, times of day, lists that go on ("1 + 2 + … + 9 = 45"), and
  what the reader of expressions finds ambiguous;

and, if the sides differ, what may not have been meant like that:

- questions, denials and suppositions: "3 + 5 = 9?", "3 + 5 = 9 is wrong", "if 3 + 5 = 9";
- arithmetic modulo a number or in another base; quotients cut down to a whole number where the sentence says so
  ("13 / 6 = 2 full cycles"); `2000 / 2/3`, which people write for 2000 divided by two thirds;
- rounding: `10 / 3 = 3.33` shows fewer decimals than there are, and is right as far as they go;
- conversion: `1 / 2 = 50 cents`.

One pass over the tokens and one parse of each side: linear in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from thinksmith.audit.sides import Side, left_side, right_side, scan


@dataclass(frozen=True, slots=True)
class Equation:
    """`text` is `source[start:end]`; `left` and `right` are the exact values of its sides; `true` if they are equal."""

    text: str
    start: int
    end: int
    left: Fraction
    right: Fraction
    true: bool


_UNIT_FOLLOWS = re.compile(
    r"[\s$)\\}]{0,4}(?:text\{\s?)?"
    r"(?:cents?|penn(?:y|ies)|¢|dollars?|(?:hour|minute|second|day|week|month|year|yard|mile)s?|feet|foot|inch(?:es)?|"
    r"(?:kilo|centi|milli)?(?:met(?:er|re)|gram|lit(?:er|re))s?|[kcm]m|k?g|ml)\b",
    re.IGNORECASE,
)
_CONVERSIONS = frozenset(Fraction(n) for n in (3, 7, 12, 16, 24, 36, 52, 60, 100, 365, 1000, 3600))
_CUT_DOWN = re.compile(
    r"remain|left ?over|round|full|whole|complete|at least|at most|integer|floor|quotient", re.IGNORECASE
)
_OTHER_ARITHMETIC = re.compile(
    r"\bmod(?:ulo|ulus)?\b|\\[pb]?mod\b|≡|\\equiv|\bbase[- ]?(?:\d|two|ten|\w+ary)|\bin base|\bclock", re.I
)
_TWICE_DIVIDED = re.compile(r"[/÷∕⁄]\s?\(?[0-9.,]+\s?[/÷∕⁄]")
_QUESTION = r"[\s$)\]}*`'\"\\]{0,6}\?"
_WRONG = r"(?:not (?:true|right|correct|possible|equal)|false|wrong|incorrect|impossible|absurd|untrue|a contradiction)"
_DENIED = re.compile(
    rf"{_QUESTION}|[\s$)\]}}\\]{{0,4}}[,;—–-]?\s{{0,2}}\(?(?:(?:which|that) )?(?:is|would be) {_WRONG}", re.I
)
_SUPPOSED = re.compile(r"\b(?:if|whether|suppose|supposing|assume|assuming|unless|not)[\s$\\(:,]{0,5}\Z", re.I)


def find_equations(text: str) -> list[Equation]:
    """Every equation of `text` that can be checked, in order. Linear in the length of the text; never raises."""
    tokens = scan(text)
    found = []
    for index, token in enumerate(tokens):
        if token.kind == "equals":
            left, right = left_side(tokens, index), right_side(tokens, index)
            if left and right and (equation := _claim(text, left, right)):
                found.append(equation)
    return found


def _claim(text: str, left: Side, right: Side) -> Equation | None:
    if not left.expression.operators and not right.expression.operators:
        return None
    a, b = left.expression.value, right.expression.value
    if a != b and _may_mean_something_else(text, left, right):
        return None
    return Equation(text[left.start : right.end], left.start, right.end, a, b, a == b)


def _may_mean_something_else(text: str, left: Side, right: Side) -> bool:
    """Whether what looks false was not claimed, or not in this sense."""
    line = text[
        max(left.start - 120, text.rfind("\n", max(0, left.start - 120), left.start) + 1) : right.end + 60
    ].split("\n\n")[0]
    return bool(
        _OTHER_ARITHMETIC.search(line)
        or _SUPPOSED.search(text[max(0, left.start - 20) : left.start])
        or _DENIED.match(text, right.end)
        or _TWICE_DIVIDED.search(text, left.start, right.end)
        or _rounded(text, left, right)
        or _converted(text, left, right)
        or (_cut_down(left, right) and _CUT_DOWN.search(line))
    )


def _converted(text: str, left: Side, right: Side) -> bool:
    """`1 / 2 = 50 cents`: the sides differ by a factor between units, and a unit follows."""
    a, b = left.expression.value, right.expression.value
    return a * b > 0 and max(a / b, b / a) in _CONVERSIONS and _UNIT_FOLLOWS.match(text, right.end) is not None


def _cut_down(left: Side, right: Side) -> bool:
    """`13 / 6 = 2`: the whole part of a quotient, or the next whole number."""
    value, shown = left.expression.value, right.expression.value
    return "/" in left.expression.operators and shown.denominator == 1 and abs(value - shown) < 1


def _rounded(text: str, left: Side, right: Side) -> bool:
    """Whether one side is a decimal with fewer digits than the other side's value has, and right as far as it goes."""
    for shown, exact in ((right, left), (left, right)):
        decimals = re.fullmatch(r"[^.]*\.([0-9]+)", text[shown.start : shown.end])
        if decimals and not shown.expression.operators:
            unit = Fraction(1, 10 ** len(decimals.group(1)))
            value = exact.expression.value
            if (value / unit).denominator != 1 and abs(value - shown.expression.value) < unit:
                return True
    return False
