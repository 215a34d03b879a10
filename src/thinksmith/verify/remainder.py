"""Kind `remainder`: a quotient and a remainder, `73 remainder 6`.

Also read: `73 r 6`, `73 R6`, `73 rem. 6`, `73, remainder 6`, `quotient 73 and remainder 6`, `73 with a remainder of 6`.
A plain `73` is read as `73 remainder 0`. `79/12` and `6.58` are not: they say something else than what was asked.
"""

from __future__ import annotations

import re

from thinksmith.records import Problem
from thinksmith.verify.expression import MAX_DIGITS
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.latex import MAX_ANSWER, plain

_COUNT = r"([0-9][0-9,]*)"
_FORM = re.compile(
    rf"(?:(?:the\s)?quotient(?:\sis|\sof|:|\s=)?\s)?{_COUNT}"
    rf"(?:[\s,;]*(?:and\s|with\s)?(?:a\s|the\s)?(?:remainder|remaining|rem\.?|r)(?:\sis|\sof|:|\s?=)?\s?{_COUNT})?",
    re.IGNORECASE,
)


def judge(problem: Problem, answer: str) -> str | None:
    """None if quotient and remainder are those of the gold answer, else why not. Raises BadGold or Unreadable."""
    gold = read_remainder(problem.answer or "")
    if gold is None:
        raise BadGold(f'gold answer {problem.answer!r} is not like "73 remainder 6"')
    read = read_remainder(answer)
    if read is None:
        raise Unreadable("that is no quotient with a remainder")
    if read == gold:
        return None
    if read[0] == gold[0]:
        return "the remainder differs"
    return "the quotient differs" if read[1] == gold[1] else "quotient and remainder differ"


def read_remainder(text: str) -> tuple[int, int] | None:
    """(quotient, remainder) as whole numbers, or None."""
    if len(text) > MAX_ANSWER:
        return None
    match = _FORM.fullmatch(plain(text))
    if match is None:
        return None
    quotient, remainder = match.group(1).replace(",", ""), (match.group(2) or "0").replace(",", "")
    if max(len(quotient), len(remainder)) > MAX_DIGITS:
        return None
    return int(quotient), int(remainder)
