r"""Kind `gym`, answers that are compared with the gold answer: how each form is read, and when two are the same.

Reading never guesses: what is not wholly of the form is `Unreadable`. Numbers are compared by value and exactly, texts
letter by letter; the rules that allow for rounding have their tolerance in `meta["tolerance"]`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from thinksmith.verify.expression import ExpressionError, evaluate
from thinksmith.verify.gym.polynomial import monomials
from thinksmith.verify.judgement import Unreadable
from thinksmith.verify.latex import undress

MAX_LENGTH = 20_000
"""Characters of an answer that are read: the largest grids and the longest lists of moves have some thousands."""

_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_MATRIX = re.compile(
    r"\\begin\{(?:[pbvBV]?matrix|array)\}(?:\{[lcr| ]*\})?(.*?)\\end\{(?:[pbvBV]?matrix|array)\}", re.DOTALL
)
_TEXT = re.compile(r"\\(?:text|texttt|mathrm|mathtt|textbf)\s*\{([^{}]*)\}")
_COMMANDS = {
    r"\times": "×", r"\rightarrow": "→", r"\to": "→", r"\longrightarrow": "→", r"\cdot": "*", r"\circ": "°",
    r"\ldots": "…", r"\quad": " ", r"\qquad": " ", r"\left": "", r"\right": "", r"\land": "∧", r"\lor": "∨",
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,60}(?:\.[0-9]{0,60})?|\.[0-9]{1,60})")
_COMPLEX = re.compile(
    r"\(?\s*(?P<real>[+-]?\s*[0-9]{1,30}(?:\.[0-9]{1,30})?(?![0-9.]*\s*\*?\s*[ij]))?\s*"
    r"(?:(?P<sign>[+-])?\s*(?P<imaginary>[0-9]{0,30}(?:\.[0-9]{1,30})?)\s*\*?\s*[ij])?\s*\)?"
)
_CLOCK = re.compile(
    r"(?:(?P<days>[0-9]{1,6})\s*days?(?:\s*,|\s+and)?\s*)?"
    r"(?:(?P<hours>[0-9]{1,4}):(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9](?:\.[0-9]{1,6})?))?)?"
)
_FRACTION = re.compile(
    r"\\[dt]?frac\s*\{\s*(-?[0-9]{1,30})\s*\}\s*\{\s*([0-9]{1,30})\s*\}|(-?[0-9]{1,30})\s*/\s*([0-9]{1,30})"
)


def bare(text: str) -> str:
    """`text` without a code fence, LaTeX's matrices, text macros and arrows, and without what stands around it.

    Lines stay lines, without empty ones; inside a line white space is one space, so that no pattern meets long runs of
    it. Raises Unreadable for a text that is too long.
    """
    lines = [" ".join(line.split()) for line in undress(_unwritten(text)).splitlines()]
    return "\n".join(line for line in lines if line)


def _unwritten(text: str) -> str:
    """Without LaTeX's and Markdown's writing."""
    if len(text) > MAX_LENGTH:
        raise Unreadable(f"longer than {MAX_LENGTH:,} characters")
    if fenced := _FENCE.match(text):
        text = fenced.group(1)
    text = _MATRIX.sub(lambda match: match.group(1).replace(r"\\", "\n").replace("&", " "), text)
    for _ in range(3):
        text = _TEXT.sub(r"\1", text)
    text = re.sub(r"\\[a-zA-Z]+", lambda match: _COMMANDS.get(match.group(), match.group()), text)
    return re.sub(r"\\([_#{}&%$ ])", r"\1", text).replace("−", "-").replace("\u00a0", " ")


def number(token: str) -> Fraction | None:
    """The value of one plain decimal number, or None."""
    return Fraction(token) if _NUMBER.fullmatch(token) and not token.endswith(".") else None


def parsed(text: str) -> Any:
    """`text` as JSON, also with single quotes. Raises Unreadable; NaN and infinities are no JSON."""
    text = _unwritten(text).strip().strip("$`").strip()  # not `bare`, which takes an object's braces for a group
    for candidate in (text, text.replace("'", '"')):
        try:
            return json.loads(candidate, parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
    raise Unreadable("that is no JSON")


def _refuse(name: str) -> None:
    raise ValueError(name)


def rows(text: str) -> list[list[str]]:
    """A grid as it is written: a row a line, cells parted by white space or commas; or a list of lists."""
    text = bare(text)
    if text.replace(" ", "").startswith("[["):
        grid = parsed(text)
        if not all(isinstance(row, list) and all(isinstance(cell, int | float | str) for cell in row) for row in grid):
            raise Unreadable("that is no list of rows")
        return [[str(cell) for cell in row] for row in grid]
    return [re.split(r"[,\s]+", line.strip().strip("[](),")) for line in text.splitlines()]


def items(text: str) -> list[str]:
    """A list on one or more lines: `1 2 3`, `1, 2, 3`, `[1, 2, 3]` or `['1', '2', '3']`."""
    text = " ".join(bare(text).split())
    if re.fullmatch(r"\[\s?\]", text):
        return []
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if not text.strip():
        raise Unreadable("that is no list")
    found = [part.strip() for part in (text.split(",") if "," in text else text.split())]
    return [part[1:-1] if len(part) > 1 and part[0] == part[-1] and part[0] in "'\"" else part for part in found]


def same(a: str, b: str, tolerance: Fraction = Fraction(0)) -> bool:
    """Two cells: equal as numbers (within an absolute tolerance) if both are numbers, else as texts."""
    if a == b:
        return True
    x, y = number(a), number(b)
    return x is not None and y is not None and abs(x - y) <= tolerance


def judge_rows(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same grid, row by row."""
    expected, found = rows(gold), rows(answer)
    if [len(row) for row in expected] != [len(row) for row in found]:
        return f"a grid of another shape: {_shape(found)} instead of {_shape(expected)}"
    allowed = _tolerance(meta)
    wrong = sum(
        not same(a, b, allowed)
        for one, other in zip(expected, found, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    return f"{wrong} cells differ" if wrong else None


def _shape(grid: Sequence[Sequence[str]]) -> str:
    return f"{len(grid)} rows of {'/'.join(sorted({str(len(row)) for row in grid})[:3])}"


def judge_items(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same list in the same order."""
    expected, found = items(gold), items(answer)
    if len(expected) != len(found):
        return f"{len(found)} items instead of {len(expected)}"
    wrong = [a for a, b in zip(expected, found, strict=True) if not same(a, b)]
    return f"{len(wrong)} items differ" if wrong else None


def judge_groups(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same groups of words; neither the order of the groups nor that within a group counts."""
    expected, found = (Counter(tuple(sorted(group)) for group in _lists(text)) for text in (gold, answer))
    return None if expected == found else "other groups"


def judge_partitions(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same partitions, each once; the order of the partitions does not count, that within one does."""
    expected, found = (Counter(tuple(part) for part in _lists(text)) for text in (gold, answer))
    return None if expected == found else "other partitions"


def _lists(text: str) -> list[list[str]]:
    """A list of lists of texts."""
    lists = parsed(text)
    if not isinstance(lists, list) or not all(
        isinstance(one, list) and all(isinstance(word, str) for word in one) for one in lists
    ):
        raise Unreadable("that is no list of lists of words")
    return lists


def judge_fraction(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same numerator and the same denominator: 46/262 is not the answer where 23/131 is."""
    expected, found = _fraction(gold), _fraction(answer)
    if expected == found:
        return None
    equal = expected[0] * found[1] == expected[1] * found[0]
    return "not in lowest terms" if equal else "a different fraction"


def _fraction(text: str) -> tuple[int, int]:
    match = _FRACTION.fullmatch(undress(text[:200]))
    if match is None:
        raise Unreadable("that is no fraction of two whole numbers")
    top, bottom = (int(part) for part in match.groups() if part is not None)
    if not bottom:
        raise Unreadable("a fraction over zero")
    return top, bottom


def judge_hexadecimal(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same whole number in base 16, with 0x before the digits."""
    return None if _hexadecimal(gold) == _hexadecimal(answer) else "a different number"


def _hexadecimal(text: str) -> int:
    match = re.fullmatch(r"(-?)\s?0[xX]([0-9a-fA-F_]{1,1000})", bare(text))
    if match is None:
        raise Unreadable("that is no hexadecimal number such as -0x3f")
    value = int(match.group(2).replace("_", "") or "0", 16)
    return -value if match.group(1) else value


def judge_complex(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same real and the same imaginary part, exactly."""
    return None if _complex(gold) == _complex(answer) else "a different number"


def _complex(text: str) -> tuple[Fraction, Fraction]:
    text = bare(text)[:200]
    match = _COMPLEX.fullmatch(text)
    if match is None or not text or (match["real"] is None and match["imaginary"] is None):
        raise Unreadable("that is no number such as 3 - 2i")
    if match["real"] and match["imaginary"] is not None and not match["sign"]:
        raise Unreadable("there is no sign between the two parts")
    real = Fraction((match["real"] or "0").replace(" ", ""))
    imaginary = Fraction(match["imaginary"] or "1") if match["imaginary"] is not None else Fraction(0)
    return real, -imaginary if match["sign"] == "-" else imaginary


def judge_point(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same two coordinates within the tolerance; fractions are read."""
    expected, found = _numbers(gold), _numbers(answer)
    if len(found) != len(expected):
        return f"{len(found)} coordinates instead of {len(expected)}"
    allowed = _tolerance(meta)
    near = all(abs(a - b) <= allowed for a, b in zip(expected, found, strict=True))
    return None if near else "a different point"


def judge_roots(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same numbers in any order, each within the tolerance."""
    expected, found = sorted(_numbers(gold)), sorted(_numbers(answer))
    if len(found) != len(expected):
        return f"{len(found)} values instead of {len(expected)}"
    allowed = _tolerance(meta)
    near = all(abs(a - b) <= allowed for a, b in zip(expected, found, strict=True))
    return None if near else "a different value"


def _numbers(text: str) -> list[Fraction]:
    """Numbers with commas between them, as arithmetic: `(7/23, -1.217)`."""
    text = bare(text)
    if text.startswith(("(", "[", "{")) and text.endswith((")", "]", "}")):
        text = text[1:-1]
    try:
        return [evaluate(part) for part in re.sub(r"\b[a-zA-Z]\s*=", "", text).split(",", 50)]
    except ExpressionError as error:
        raise Unreadable(f"that is no list of numbers: {error}") from None


def judge_duration(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same days, hours, minutes and seconds: `17 days, 03:43`, `02:38:05`, `4 days`."""
    return None if _duration(gold) == _duration(answer) else "a different duration"


def _duration(text: str) -> Fraction:
    """In seconds."""
    text = bare(text)[:100]
    match = _CLOCK.fullmatch(text)
    if re.fullmatch(r"[0-9]{1,6}", text):  # a count of days without the word
        return Fraction(text) * 86_400
    if match is None or (match["days"] is None and match["hours"] is None):
        raise Unreadable("that is no duration such as 17 days, 03:43")
    days, hours, minutes, seconds = (Fraction(match[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def judge_polynomial(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same polynomial, multiplied out and collected: each power once."""
    expected, found = monomials(bare(gold)), monomials(bare(answer))
    return None if expected == found else "a different polynomial"


def judge_integral(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same polynomial apart from the constant, which may be C or left out."""
    expected, found = (monomials(bare(text), constant="C") for text in (gold, answer))
    return None if expected == found else "its derivative is another one"


def judge_factors(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """The same prime factors, in any order, each as often."""
    expected, found = sorted(_factors(gold)), sorted(_factors(answer))
    return None if expected == found else "other factors"


def _factors(text: str) -> list[int]:
    parts = [part.strip() for part in re.split(r"[×x*·]", bare(text)[:2_000])]
    found: list[int] = []
    for part in parts:
        match = re.fullmatch(r"([0-9]{1,30})(?:\s*\^\s*\{?\s*([0-9]{1,2})\s*\}?)?", part)
        if match is None:
            raise Unreadable("that is no product of whole numbers")
        found += [int(match.group(1))] * int(match.group(2) or 1)
    return found


def judge_palindrome(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """Any palindrome of exactly the given letters."""
    text = bare(answer).casefold()
    if text != text[::-1]:
        return "it does not read the same backwards"
    if Counter(text) != Counter(gold.casefold()):
        return "it is not made of the given letters"
    return None


def judge_roles(gold: str, answer: str, meta: Mapping[str, Any]) -> str | None:
    """`Zoey is a fool, and Riley is a sage`: the same role for everybody, in any order, nobody twice."""
    expected, found = _roles(gold), _roles(answer)
    if set(expected) != set(found):
        return "not the people that were asked about"
    wrong = [name for name, role in expected.items() if found[name] != role]
    return f"wrong about {len(wrong)} of {len(expected)}" if wrong else None


def _roles(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*\n\s*", bare(text).casefold().strip(". ")):
        match = re.fullmatch(r"(?:and )?(\w{1,40}) is an? (\w{1,40})", part.strip())
        if match is None or match.group(1) in found:
            raise Unreadable('that is not like "Zoey is a fool, and Riley is a sage"')
        found[match.group(1)] = match.group(2)
    return found


def _tolerance(meta: Mapping[str, Any]) -> Fraction:
    return Fraction(str(meta.get("tolerance", 0)))
