r"""Tells quickly that a text holds no false equation, which for most texts spares the search for all of them.

Every `=` is looked at. Most are surely no arithmetic claim, since a letter or another sign that belongs to no number
stands next to them (`x = 7`, `f(2) = y`). Of the others most stand in a plain run of arithmetic (`12 * 7 = 84`,
`\(\frac{84}{7} = 12\)`) whose sides are worked out here, and are equal. What is left is given to `find_equations` with
its surroundings only. So False is certain, and True means that a false equation is likely.

The rules lean on what `audit.sides` takes for a side: the longest stretch of arithmetic that touches the sign. A side
counts as plain only where what stands around it ends that stretch for sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

from thinksmith.audit.equations import find_equations
from thinksmith.verify.expression import ExpressionError, parse

_NOT_BEFORE, _NOT_AFTER = frozenset("=<>!:+-*/^~≈≠"), frozenset("=>")
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})++|[0-9]{1,15}+)(?:\.[0-9]{1,15}+)?"
_SIMPLE = re.compile(rf"{_NUMBER}(?: ?(?:[-+*/×÷·−]|\\times|\\cdot|\\div) ?{_NUMBER})*+")
_CHAIN = re.compile(rf"{_SIMPLE.pattern}(?: ?= ?{_SIMPLE.pattern})++")
_TWO = re.compile(r"([0-9]{1,15}) ?([-+*×·]|\\times|\\cdot) ?([0-9]{1,15})")
_FRACTION = re.compile(r"\\[dt]?frac\{([0-9]{1,15})\}\{([0-9]{1,15})\}")
_BRACKET = re.compile(r"[()\[\]{}]")
_PIECE = re.compile(rf"({_NUMBER})|([-+*/×÷·−]|\\times|\\cdot|\\div)")
_MINUS, _OVER = "-−", ("/", "÷", "\\div")
# A run of arithmetic, equals signs included. It begins with a number or a bracket.
_RUN = re.compile(
    r"(?:[0-9(\[{]|\\[dt]?frac(?![a-zA-Z]))"
    r"(?:[-0-9.,+*/×÷·−^=(){}\[\] ]|\\(?:[dt]?frac|times|cdot|div|left|right)(?![a-zA-Z]))*"
)
_BREAK = re.compile(r"[.,](?![0-9])")
_CLOSING = {")": "(", "]": "[", "}": "{"}

# What may belong to a side or change how it is read; whatever else stands next to a stretch ends it.
_SUSPECT = frozenset("0123456789.,+＋-−–﹣－*×·⋅∙∗/÷∕⁄^()[]{}⁰¹²³⁴⁵⁶⁷⁸⁹⁻~\\!€£xX_'")
_BORDERS = frozenset('\n=<>≤≥≠≈→⇒:;?"')
_LETTERS = r"[^\W\d_⁰¹²³⁴⁵⁶⁷⁸⁹]+"  # raised digits count as letters elsewhere; here they are powers
_AFTER = re.compile(
    r"[ $]*(?:\Z|\n|[;:?\"%<>≤≥≠≈→⇒|]|[.,!](?![0-9.])|\\[)\]]|"
    r"\\(?:q?quad|text|implies|approx|[rR]ightarrow|to)(?![a-zA-Z])|(?P<word>" + _LETTERS + "))",
)
_OPERATION = re.compile(rf"(?P<word>\\?{_LETTERS}) ?[-+*/×÷·−] +\Z")
_GLUED = re.compile(rf"\\?{_LETTERS}\Z")
_COMMAND_BEFORE = re.compile(
    _LETTERS + r"|\\(?:sqrt|binom|[dt]binom|overline|underline|hat|bar|vec|sin|cos|tan|log|ln|exp|max|min|gcd|lcm)"
)
_DECIMALS = re.compile(r"[0-9,]+\.([0-9]+)")
_EXPONENT = re.compile(r"[eE][-+]?[0-9]")
_COMMAND = re.compile(r"\\(?!(?:[dtc]?frac|left|[bB]igg?l?)(?![a-zA-Z]))[a-zA-Z]{2,}")
_PROSE = re.compile(r"\\(?:text|textbf|mathrm|mbox|textit)\{[^{}=]{0,40}\}\Z")
_GAP = re.compile(r"[a-z,] (?=[a-z])")
_LEAST_BEFORE, _LEAST_AFTER, _BULLET = 200, 120, 400
_FARTHEST = 1_200  # characters: more than a side may have
_LONGEST = 200  # characters of a side that is worked out here


def may_be_false(text: str, *, hasty: bool = False) -> bool:
    """False where `find_equations` surely finds no false equation in `text`. Linear in its length; never raises.

    `hasty`: True also where it would take half of the search to tell, for callers who then search anyway.
    """
    if "=" not in text:
        return False
    plain = _plain(text)
    suspects = [at for at in _equals(text) if at not in plain and _is_suspect(text, at)]
    windows = list(_windows(text, suspects))
    if hasty and 2 * sum(end - start for start, end in windows) > len(text):
        return True
    return any(not equation.true for start, end in windows for equation in find_equations(text[start:end]))


def _equals(text: str) -> Iterator[int]:
    """Where equals signs stand that are no part of another sign."""
    at = text.find("=")
    while at >= 0:
        if (not at or text[at - 1] not in _NOT_BEFORE) and text[at + 1 : at + 2] not in _NOT_AFTER:
            yield at
        at = text.find("=", at + 1)


def _plain(text: str) -> set[int]:
    """The equals signs between sides that are plain arithmetic, and equal."""
    found: set[int] = set()
    for run in _RUN.finditer(text):
        body = run.group()
        if "=" not in body:
            continue
        at = run.start()
        if _is_easy(text, at, body):
            found.update(at + place for place, sign in enumerate(body) if sign == "=")
            continue
        sides = body.split("=")
        for number, (left, right) in enumerate(pairwise(sides)):
            at += len(left) + 1
            first, last = number == 0, number == len(sides) - 2
            a, shown = _worth(_left(left, text, run.start() if first else None)), ""
            if a is not None:
                shown = _right(right, text, run.end() if last else None)
            b = _worth(shown) if shown else None
            holds = b is not None and a is not None and (a == b or _is_rounded(a, b, shown))
            if holds or (first and _is_part(text, run.start(), left)):
                found.add(at - 1)
    return found


def _is_easy(text: str, start: int, body: str) -> bool:
    """Whether all of a run is the plainest there is, a chain of numbers and operations between words, and holds: the
    commonest case, told quickly."""
    chain = body.rstrip(" .,")
    if not _CHAIN.fullmatch(chain):
        return False
    before = text[max(0, start - 3) : start]
    between_words = len(before) == 3 and before[2] == " " and before[:2].isalpha()
    if not between_words and before[-1:] not in ("", "\n"):
        return False
    if "\\" in text[max(0, start - 16) : start]:
        return False
    ends = len(chain) < len(body.rstrip(" ")) or text[start + len(body) : start + len(body) + 1] in ("", "\n")
    return ends and _holds(chain)


def _holds(chain: str) -> bool:
    """Whether all sides of a chain are equal."""
    first, *others = (_worth(side.strip()) for side in chain.split("="))
    return first is not None and all(other == first for other in others)


def _is_part(text: str, start: int, side: str) -> bool:
    """Whether a run's first piece is the end of what is surely no arithmetic: `f(2)`, `x_1`, `\\sqrt{9}`, `3x + 2`."""
    if _BREAK.search(side) or _unmatched(side):
        return False
    before = text[max(0, start - 40) : start]
    if before.endswith("_"):
        return True
    if match := _OPERATION.search(before):
        return not match["word"].startswith("\\")
    match = _GLUED.search(before)
    if match is None or side[:1] not in ("(", "[", "{"):
        return False
    return _COMMAND_BEFORE.fullmatch(match.group()) is not None


def _is_rounded(value: int | Fraction, rounded: int | Fraction, shown: str) -> bool:
    """`10 / 3 = 3.33`: as far as the decimals go, and there are more. `audit.equations` takes it for true, too."""
    decimals = _DECIMALS.fullmatch(shown)
    if decimals is None:
        return False
    unit = Fraction(1, 10 ** len(decimals.group(1)))
    exact = Fraction(value)
    return (exact / unit).denominator != 1 and abs(exact - rounded) < unit


def _left(side: str, text: str, start: int | None) -> str:
    """What of a run's piece before an equals sign is a side; "" where that is not sure. `start`: where the run begins,
    if this is its first piece."""
    cut = max((match.end() for match in _BREAK.finditer(side)), default=0)
    opened = _unmatched(side[cut:])
    if opened and opened[0][1] in _CLOSING:
        return ""
    if opened:
        cut += opened[-1][0] + 1
    if start is not None and not cut:
        if text[start - 1 : start] == "\\":
            return side[1:].strip() if side[0] in "([" else ""
        if not _ends_before(text, start):
            return ""
    taken = side[cut:].strip()
    return "" if taken[:1] in ("-", "+", "*", "/", "×", "÷", "·", "−", "^") else taken


def _right(side: str, text: str, end: int | None) -> str:
    """What of a run's piece after an equals sign is a side; "" where that is not sure. `end`: where the run ends, if
    this is its last piece."""
    if match := _BREAK.search(side):
        side, end = side[: match.start()], None
    opened = _unmatched(side)
    closing = [at for at, sign in opened if sign in _CLOSING]
    if closing:
        side, end = side[: closing[0]], None
    elif opened:
        return ""
    return side.strip() if end is None or _ends_after(text, end) else ""


def _unmatched(side: str) -> list[tuple[int, str]]:
    """The brackets without a partner, and where they stand: closing ones come first."""
    waiting: list[tuple[int, str]] = []
    if not _BRACKET.search(side):
        return waiting
    for at, sign in enumerate(side):
        if sign in "([{":
            waiting.append((at, sign))
        elif sign in _CLOSING:
            if waiting and waiting[-1][1] not in _CLOSING:
                waiting.pop()
            else:
                waiting.append((at, sign))
    return waiting


def _ends_before(text: str, start: int) -> bool:
    """Whether no side can begin before this place."""
    at = start - 1
    while at >= 0 and text[at] in " $":
        at -= 1
    if at < 0 or text[at] in _BORDERS:
        return True
    if at == start - 1:
        return False
    if text[at] == "!":
        return text[at - 1 : at] not in ("\\", "!")
    begin = at + 1
    while begin > 0 and text[begin - 1].isalpha() and at - begin < 40:
        begin -= 1
    word = text[begin : at + 1]
    return bool(word) and word not in ("x", "X") and text[begin - 1 : begin] != "\\" and len(word) < 40


def _ends_after(text: str, end: int) -> bool:
    """Whether no side can go on behind this place."""
    after = _AFTER.match(text, end)
    return after is not None and after["word"] not in ("x", "X") and not _EXPONENT.match(text, end)


def _worth(side: str) -> int | Fraction | None:
    """What a side comes to; None where that is not sure."""
    if len(side) > _LONGEST:
        return None
    if side.isdecimal() and side.isascii() and len(side) < 16:
        return int(side)
    if match := _TWO.fullmatch(side):
        a, b = int(match[1]), int(match[3])
        return a + b if match[2] == "+" else a - b if match[2] == "-" else a * b
    if (match := _FRACTION.fullmatch(side)) and int(match[2]):
        return Fraction(int(match[1]), int(match[2]))
    try:
        return _value(side) if _SIMPLE.fullmatch(side) else parse(side).value
    except (ExpressionError, ZeroDivisionError):
        return None


def _value(side: str) -> int | Fraction:
    total: int | Fraction = 0
    product: int | Fraction = 1
    sign, operator = 1, "*"
    for number, symbol in _PIECE.findall(side):
        if symbol and symbol in "+-−":
            total += sign * product
            sign, product, operator = (-1 if symbol in _MINUS else 1), 1, "*"
        elif symbol:
            operator = symbol
        else:
            written = number.replace(",", "")
            value = Fraction(written) if "." in written else int(written)
            product = Fraction(product) / value if operator in _OVER else product * value
    return total + sign * product


def _is_suspect(text: str, at: int) -> bool:
    """Whether an equals sign may have a side of arithmetic both to its left and to its right."""
    left = at - 1
    while left >= 0 and text[left] in " \t":
        left -= 1
    right = at + 1
    while right < len(text) and text[right] in " \t":
        right += 1
    if left < 0 or right >= len(text):
        return False
    before, after = text[left], text[right]
    if before not in _SUSPECT and before not in "\n&$\r" and not before.isspace():
        return False
    if before in "xX_'" or after in "xX_'" or (before == "!" and text[left - 1 : left] != "\\"):
        return False
    if before == "}" and _PROSE.search(text, max(0, left - 60), left + 1):
        return False
    if after == "\\":
        return _COMMAND.match(text, right) is None
    return after in _SUSPECT or after in "\n&$\r" or after.isspace()


def _windows(text: str, places: list[int]) -> Iterator[tuple[int, int]]:
    """Stretches of the text around the places, far enough to see all that a side may lean on; those that touch are
    one."""
    start = end = -1
    for place in places:
        low, high = _low(text, place), _high(text, place)
        if low <= end:
            start, end = min(start, low), max(end, high)
            continue
        if start >= 0:
            yield start, end
        start, end = low, high
    if start >= 0:
        yield start, end


def _low(text: str, place: int) -> int:
    """Between two words, or at the beginning of the line before; further back where the line has a bullet."""
    farthest = max(0, place - _FARTHEST)
    line = text.rfind("\n", farthest, place) + 1 or farthest
    if text[line:place].lstrip(" \t")[:1] in ("-", "+", "*", "–", "−"):
        return text.rfind("\n", 0, max(0, line - _BULLET)) + 1
    first, last = max(line, place - 2 * _LEAST_BEFORE), max(line, place - _LEAST_BEFORE)
    gaps = [match.end() for match in _GAP.finditer(text, first, last)]
    if gaps:
        return gaps[-1]
    before = text.rfind("\n", farthest, max(0, line - 1)) + 1 or farthest
    return text.rfind("\n", farthest, max(0, before - 1)) + 1 or farthest


def _high(text: str, place: int) -> int:
    """Between two words, or at the end of the second line after."""
    farthest = min(len(text), place + _FARTHEST)
    gap = _GAP.search(text, place + _LEAST_AFTER, farthest)
    line = text.find("\n", place, farthest)
    for _ in range(2):
        line = text.find("\n", line + 1, farthest) if line >= 0 else -1
    return min([gap.start() + 1 if gap else farthest, line if line >= 0 else farthest])
