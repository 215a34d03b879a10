r"""Kind `number`: one exact number, however it is written.

Read as the same: `1,234` `1234` `1234.0` `$1,234` `1.234e3` `1.234 \times 10^3` `x = 1234` `1234 apples`
`1.234 thousand` `2468/2` `\frac{2468}{2}` `1233 \frac{2}{2}`. Decided on purpose:

- Units are taken off and not compared: `7 km` equals `7` and `7 miles`, not `7000 m`. Letters glued to a number are a
  unit only if they are on a short list; `7x` and `2ab` are no numbers.
- `10%` is 10 per cent, or the number 10 when the gold answer leaves the sign out ("what percentage …?"): if exactly one
  side bears the sign both readings count; if both bear it they must be equal. So `10%` matches `10`, `0.1` and `10%`,
  and not `0.1%`.
- `5 dozen`, `5 eighths`, `5 negative`, `0.3 repeating` and `52 in base eight` are not read: such words are no units.
- `x = 7`, `Total cost = 7`, `AB = 7` and `\cos A = 7` are 7; `xy = 7`, `\log x = 7` and `not x = 7` are no numbers.
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
    (?P<sign>{_SIGN})?\s?(?:(?:US)?\$|[€£¥₹]|USD\s|Rs\.?\s)?\s?(?P<late>{_SIGN})?\s?
    (?:(?P<whole>[0-9]{{1,9}})(?:\s?(?={_FRACTION})|\s(?=[0-9]+\s?/\s?[0-9])))?
    (?P<core>
        {_FRACTION} | {_TEN}
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
_CHANGES = re.compile(
    r"half|halves|quarters?|thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|hundredths?|thousandths?|"
    r"minus|plus|times|not|never|no|wrong|false|incorrect|negative|below|under|pi|mod|squared|cubed|over|sqrt|root|divided|"
    r"factorial|choose|dozen|score|gross|double|twice|thrice|triple|point|repeating|repeated|recurring|base|octal|binary|hex|"
    r"hexadecimal|complement|inverse|reciprocal|conjugate|infinity|theta|alpha|beta|zero|one|two|three|four|five|six|seven|"
    r"eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|"
    r"hundred|thousand|million|billion|trillion|(?:arc)?(?:sin|cos|tan|cot|csc)h?|log|ln|lg|exp",
    re.IGNORECASE,
)
"""Words that make another number of the one beside them."""
_JOINS = re.compile(
    "and|or|to|by|than|remainder|rem|if|but|is|are|was|about|approximately|roughly|except|without|excluded|excluding|"
    "exclusive|where|when|for",
    re.IGNORECASE,
)
"""Words that say more than a unit does."""
_UNIT_WORD = re.compile(r"(?P<glue>[\s/*·-]*)(?P<word>[a-zA-ZµΩ°'¢€£]+)\.?(?:\s?\^\s?\{?[23]\}?|[²³])?")
_NAME = re.compile(r"(?P<letters>[a-zA-Z]|\\?[a-zA-Z]{2,10})(?:_\{?\w{1,5}\}?)?'?(?P<of>\([^()=]{1,10}\))?")
_FUNCTIONS = ("gcd", "lcm", "max", "min")
"""What may stand before brackets in front of a number, as single letters may: `gcd(4, 6) = 2`."""
_SHORT_NAMES = frozenset(("sum", "day", "age", "tax", "fee", "pay", "gcd", "lcm", "max", "min", "net", "ans"))
_MEASURED = re.compile(
    r"m?\s?\\(?:angle|overline|triangle|widehat)\s?\{?\s?[A-Z]{1,3}\s?\}?|\[[A-Z]{3,4}\]|\|(?:[zw]|[A-Z]{1,2})\|"
    r"|\\(?:sin|cos|tan)\s?(?:\(?(?:\\angle\s?)?[A-Z]{1,3}\)?|\(?\\(?:theta|alpha|beta|phi)\s?\)?)"
    r"|\\frac\s?\{d\s?[a-z]?\}\s?\{d\s?[a-z]\}"
)
r"""`\angle ABC`, `[ABC]`, `|z|`, `\cos A`, `\frac{dy}{dx}`: in front of a value they say what it is."""


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
    behind = unit(match["rest"])
    if behind is None:
        return None
    try:
        size = (literal(match["whole"] or "0") + evaluate(match["core"])) * behind.value
    except ExpressionError:
        return None
    negative = (match["sign"] or match["late"] or "+") in MINUS
    return Number(-size if negative else size, behind.percent)


def unit(rest: str) -> Number | None:
    """What the words behind a number make of it: a factor (3 million) and per cent. None: these are no units."""
    factor, percent = Fraction(1), False
    glued = not rest[:1].isspace()
    rest = rest.strip()
    if rest.startswith("%"):
        rest, percent, glued = rest[1:].strip(), True, False
    words, counting = 0, True
    while rest:
        match = _UNIT_WORD.match(rest)
        if match is None or words == 5:
            return None
        word, bare = match["word"], not match["glue"]
        counting = counting and word.lower() in _MAGNITUDES and (bare or words > 0)
        if counting:  # 5 hundred thousand
            factor *= _MAGNITUDES[word.lower()]
        elif not _is_unit(word, glued and words == 0 and bare) or (words == 0 and not bare and len(word) == 1):
            return None
        percent = percent or word.lower() in ("percent", "pct")
        rest, words = rest[match.end() :].lstrip(), words + 1
    return Number(factor, percent)


def _is_unit(word: str, glued: bool) -> bool:
    if word.startswith(("°", "'", "¢", "€", "£")):
        return True
    if _CHANGES.fullmatch(word) or _JOINS.fullmatch(word):
        return False
    if glued:
        return len(word) > 1 and _GLUED.fullmatch(word) is not None
    return (
        word in _SINGLE
        or len(word) > 2
        or _GLUED.fullmatch(word) is not None
        or word.lower() in ("of", "a", "an", "per", "sq", "cu")
    )


def _after_equals(text: str) -> Number | None:
    """`x = 7`, `f(2) = 7`, `Total cost = 7`, or a true statement that ends in a number."""
    left, _, right = text.rpartition("=")
    number = read_number(right)
    if number is None or _is_name(left.strip()):
        return number
    try:
        sides = [evaluate(side) for side in left.split("=", 8)]
    except ExpressionError:
        return None
    return number if all(side == number.value for side in sides) else None


def _is_name(left: str) -> bool:
    """Whether `left = 7` says of a variable or a quantity that it is 7; `xy`, `\\log x` and `not x` are none."""
    match = _NAME.fullmatch(left)
    if match is None or (len(match["letters"]) > 1 and not match["letters"].startswith("\\")):
        return names_quantity(left) or bool(match and match["of"] and match["letters"] in _FUNCTIONS)
    letters = match["letters"].removeprefix("\\")
    return not _CHANGES.fullmatch(letters) or letters in ("theta", "alpha", "beta")


def names_quantity(left: str) -> bool:
    """Whether the left side of an equation names a quantity in words, or by a sign for what is measured.

    Some word must be one for certain: of four letters, or of capitals. `xy`, `abc` and `abcd` are products.
    """
    if _MEASURED.fullmatch(left):
        return True
    words = left.split()
    if not 1 <= len(words) <= 8 or not all(word.isascii() and word.isalpha() for word in words):
        return False
    return not any(_CHANGES.fullmatch(word) for word in words) and any(_is_word(word) for word in words)


def _is_word(text: str) -> bool:
    if text.lower() in _SHORT_NAMES or (text.isupper() and 2 <= len(text) <= 4):
        return True
    return len(text) >= 4 and text not in "abcdefghijklmnopqrstuvwxyz"


def _tolerance(problem: Problem) -> Fraction:
    written = problem.meta.get("tolerance", 0)
    try:
        tolerance = Fraction(str(written)) if len(str(written)) < 50 else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        tolerance = Fraction(-1)
    if tolerance < 0:
        raise BadGold(f"tolerance {written!r} is not a number of at least 0")
    return tolerance
