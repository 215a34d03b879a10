"""Exact arithmetic on text, by our own reader: nothing is ever evaluated as a program.

Grammar (precedence from loose to tight; `^` binds to the right and tighter than a sign, so `-2^2` is -4):

    sum     = product { ("+" | "-") product }
    product = signed { ("*" | "/") signed | group }      a group directly behind a value multiplies: 2(3 + 4)
    signed  = { "+" | "-" } power
    power   = atom [ "^" signed ]
    atom    = number | group | \\frac group group
    group   = "(" sum ")" | "[" sum "]" | "{" sum "}"

Numbers are decimal, with thousands commas if these are well placed, and may bear a currency sign in front. Operators
may be ASCII, Unicode (`− × · ÷ ²`) or LaTeX (`\\times \\cdot \\div \\frac`). What mathematicians read in two ways
(`6/2(1+2)`, `1 1/2`, `3 4`) is an error and not a guess.

Every bound below exists so that a hostile text costs little: work is at most `MAX_LENGTH` operations on numbers of
`MAX_BITS` bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

MAX_LENGTH = 10_000
"""Characters of an expression."""
MAX_DEPTH = 64
"""Open brackets, signs and powers on top of each other."""
MAX_DIGITS = 1_000
"""Digits of one written number."""
MAX_BITS = 4_096
"""Bits of any numerator or denominator, also of a power before it is computed."""
MAX_TEN = 1_000
"""Absolute exponent of scientific notation."""

NUMBER = r"(?:[0-9]{1,3}(?:(?:\{,\}|,\\!\s?|,)[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+"
"""A number as people write it: 1,234.5 or 12 or .5 or 1e6; also LaTeX's 1{,}234 and 1,\\!234."""

PLUS, MINUS, TIMES, OVER = "+＋", "-−–﹣－", "*×·⋅∙∗", "/÷∕⁄"
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")

ARITHMETIC = rf"""
      (?P<number>{NUMBER})
    | (?P<power>\*\*|\^)
    | (?P<raised>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)
    | (?P<plus>[{PLUS}]) | (?P<minus>[{MINUS}])
    | (?P<times>[{TIMES}]|\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])|\\ast(?![a-zA-Z])|(?<=[0-9]\ )[xX](?=\ [0-9]))
    | (?P<over>[{OVER}]|\\div(?![a-zA-Z]))
    | (?P<frac>\\[dtc]?frac(?![a-zA-Z]))
    | (?P<open>(?:\\left\s?|\\[bB]igg?l?\s?)?[(\[]|\{{)
    | (?P<close>(?:\\right\s?|\\[bB]igg?r?\s?)?[)\]]|\}})
"""
"""The tokens of arithmetic as a verbose pattern with a named group for each kind."""
SKIP = r"\\[,!;:\ ]|~|\\?[$€£](?=[0-9.])"
"""What may stand between tokens besides white space: LaTeX's spaces, a currency sign before a number."""

_TOKEN = re.compile(rf"{ARITHMETIC} | (?P<skip>\s+|{SKIP})", re.VERBOSE)
_PAIR = {"(": ")", "[": "]", "{": "}"}


class ExpressionError(ValueError):
    """The text is no arithmetic that can be computed exactly within the bounds; the message says why."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What was read: its exact `value`; literal `numbers` and `operators` (+ - * / ^) in the order they are written.

    `whole` is False when some division left a fraction (1/2, or 7/2 inside a longer expression).
    """

    value: Fraction
    numbers: tuple[Fraction, ...]
    operators: tuple[str, ...]
    whole: bool


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def evaluate(text: str) -> Fraction:
    """The exact value of `text`. Raises ExpressionError."""
    return parse(text).value


def parse(text: str) -> Expression:
    """Read `text` as arithmetic. Raises ExpressionError, never anything else, whatever the text is."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH:,} characters")
    reader = _Reader(_tokens(text))
    value = reader.sum()
    if (left := reader.peek()) is not None:
        raise ExpressionError(f"cannot read {left.text!r} at position {left.start}")
    return Expression(value, tuple(reader.numbers), tuple(reader.operators), reader.whole)


def literal(text: str) -> Fraction:
    """The exact value of one written number (see NUMBER). Raises ExpressionError."""
    digits = re.sub(r"\{,\}|,\\!\s?|,", "", text)
    mantissa, _, ten = digits.lower().partition("e")
    if len(mantissa) > MAX_DIGITS:
        raise ExpressionError(f"a number of more than {MAX_DIGITS:,} digits")
    if mantissa.isdigit() and not ten:
        return Fraction(int(mantissa))
    if len(ten) > 5 or abs(int(ten or "0")) > MAX_TEN:
        raise ExpressionError(f"a power of ten beyond {MAX_TEN:,}")
    return _bounded(Fraction(mantissa) * Fraction(10) ** int(ten or "0"))


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(f"cannot read {text[position]!r} at position {position}")
        position = match.end()
        kind = match.lastgroup or ""
        if kind != "skip":
            tokens.append(_Token(kind, match.group(), match.start(), position))
    if not tokens:
        raise ExpressionError("nothing to compute")
    return tokens


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ExpressionError(f"a number of more than {MAX_BITS:,} bits")
    return value


class _Reader:
    """Recursive descent over the tokens; computes while it reads, so there is no tree to walk."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.numbers: list[Fraction] = []
        self.operators: list[str] = []
        self.whole = True

    def peek(self) -> _Token | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def take(self, *kinds: str) -> _Token | None:
        """The next token if it is of one of these kinds, else None."""
        token = self.peek()
        if token is None or token.kind not in kinds:
            return None
        self.position += 1
        return token

    def sum(self) -> Fraction:
        value = self.product()
        while token := self.take("plus", "minus"):
            self.operators.append("+" if token.kind == "plus" else "-")
            right = self.product()
            value = _bounded(value + right if token.kind == "plus" else value - right)
        return value

    def product(self) -> Fraction:
        value = self.signed()
        divided = False
        while True:
            if self.take("times"):
                self.operators.append("*")
                value = _bounded(value * self.signed())
            elif self.take("over"):
                self.operators.append("/")
                value, divided = self.quotient(value, self.signed()), True
            elif self.juxtaposed():
                if divided:
                    raise ExpressionError("a division before a bracket without a sign can be read in two ways")
                self.operators.append("*")
                value = _bounded(value * self.power())
            else:
                return value

    def juxtaposed(self) -> bool:
        """Whether a bracket stands directly behind what was just read, as in 2(3) or (2)(3)."""
        token = self.peek()
        previous = self.tokens[self.position - 1]
        return token is not None and token.kind == "open" and token.text != "{" and token.start == previous.end

    def signed(self) -> Fraction:
        sign = self.take("plus", "minus")
        if sign is None:
            return self.power()
        self.descend()
        value = self.signed()
        self.depth -= 1
        return -value if sign.kind == "minus" else value

    def power(self) -> Fraction:
        base = self.atom()
        if raised := self.take("raised"):
            self.operators.append("^")
            exponent = raised.text.translate(SUPERSCRIPTS)
            return _power(base, literal(exponent.lstrip("-")) * (-1 if exponent.startswith("-") else 1))
        if self.take("power"):
            self.operators.append("^")
            self.descend()
            value = _power(base, self.signed())
            self.depth -= 1
            return value
        return base

    def atom(self) -> Fraction:
        if token := self.take("number"):
            self.numbers.append(literal(token.text))
            return self.numbers[-1]
        if self.take("frac"):
            return self.fraction()
        return self.group()

    def group(self) -> Fraction:
        opening = self.take("open")
        if opening is None:
            token = self.peek()
            raise ExpressionError("ends too early" if token is None else f"a number is missing before {token.text!r}")
        self.descend()
        value = self.sum()
        closing = self.take("close")
        if closing is None or closing.text[-1] != _PAIR[opening.text[-1]]:
            raise ExpressionError("a bracket is not closed")
        self.depth -= 1
        return value

    def fraction(self) -> Fraction:
        """What follows \\frac: two groups, or two digits (\\frac12), or a digit and a group."""
        token = self.take("number")
        if token is None:
            above = self.group()
        elif re.fullmatch("[0-9]{1,2}", token.text):
            above = literal(token.text[0])
            self.numbers.append(above)
            if len(token.text) == 2:
                below = literal(token.text[1])
                self.numbers.append(below)
                self.operators.append("/")
                return self.quotient(above, below)
        else:
            raise ExpressionError(r"\frac without brackets takes two digits")
        self.operators.append("/")
        last = self.take("number")
        if last is None:
            return self.quotient(above, self.group())
        if not re.fullmatch("[0-9]", last.text):
            raise ExpressionError(r"\frac without brackets takes two digits")
        self.numbers.append(literal(last.text))
        return self.quotient(above, self.numbers[-1])

    def quotient(self, above: Fraction, below: Fraction) -> Fraction:
        if below == 0:
            raise ExpressionError("divides by zero")
        value = _bounded(above / below)
        self.whole = self.whole and value.denominator == 1
        return value

    def descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"nested more than {MAX_DEPTH} deep")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise ExpressionError("a root is not exact arithmetic")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_BITS or bits * abs(exponent) > MAX_BITS:
        raise ExpressionError("a power that is too large")
    if base == 0 and exponent < 0:
        raise ExpressionError("divides by zero")
    return base**exponent.numerator
