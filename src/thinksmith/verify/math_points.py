r"""Points at which two functions are compared, and when agreeing there is enough: a part of `math_algebra.py`.

A point costs nothing to him who knows it: what vanishes on all of them can be added to any answer. So the denominators
are primes of 61 bits, drawn for each pair anew. And functions such as `\sqrt{x^2}` and `\arctan\frac{1}{x}` are made of
several pieces, each of which may agree on its own. So every variable comes with either sign and in several sizes; and
on straight lines through all variables there is a point on either side of each place where such a piece may end.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

DIGITS, ENOUGH, TRIES = 60, 8, 24
"""Digits of a value; points that must agree; points that are tried for a function of one piece."""
SIZES = (1, 4, 16)
LARGE = (1_000, 1_000_000)
"""Sizes of variables; the large ones for what grows no faster than its degree says."""
LINES, PLACES, DEGREE = 2, 24, 12
"""Lines that are drawn, places on a line that are looked at, degree of a polynomial whose roots are looked for."""

Point = dict[Any, Any]

_ENTIRE = frozenset(("Add", "Mul", "Pow", "exp", "sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh",
                     "factorial", "UnevaluatedExpr"))  # fmt: skip
_IN_PIECES = frozenset(("log", "asin", "acos", "atan", "acot"))


def values(a: Any, b: Any, draw: random.Random) -> Iterator[tuple[Any, Any]]:
    """Both values at points where they are real (or complex, if `i` occurs).

    ENOUGH points for functions of one piece, all for others. Whole numbers count only if the first side is real at no
    other point, like `(-1)^n`.
    """
    from sympy import I, Rational

    symbols = sorted(a.free_symbols | b.free_symbols, key=lambda symbol: str(symbol.name))
    is_complex = a.has(I) or b.has(I)
    one_piece = kinds(a) | kinds(b) <= _ENTIRE and not (_turns(a) or _turns(b))
    found, defined = 0, False
    for point in _points(a, b, symbols, draw):
        x, y = value(a, point), value(b, point)
        defined = defined or (x is not None and (is_complex or _is_real(x)))
        if x is None or y is None or not (is_complex or (_is_real(x) and _is_real(y))):
            continue
        yield x, y
        found += 1
        if found == ENOUGH and one_piece:
            return
    if defined:
        return
    for _ in range(2 * ENOUGH):
        point = {symbol: Rational(draw.randint(1, 40)) for symbol in symbols}
        x, y = value(a, point), value(b, point)
        if x is not None and y is not None and _is_real(x) and _is_real(y):
            yield x, y


def is_analytic(tree: Any) -> bool:
    """Whether agreeing at all points makes it the same function: all its pieces are known, and have been looked at."""
    if not kinds(tree) <= _ENTIRE | _IN_PIECES:
        return False
    inner = [part for part in _turns(tree) if type(part[0]).__name__ != "log"]
    return all(_numerator(argument) is not None for _, argument in inner)


def value(expression: Any, point: Point) -> Any:
    """The value as a complex number of mpmath, or None if it has none."""
    import mpmath

    try:
        real, imaginary = expression.evalf(DIGITS, subs=point).as_real_imag()
        if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
            return None
        with mpmath.workdps(DIGITS + 10):
            return mpmath.mpc(*(part._to_mpmath(DIGITS * 4) for part in (real, imaginary)))
    except (ArithmeticError, ValueError, TypeError, AttributeError, NotImplementedError):
        return None


def _is_real(number: Any) -> bool:
    return bool(abs(number.imag) <= abs(number.real) * 10.0**-20)


def close(x: Any, y: Any) -> bool:
    """Equal to DIGITS digits less ten that rounding may cost."""
    import mpmath

    with mpmath.workdps(DIGITS + 10):
        return bool(abs(x - y) <= max(abs(x), abs(y)) * mpmath.mpf(10) ** (10 - DIGITS))


def nodes(tree: Any) -> Iterator[Any]:
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        stack += getattr(node, "args", ())


def kinds(tree: Any) -> set[str]:
    return {type(node).__name__ for node in nodes(tree) if node.args}


def _points(a: Any, b: Any, symbols: list[Any], draw: random.Random) -> Iterator[Point]:
    """All positive, all negative, and with other signs, in every size; then along lines."""
    sizes = SIZES if _grows(a) or _grows(b) else SIZES + LARGE
    for attempt in range(TRIES):
        size = sizes[(attempt // 2) % len(sizes)]
        signs = [draw.choice((-1, 1)) for _ in symbols] if attempt % 4 == 3 else [1 - attempt % 2 * 2] * len(symbols)
        yield {symbol: sign * size * _drawn(draw) for symbol, sign in zip(symbols, signs, strict=True)}
    turns = [argument for tree in (a, b) for _, argument in _turns(tree)]
    for _ in range(LINES if turns else 0):
        start = {symbol: draw.choice((-1, 1)) * _drawn(draw) for symbol in symbols}
        slope = {symbol: draw.choice((-1, 1)) * _drawn(draw) for symbol in symbols}
        for place in _between(_ends(turns, start, slope), draw):
            yield {symbol: start[symbol] + place * slope[symbol] for symbol in symbols}


def _drawn(draw: random.Random) -> Any:
    """A fraction between 1/5 and 2 over a large prime."""
    from sympy import Rational, nextprime

    below = nextprime(draw.getrandbits(60) + (1 << 60))
    return Rational(draw.randint(below // 5, 2 * below), below)


def _grows(tree: Any) -> bool:
    """Whether it has powers with variables in the exponent and the like, whose values would not end at large points."""
    return any(
        node.free_symbols
        and (
            (node.is_Pow and node.exp.free_symbols)
            or type(node).__name__ in ("exp", "sinh", "cosh", "tanh", "factorial", "gamma", "binomial")
        )
        for node in nodes(tree)
        if node.args
    )


def _turns(tree: Any) -> list[tuple[Any, Any]]:
    """(function, argument) for those that may go over to another piece where the argument is zero or infinite."""
    found = []
    for node in nodes(tree):
        kind = type(node).__name__
        if not node.args or not node.free_symbols or kind in _ENTIRE - {"Pow"}:
            continue
        if kind == "Pow":
            found += [(node, node.base)] if node.base.free_symbols and node.exp.is_integer is not True else []
        elif kind in ("Max", "Min"):
            found += [(node, one - other) for one, other in pairwise(node.args)]
        else:
            found += [(node, argument) for argument in node.args if argument.free_symbols]
    return found


def _numerator(argument: Any) -> Any:
    """Numerator times denominator of a fraction of polynomials, or None if it is none."""
    from sympy import together

    if not argument.is_rational_function(*argument.free_symbols):
        return None
    above, below = together(argument).as_numer_denom()
    return above * below


def _ends(turns: list[Any], start: Point, slope: Point) -> list[Any]:
    """Where along the line one of the arguments is zero or infinite, in order."""
    from sympy import Dummy, Poly, Rational

    along, ends = Dummy("t"), set()
    for argument in turns:
        if (polynomial := _numerator(argument)) is None:
            continue
        written = Poly(polynomial.xreplace({s: start[s] + along * slope[s] for s in start}), along)
        written = written.sqf_part()  # each root once: the search for roots does not find those that come twice
        if 0 < written.degree() <= DEGREE:
            ends |= {Rational(str(root.as_real_imag()[0])) for root in written.nroots(n=30, maxsteps=200)}
    return sorted(ends)[:PLACES]


def _between(ends: list[Any], draw: random.Random) -> Iterator[Any]:
    """A place before the first, between each two and behind the last."""
    if not ends:
        return
    yield ends[0] - _drawn(draw) * (1 + abs(ends[0]))
    for low, high in pairwise(ends):
        yield low + (high - low) * _drawn(draw) / 2
    yield ends[-1] + _drawn(draw) * (1 + abs(ends[-1]))
