r"""Kind `number`: one exact number, however it is written.

Read as the same: `1,234` `1234` `1234.0` `$1,234` `1.234e3` `1.234 \times 10^3` `x = 1234` `1234 apples`
`1.234 thousand` `2468/2` `\frac{2468}{2}` `1233 \frac{2}{2}`. Decided on purpose:

- Units are taken off and not compared: `7 km` equals `7` and `7 miles`, not `7000 m`. Letters glued to a number are a
  unit only if they are on a short list; `7x` and `2ab` are no numbers.
- `10%` is 10 per cent, or the number 10 when the gold answer leaves the sign out ("what percentage …?"): if exactly one
  side bears the sign both readings count; if both bear it they must be equal. So `10%` matches `10`, `0.1` and `10%`,
  and not `0.1%`.
- `3 + 4` is no number, nor are `7 or 8`, `7 and a half`, `about 7` and `4:30`: they are unreadable and not guessed at.
- `3 + 4 = 7` is 7, because it is true; `3 + 4 = 8` is unreadable.
- No tolerance unless the problem has `meta["tolerance"]`, an absolute one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from thinksmith.records import Problem
from thinksmith.verify.expression import MINUS, NUMBER, PLUS, ExpressionError, evaluate, literal
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.latex import MAX_ANSWER, plain


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value as it was written: with or without a per cent sign (which is not applied to the value)."""

    value: Fraction
    percent: bool = False


_SIGN = rf"[{MINUS}{PLUS}]"
_PART = rf"(?:\{{\s*{_SIGN}?\s*(?:{NUMBER})\s*\}}|[0-9])"
_TEN = rf"10\s?\^\s?(?:\{{\s?{_SIGN}?\s?[0-9]+\s?\}}|{_SIGN}?[0-9]+)"
_FRACTION = rf"\\frac\s*(?:[0-9]{{2}}|{_PART}\s*{_PART})"
_NUMBER = re.compile(
    rf"""
    (?P<open>\(\s?)?
    (?P<sign>{_SIGN})?\s?(?:[$€£]|USD\s)?\s?(?P<late>{_SIGN})?\s?
    (?:(?P<whole>[0-9]{{1,9}})(?:\s?(?={_FRACTION})|\s(?=[0-9]+\s?/\s?[0-9])))?
    (?P<core>
        {_FRACTION}
      | (?:{NUMBER}) (?:\s?[/÷⁄∕]\s?(?:{NUMBER}) | \s?(?:[*×·]|\\times|\\cdot)\s?{_TEN})?
    )
    (?(open)\s?\))(?P<rest>.*)
    """,
    re.VERBOSE | re.DOTALL,
)
_DIGITS = re.compile(r"-?[0-9]{1,18}")
_MAGNITUDES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_GLUED = re.compile(
    r"[kcmn]m|[km]?g|m[lL]|dl|hrs?|mins?|secs?|ms|[mk]ph|ft|in|yd|lbs?|oz|st|nd|rd|th|cents|am|pm|k?Wh?|Hz|[GMK]B|deg|degrees"
)
"""Units that may touch their number."""
_SINGLE = frozenset("mgshlLtCFVWNJKA")
"""One-letter units; they need a space before them, because `7m` may be algebra."""
_NO_UNIT = re.compile(
    "and|or|half|quarter|third|to|minus|plus|times|not|no|pi|mod|squared|cubed|over|sqrt|root|by|than|remainder|rem|"
    "if|but|is|are|about|approximately|roughly",
    re.IGNORECASE,
)
_UNIT_WORD = re.compile(r"(?P<glue>[\s/*·-]*)(?P<word>[a-zA-ZµΩ°'¢€£]+)\.?(?:\s?\^\s?\{?[23]\}?|[²³])?")
_NAME = re.compile(r"(?:[a-zA-Z][a-zA-Z ]{0,40}|\\?[a-zA-Z]+(?:_\{?\w{1,5}\}?)?(?:\([^()=]{1,10}\))?)\s*")


def judge(problem: Problem, answer: str) -> str | None:
    """None if `answer` is the gold number, else why not. Raises BadGold or Unreadable."""
    gold = read_number(problem.answer or "")
    if gold is None:
        raise BadGold(f"gold answer {problem.answer!r} is not a number")
    tolerance = _tolerance(problem)
    number = read_number(answer)
    if number is None:
        raise Unreadable("that is not one number")
    return None if same(gold, number, tolerance) else "a different number"


def same(a: Number, b: Number, tolerance: Fraction = Fraction(0)) -> bool:
    """Equal within an absolute tolerance; see the module for per cent."""
    readings = {Fraction(1)} if a.percent == b.percent else {Fraction(1), Fraction(1, 100)}
    low, high = (a, b) if b.percent else (b, a)
    return any(abs(low.value - high.value * factor) <= tolerance for factor in readings)


def read_number(text: str) -> Number | None:
    """The one number that `text` says, or None if it says something else. Never raises."""
    return _read(text) if len(text) <= MAX_ANSWER else None


@lru_cache(maxsize=4096)  # a gold answer is read again for every sample
def _read(text: str) -> Number | None:
    if _DIGITS.fullmatch(text):
        return Number(Fraction(int(text)))
    text = plain(text)
    if "=" in text:
        return _after_equals(text)
    match = _NUMBER.fullmatch(text)
    if match is None or (match["sign"] and match["late"]) or (match["open"] and "," in match["core"]):
        return None
    unit = _unit(match["rest"])
    if unit is None:
        return None
    try:
        size = (literal(match["whole"] or "0") + evaluate(match["core"])) * unit.value
    except ExpressionError:
        return None
    negative = (match["sign"] or match["late"] or "+") in MINUS
    return Number(-size if negative else size, unit.percent)


def _unit(rest: str) -> Number | None:
    """What the words behind a number make of it: a factor (3 million) and per cent. None: these are no units."""
    factor, percent = Fraction(1), False
    glued = not rest[:1].isspace()
    rest = rest.strip()
    if rest.startswith("%"):
        rest, percent, glued = rest[1:].strip(), True, False
    words = 0
    while rest:
        match = _UNIT_WORD.match(rest)
        if match is None or words == 5:
            return None
        word, tight = match["word"], glued and words == 0 and not match["glue"]
        if _NO_UNIT.fullmatch(word) or not _is_unit(word, tight):
            return None
        percent = percent or word.lower() in ("percent", "pct")
        factor *= _MAGNITUDES.get(word.lower(), 1) if words == 0 else 1
        rest, words = rest[match.end() :].lstrip(), words + 1
    return Number(factor, percent)


def _is_unit(word: str, glued: bool) -> bool:
    if word.startswith(("°", "'", "¢", "€", "£")):
        return True
    if glued:
        return len(word) > 1 and _GLUED.fullmatch(word) is not None
    return (
        word in _SINGLE
        or len(word) > 2
        or _GLUED.fullmatch(word) is not None
        or word.lower() in ("of", "a", "an", "per")
    )


def _after_equals(text: str) -> Number | None:
    """`x = 7`, `f(2) = 7`, `Total cost = 7`, or a true statement that ends in a number."""
    left, _, right = text.rpartition("=")
    number = read_number(right)
    if number is None or _NAME.fullmatch(left):
        return number
    try:
        sides = [evaluate(side) for side in left.split("=", 8)]
    except ExpressionError:
        return None
    return number if all(side == number.value for side in sides) else None


def _tolerance(problem: Problem) -> Fraction:
    written = problem.meta.get("tolerance", 0)
    try:
        tolerance = Fraction(str(written)) if len(str(written)) < 50 else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        tolerance = Fraction(-1)
    if tolerance < 0:
        raise BadGold(f"tolerance {written!r} is not a number of at least 0")
    return tolerance
