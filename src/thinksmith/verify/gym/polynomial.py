"""A polynomial that is written out, read without evaluating anything: `-384*x**4 + 4*x**3/5 - 10/9`.

Every term is a product of whole numbers, decimals and powers of variables, divided by whole numbers at most. There
are no brackets: what was not multiplied out is not read.
"""

from __future__ import annotations

import re
from fractions import Fraction

from thinksmith.verify.judgement import Unreadable

MAX_TERMS, MAX_POWER = 400, 10_000

Monomial = tuple[tuple[str, int], ...]
"""Variables in the order of the alphabet, each with its power: x^2 y is (("x", 2), ("y", 1))."""

_SIGN = re.compile(r"\s*(\*(?!\*)|/)?\s*")
_TERM = re.compile(r"\s*([+-])?\s*([^+-]+)")
_FACTOR = re.compile(
    r"(?P<number>[0-9]{1,200}(?:\.[0-9]{1,50})?)|(?P<name>[a-zA-Z])(?:\s*(?:\*\*|\^)\s*(?:\{\s*)?(?P<power>[0-9]{1,5})(?:\s*\})?)?"
)


def monomials(text: str, *, constant: str = "") -> dict[Monomial, Fraction]:
    """The coefficient of every power that occurs; zero ones are left out. Raises Unreadable.

    A power that is written twice is Unreadable, since it was not collected. With `constant` the terms without a
    variable, and a term that is this name alone, are dropped: they are a constant of integration.
    """
    found: dict[Monomial, Fraction] = {}
    position, terms = 0, 0
    text = text.replace("·", "*").strip()
    while position < len(text):
        match = _TERM.match(text, position)
        terms += 1
        if match is None or terms > MAX_TERMS or (position and match.group(1) is None):
            raise Unreadable("that is no polynomial that is multiplied out")
        power, coefficient = _term(match.group(2))
        position = match.end()
        if constant and power in ((), ((constant, 1),)):
            continue
        if power in found:
            raise Unreadable("a power stands twice: the terms are not collected")
        found[power] = -coefficient if match.group(1) == "-" else coefficient
    if not terms:
        raise Unreadable("that is no polynomial")
    return {power: coefficient for power, coefficient in found.items() if coefficient}


def _term(text: str) -> tuple[Monomial, Fraction]:
    """One term without its sign."""
    coefficient = Fraction(1)
    powers: dict[str, int] = {}
    position, sign, text = 0, "*", text.strip()
    while position < len(text) or not position:
        match = _FACTOR.match(text, position)
        if match is None or (match["number"] and not sign):  # `2 3` is not taken for a product
            raise Unreadable("that is no polynomial that is multiplied out")
        if match["number"]:
            coefficient = _times(coefficient, sign, Fraction(match["number"]))
        else:
            power = powers.get(match["name"], 0) + int(match["power"] or 1)
            if sign == "/" or power > MAX_POWER:
                raise Unreadable(f"a division by a variable, or a power beyond {MAX_POWER:,}")
            powers[match["name"]] = power
        behind = _SIGN.match(text, match.end())
        sign, position = (behind.group(1) or "", behind.end()) if behind else ("", match.end())
    if sign:
        raise Unreadable("a sign with nothing behind it")
    return tuple(sorted((name, power) for name, power in powers.items() if power)), coefficient


def _times(coefficient: Fraction, sign: str, value: Fraction) -> Fraction:
    if sign != "/":
        return coefficient * value
    if not value:
        raise Unreadable("a division by zero")
    return coefficient / value
