r"""Cuts a trace into segments by what they do: restate, plan, compute, check, backtrack, conclude.

The text is cut into sentences and lines; each gets a label by the first rule that applies, and neighbours with the same
label are joined. Together the segments are the whole text, without gaps.

1. backtrack: it turns back ("Wait", "Hmm", "that is wrong", "does not fit", "let me try again", a bare "No.").
2. check: it tests what it has ("Check:", "verify", "substitute … back", "makes sense"); computing on that line, or
   after a check that ends with a colon, goes on with the check.
3. conclude: it names the answer (a box, "the answer is"); or it begins with so, therefore, thus or hence and is one of
   the last two sentences.
4. compute: it has a digit and an equals sign (or `\approx`, `≈`).
5. restate: nothing but restating came before, and it tells the task ("we are given", "I need to find", "the problem").
6. plan: it says what to do ("let me", "first", "we need to", "to find").
7. Anything else goes on with what was being done; at the start that is restating, after turning back planning.

These are rules on words: a rough map for reading, and for counting habits over many traces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

SegmentKind = Literal["restate", "plan", "compute", "check", "backtrack", "conclude"]


@dataclass(frozen=True, slots=True)
class Segment:
    """`text` is `source[start:end]`."""

    kind: SegmentKind
    start: int
    end: int
    text: str


_LET = r"\blet(?:'s|’s| me| us)(?: just| now)?"
_BACKTRACK = re.compile(
    r"^\W*(?:wait|hmm+|hold on|oops|scratch that|not quite|nope|no)\b(?=\W|$)|\bwait[,.!—]|"
    rf"{_LET} (?:try (?:again|another|something else|a different)|start over|go back|backtrack|"
    r"re-?(?:do|think|consider|compute|calculate|examine))|"
    r"\b(?:that|this|it)(?:'s|’s| is| was) (?:wrong|incorrect|false|not (?:right|correct|possible|true)|impossible)|"
    r"\b(?:does|did|do|can)(?: not|n't|n’t) (?:work|fit|match|hold|add up|be right)|\bmade an? (?:mistake|error|slip)|"
    r"^\W*go back\b|\bdo (?:it|this|that) again|\btry (?:again|another|a different)|\bstart (?:over|again)",
    re.IGNORECASE,
)
_CHECK = re.compile(
    r"^\W*(?:check|checking|verification|to (?:verify|check|confirm))\b|\bdouble-?check|\bsanity check|"
    rf"\bverify(?:ing)?\b|{_LET} (?:check|confirm|test|make sure)|\bmakes? sense\b|\bchecks out\b|"
    r"\b(?:plug|plugging|substitute|substituting)\b[^.]{0,60}\bback\b|\bconfirm(?:s|ed|ing)? (?:that|this|the)\b",
    re.IGNORECASE,
)
_ANSWER = re.compile(
    r"\\boxed|\\fbox|\banswer(?:\*\*)?\s?(?:is\b|:|=|should be|must be)|^\W*in conclusion", re.IGNORECASE
)
_HENCE = re.compile(r"^\W*(?:so|therefore|thus|hence|consequently)\b", re.IGNORECASE)
_COMPUTE = re.compile(r"=|\\approx|≈")
_RESTATE = re.compile(
    r"\bwe are (?:given|told|asked)\b|\bi(?:'m| am) (?:given|told|asked)\b|\basks? (?:for|us|me)\b|"
    r"\b(?:i|we) (?:need|have|want) to (?:find|determine|figure out)\b|"
    r"\bthe (?:problem|question|task)\b|^\W*(?:given|okay|alright)\b",
    re.IGNORECASE,
)
_PLAN = re.compile(
    rf"{_LET}\b|\b(?:i|we)(?:'ll|’ll| will| need to| should| can| could| must| have to)\b|"
    r"^\W*(?:first|next|then|now|use|recall)\b|\bto (?:find|determine|solve|compute|calculate)\b|"
    r"\b(?:steps?|approach|strategy|plan)\b",
    re.IGNORECASE,
)
_CUT = re.compile(r"\n+\s*|(?<=[.!?])[\"')*]{0,3}\s+")
_LABEL = re.compile(r"\s*(?:\d{1,2}|[a-zA-Z])\.\s*")


def find_segments(text: str) -> list[Segment]:
    """The segments of a text in order; `"".join(s.text for s in segments) == text`. Linear."""
    units = _units(text)
    spoken = [index for index, (start, end) in enumerate(units) if any(map(str.isalnum, text[start:end]))]
    last = set(spoken[-2:])
    kinds: list[SegmentKind] = []
    opening = True
    for index, (start, end) in enumerate(units):
        before = text[units[index - 1][0] : units[index - 1][1]] if index else "\n"
        previous = kinds[-1] if kinds else None
        kinds.append(_kind(text[start:end], before, previous, opening=opening, near_end=index in last))
        opening = opening and kinds[-1] == "restate"
    segments = []
    for kind, group in groupby(range(len(units)), key=kinds.__getitem__):
        indices = list(group)
        start, end = units[indices[0]][0], units[indices[-1]][1]
        segments.append(Segment(kind, start, end, text[start:end]))
    return segments


def _units(text: str) -> list[tuple[int, int]]:
    """Sentences and lines, with the white space behind them."""
    units, start = [], 0
    for cut in _CUT.finditer(text):
        if "\n" not in cut.group() and _LABEL.fullmatch(text, start, cut.end()):
            continue  # "1. Compute" is one sentence
        units.append((start, cut.end()))
        start = cut.end()
    return [*units, (start, len(text))] if start < len(text) else units


def _kind(unit: str, before: str, previous: SegmentKind | None, *, opening: bool, near_end: bool) -> SegmentKind:
    """The label of one sentence. `opening`: nothing but restating came before it."""
    computes = _COMPUTE.search(unit) is not None and any(map(str.isdigit, unit))
    if _BACKTRACK.search(unit):
        return "backtrack"
    if _CHECK.search(unit):
        return "check"
    if _ANSWER.search(unit) or (near_end and _HENCE.search(unit)):
        return "conclude"
    if computes:
        goes_on = previous == "check" and ("\n" not in before or before.rstrip().endswith(":"))
        return "check" if goes_on else "compute"
    if opening and _RESTATE.search(unit):
        return "restate"
    if _PLAN.search(unit):
        return "plan"
    return "plan" if previous == "backtrack" else previous or "restate"
