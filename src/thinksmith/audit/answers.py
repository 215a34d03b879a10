"""Where the final answer first stood in the thinking, and whether the thinking ended in another one."""

from __future__ import annotations

import re

from thinksmith.audit.segments import Segment
from thinksmith.verify.expression import NUMBER, ExpressionError, evaluate
from thinksmith.verify.extract import extract
from thinksmith.verify.math import same_maths
from thinksmith.verify.number import Number, read_number
from thinksmith.verify.remainder import read_remainder

_GROUP = r"\{\s?[0-9]{1,40}\s?\}"
_WRITTEN = re.compile(
    rf"(?<![\w.])(?P<minus>[-−]\s?)?(?P<size>\\[dt]?frac{_GROUP}{_GROUP}|[0-9]{{1,40}}/[0-9]{{1,40}}|{NUMBER})(?![\w^])"
)
_CLAIMS = re.compile(
    r"(?:=|≈|→|:|\b(?:so|is|are|answer|get|gets|gives|have|be|total|to)|\\boxed\{|\\approx)[\s$*\\(\[{]{0,6}\Z",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"[\s$)}\\]{0,3}(?:[-+*/^×·÷−%]|\\(?:times|cdot|div|frac|sqrt|pi))|[.,]?\d")
_ENDS_IN = re.compile(
    rf"\b(?:so|answer is|therefore|thus|hence)[,:]?\s+\$?\\?\(?([-−]?(?:{NUMBER})(?:/[0-9]+)?)[\s$)\\.]*\Z",
    re.IGNORECASE,
)
_ENDS_EQUAL = re.compile(rf"=\s?([-−]?(?:{NUMBER})(?:/[0-9]+)?)[\s$)\\.\]]*\Z")
_CONTEXT = 24


def first_appearance(text: str, segments: list[Segment], answer: str) -> tuple[int, int] | None:
    """Start and end of the answer's first appearance as a result in `text`, or None if it never appears.

    A number counts where something leads to it (`=`, "so", "is", "answer", …) and no operation follows, outside of
    restating; if there is no such place, anywhere outside of restating. Other answers are looked for literally.
    """
    restated = segments[0].end if segments and segments[0].kind == "restate" and len(segments) > 1 else 0
    number = read_number(answer)
    if number is None:
        match = re.compile(_literally(answer)).search(text, restated)
        return match.span() if match else None
    anywhere = None
    for match in _WRITTEN.finditer(text, restated):
        if not _is(match, text, number):
            continue
        if _CLAIMS.search(text[max(0, match.start() - _CONTEXT) : match.start()]) and not _GOES_ON.match(
            text, match.end()
        ):
            return match.start(), match.end()
        anywhere = anywhere or (match.start(), match.end())
    return anywhere


def disagree(thinking: str, segments: list[Segment], answer: str) -> bool | None:
    """Whether the thinking's own final value differs from the answer; None if that cannot be told.

    The final value is a box or an "answer is" in the thinking, or else "so 918" at the end of its last part that is no
    check (in a thinking that never concludes also "= 918"). Only values that can be compared count as different:
    numbers, and quotients with remainder; a sign alone does not ("4 - 947: 947 - 4 = 943", then "-943").
    """
    final = _final_value(thinking, segments)
    if final is None or not answer:
        return None
    if same_maths(final, answer):
        return False
    a, b = read_number(final), read_number(answer)
    if a is not None and b is not None:
        return None if abs(a.value) == abs(b.value) else True
    quotients = read_remainder(final), read_remainder(answer)
    return quotients[0] != quotients[1] if None not in quotients else None


def _final_value(thinking: str, segments: list[Segment]) -> str | None:
    named = extract(thinking)
    if named is not None and named.rule in ("boxed", "tag", "phrase"):
        return named.text
    working = _last_working(segments)
    if working is None:
        return None
    ending = _ENDS_IN.search(working.text[-200:])
    if ending is None and not any(segment.kind == "conclude" for segment in segments):
        ending = _ENDS_EQUAL.search(working.text[-200:])
    return ending.group(1) if ending else None


def _last_working(segments: list[Segment]) -> Segment | None:
    """The last segment that is no check, and does not turn back within one ("Check: … Wait, 62 - 41 = 21")."""
    for index in range(len(segments) - 1, -1, -1):
        in_check = segments[index].kind == "backtrack" and index > 0 and segments[index - 1].kind == "check"
        if segments[index].kind != "check" and not in_check:
            return segments[index]
    return None


def _literally(answer: str) -> str:
    """A pattern for an answer that is no number; a quotient with remainder may also stand as `73 + 6`."""
    remainder = read_remainder(answer)
    if remainder is None:
        return re.escape(answer)
    return rf"\b{remainder[0]}\s?(?:\+|,?\s?(?:r|R|rem|remainder)\b\.?)\s?{remainder[1]}\b"


def _is(match: re.Match[str], text: str, number: Number) -> bool:
    """Whether what is written here is the number, with its sign. 10/2 is not taken for 5: it is on the way there."""
    size = match["size"]
    if number.value.denominator == 1 and ("/" in size or "frac" in size):
        return False
    try:
        value = evaluate(size)
    except ExpressionError:
        return False
    before = text[max(0, match.start() - 2) : match.start()].rstrip()
    negative = bool(match["minus"]) and not before[-1:].isalnum() and before[-1:] not in (")", "}")
    return number.value == (-value if negative else value)
