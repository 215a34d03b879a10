"""What a program wrote against what it should have written."""

from __future__ import annotations

from decimal import Decimal

_DIGITS = 40


def same_output(expected: str, wrote: bytes, tolerance: float = 0.0) -> str | None:
    """None if `wrote` is what is expected, else the first line that differs.

    White space at the ends of lines and empty lines at the end do not count. Lines that differ as text are compared
    word by word: numbers are equal by value (`1.0` and `1`), with `tolerance` also within it, absolute or relative.
    """
    want = _lines(expected)
    have = _lines(wrote.decode("utf-8", "replace"))
    for number, (a, b) in enumerate(zip(want, have, strict=False), 1):
        if a != b and not _same_words(a.split(), b.split(), Decimal(str(tolerance))):
            return f"line {number} of the output is {_short(b)}, expected {_short(a)}"
    if len(want) != len(have):
        return f"{len(have)} lines of output, expected {len(want)}"
    return None


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_words(a: list[str], b: list[str], tolerance: Decimal) -> bool:
    return len(a) == len(b) and all(_same_word(x, y, tolerance) for x, y in zip(a, b, strict=True))


def _same_word(a: str, b: str, tolerance: Decimal) -> bool:
    if a == b:
        return True
    if max(len(a), len(b)) > _DIGITS or not (a + b).isascii() or "_" in a + b:
        return False
    try:
        x, y = Decimal(a), Decimal(b)
        return x.is_finite() and y.is_finite() and abs(x - y) <= tolerance * max(Decimal(1), abs(x))
    except ArithmeticError:  # a word, or a number beyond what decimals hold
        return False


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
