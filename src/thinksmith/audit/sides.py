r"""Reads what stands on either side of an equals sign, and gives up where it could belong to something larger.

A side is the longest stretch of arithmetic that touches the sign. `x + 3 * 4 = 12` has no left side, since the stretch
`+ 3 * 4` begins with an operation; nor has `half of 6 + 4 = 5`, since "of" works on what follows. `3 + 4 = 7x` has no
right side. Labels and dressing are no part of a side: `1. `, `(a) `, `- ` at the head of a line, `**…**`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from thinksmith.verify.expression import ARITHMETIC, SKIP, Expression, ExpressionError, parse

_MAX_SIDE = 1_000
"""Characters of one side; what is longer is not checked."""


class Token(NamedTuple):
    """A piece of text; `kind` is a group of the pattern below. All tokens together are the whole text."""

    kind: str
    text: str
    start: int
    end: int


class Side(NamedTuple):
    """An arithmetic expression that stands at `start:end` in the text."""

    start: int
    end: int
    expression: Expression


_SCAN = re.compile(
    rf"""
      (?P<equals>(?<![=<>!:+\-*/^~≈≠])=(?![=>]))
    | (?P<prose>\\(?:text|textbf|mathrm|mbox|textit)\s?\{{[^{{}}]{{0,200}}\}})
    | (?P<delimiter>\\[()\[\]]|\$\$)
    | (?P<line>\n|\\\\|&)
    | {ARITHMETIC}
    | (?P<skip>[^\S\n]+|{SKIP})
    | (?P<dollar>\$)
    | (?P<command>\\[a-zA-Z]+)
    | (?P<word>[^\W\d_][\w']*)
    | (?P<other>[\s\S])
    """,
    re.VERBOSE,
)
_OPERATORS = frozenset({"plus", "minus", "times", "over", "power"})
_INSIDE = _OPERATORS | {"number", "raised", "frac", "open", "close", "skip"}
_EDGES = frozenset({"equals", "delimiter", "line", "dollar"})

_WORKS_ON_WHAT_FOLLOWS = re.compile(
    "of|times|plus|minus|over|by|than|from|twice|thrice|half|double|triple|sqrt|root|log|ln|exp|sin|cos|tan|sec|csc|cot|"
    "arc(?:sin|cos|tan)|gcd|lcm|max|min|abs|floor|ceil|mod|modulo|divided|multiplied|squared|cubed|choose|percent|"
    "square|cube|sum|negative|power|base|remainder|factorial|"
    "(?:week|day|step|case|problem|question|page|chapter|level|grade|part|item|year|room|equation|option|example|method|"
    "line|row|column|figure|table|number|no|version|round|test|team|group)s?",
    re.IGNORECASE,
)
_WORKS_ON_WHAT_STOOD = re.compile(
    "times|plus|minus|over|percent|squared|cubed|factorial|divided|multiplied|mod|modulo|remainder|rem|choose|to|raised|"
    "per|hundred|thousand|million|billion|trillion|dozens?|hal(?:f|ves)|thirds?|quarters?|carry|carrying|carried|radians",
    re.IGNORECASE,
)
_LEADS_TO_A_CLAIM = re.compile(
    "is|so|get|gets|gives|give|have|has|then|now|also|that|check|thus|hence|wait|therefore|or|but|because|since|as|write|"
    "means|actually|indeed|again|verify|yes|hmm|okay|ok|compute|calculate|calculating|with|instead",
    re.IGNORECASE,
)
"""Words after which a side may begin with a sign, or be one number."""
_GOES_ON = re.compile(
    r"\\(?:implies|[rR]ightarrow|[lL]ongrightarrow|Leftrightarrow|iff|to|q?quad|approx|neq?|leq?|geq?|lt|gt|therefore|"
    r"because|end|begin|boxed|checkmark|tag)"
)
"""LaTeX commands that part a formula from the next."""


def scan(text: str) -> list[Token]:
    """All tokens of a text. Linear."""
    return [
        Token(match.lastgroup or "other", match.group(), match.start(), match.end()) for match in _SCAN.finditer(text)
    ]


def right_side(tokens: list[Token], equals: int) -> Side | None:
    """What stands to the right of the equals sign with this index."""
    first = _over_space(tokens, equals + 1, 1)
    index = first
    unmatched: list[int] = []
    while index < len(tokens) and tokens[index].kind in _INSIDE:
        if tokens[index].kind == "open":
            unmatched.append(index)
        elif tokens[index].kind == "close":
            if not unmatched:
                break
            unmatched.pop()
        index += 1
    if unmatched:  # 3 + 4 = 7 (as before)
        index = unmatched[0]
        if not _begins_a_remark(tokens, index):
            return None
    last = index
    while last > first and tokens[last - 1].kind == "skip":
        last -= 1
    parted = last < index or index >= len(tokens) or tokens[index].kind in ("line", "other", "delimiter")
    if last - first > 1 and parted and tokens[last - 1].text in ("*", "**") and tokens[last - 2].kind != "skip":
        return _side(tokens, first, last - 1)  # the end of **bold**
    if last == first or tokens[last - 1].kind in _OPERATORS:
        return None
    if not unmatched and not _ends_well(tokens, index, glued=last == index):
        return None
    return _side(tokens, first, last)


def left_side(tokens: list[Token], equals: int) -> Side | None:
    """What stands to the left of the equals sign with this index."""
    last = _over_space(tokens, equals - 1, -1)
    index = last
    unmatched: list[int] = []
    while index >= 0 and tokens[index].kind in _INSIDE:
        if tokens[index].kind == "close":
            unmatched.append(index)
        elif tokens[index].kind == "open":
            if not unmatched:
                break
            unmatched.pop()
        index -= 1
    if unmatched:  # (a) 3 + 4 = 7
        index = unmatched[0]
        if not tokens[index].text.endswith(")") or tokens[index + 1].kind != "skip":
            return None
    start = index + 1
    while start < last and tokens[start].kind == "skip":
        start += 1
    if start > last or not (unmatched or _starts_well(tokens, index, glued=start == index + 1)):
        return None
    first = _without_mark(tokens, start, index)
    if first is None or first > last or _continues_a_number(tokens, index, first):
        return None
    side = _side(tokens, first, last + 1)
    labelled = index >= 0 and tokens[index].kind == "word" and not _LEADS_TO_A_CLAIM.fullmatch(tokens[index].text)
    return None if side and labelled and not side.expression.operators else side


def _begins_a_remark(tokens: list[Token], opening: int) -> bool:
    """Whether a bracket that is not arithmetic is a remark in words: parted by a space, and beginning with a word."""
    if tokens[opening - 1].kind != "skip" or opening + 1 >= len(tokens):
        return False
    word = tokens[opening + 1]
    return word.kind == "word" and len(word.text) > 1 and not _WORKS_ON_WHAT_STOOD.fullmatch(word.text)


def _without_mark(tokens: list[Token], first: int, stop: int) -> int | None:
    """Where the side begins without a bullet or the begin of **bold**; None if it begins with an operation."""
    token, following = tokens[first], tokens[first + 1] if first + 1 < len(tokens) else None
    if token.kind not in _OPERATORS or following is None:
        return first if token.kind != "raised" else None
    before = tokens[stop] if stop >= 0 else None
    new_line = before is None or before.text == "\n"
    if following.kind == "skip":
        bullet = token.text in "-*+–" and new_line and not _formula_before(tokens, stop)
        return first + 2 if bullet else None
    if token.text in ("*", "**"):
        return first + 1
    signed = token.kind == "minus" and (
        before is None or before.kind in _EDGES or before.kind == "open" or _LEADS_TO_A_CLAIM.fullmatch(before.text)
        or before.text in ",:;."
    )  # fmt: skip
    return first if signed else None


def _formula_before(tokens: list[Token], stop: int) -> bool:
    """Whether the line before ends in the middle of a formula, so that this line's sign may go on with it."""
    index = stop
    while index >= 0 and tokens[index].kind in ("skip", "line"):
        if tokens[index].text == "\\\\":
            return True
        index -= 1
    alone = not any(token.kind == "equals" for token in tokens[max(0, index - 40) : index])
    return index >= 0 and stop - index < 3 and tokens[index].kind in ("number", "close") and alone


def _over_space(tokens: list[Token], index: int, step: int) -> int:
    """Past white space next to an equals sign, and past one break of the line (with LaTeX's `\\\\` and `&`)."""
    newlines = 0
    while 0 <= index < len(tokens) and tokens[index].kind in ("skip", "line"):
        newlines += tokens[index].text.count("\n")
        if newlines > 1:
            break
        index += step
    return index


def _starts_well(tokens: list[Token], stop: int, *, glued: bool) -> bool:
    """Whether what stands before a left side cannot belong to it."""
    if stop < 0:
        return True
    token = tokens[stop]
    if token.kind == "open":
        before = _over_space(tokens, stop - 1, -1)
        return before < 0 or tokens[before].kind not in _OPERATORS
    if token.kind in _EDGES:
        return True
    if token.kind == "word":
        return not glued and len(token.text) > 1 and not _WORKS_ON_WHAT_FOLLOWS.fullmatch(token.text)
    if token.kind == "command":
        return _GOES_ON.fullmatch(token.text) is not None
    if token.kind == "prose":
        return token.text.rstrip("} ").endswith((":", ","))
    return token.text in "→⇒∴—\"'“”‘’`<>≤≥≠≈•✓" or (not glued and token.text in ".,:;?!|" and not _dots(tokens, stop))


def _ends_well(tokens: list[Token], stop: int, *, glued: bool) -> bool:
    """Whether what stands behind a right side cannot belong to it."""
    if stop >= len(tokens):
        return True
    token, following = tokens[stop], tokens[stop + 1] if stop + 1 < len(tokens) else None
    if token.kind == "line":
        after = _over_space(tokens, stop, 1)
        goes_on = after < len(tokens) and tokens[after].kind in ("plus", "over", "times", "power")
        return not (goes_on and tokens[after].text != "*") and not (
            token.text == "\\\\" and after < len(tokens) and tokens[after].kind == "minus"
        )
    if token.kind in _EDGES or token.kind == "close":
        return True
    if token.kind == "word":
        if glued or len(token.text) == 1 or _WORKS_ON_WHAT_STOOD.fullmatch(token.text):
            return False
        return token.text != "and" or not _fraction_at(tokens, stop + 1)  # 5 and 2/3
    if token.kind == "command":
        return _GOES_ON.fullmatch(token.text) is not None
    if token.kind == "prose":
        return not any(_WORKS_ON_WHAT_STOOD.fullmatch(word) for word in re.findall("[a-z]+", token.text.lower()))
    if token.text in ".,:":
        return following is None or following.kind in _EDGES | {"skip", "close"} or following.text in "\"'”’*_`<"
    return token.text in "→⇒∴—;\"'“”‘’`<>≤≥≠≈✓✗❌" or (not glued and token.text == "|")


def _dots(tokens: list[Token], index: int) -> bool:
    """Whether this is a dot, and not one that ends a sentence."""
    return index > 0 and tokens[index].text == "." and tokens[index - 1].kind in (_OPERATORS | {"other", "skip"})


def _fraction_at(tokens: list[Token], index: int) -> bool:
    """Whether a fraction comes next, perhaps after space, a currency sign or a bracket."""
    while index < len(tokens) and tokens[index].kind in ("skip", "dollar", "open"):
        index += 1
    kinds = [token.kind for token in tokens[index : index + 2]]
    return kinds[:1] == ["frac"] or kinds == ["number", "over"]


def _continues_a_number(tokens: list[Token], stop: int, first: int) -> bool:
    """`14, 400 / 80` (thousands with a space) and `1 and 1/4 = 15`: the side is the end of a longer number."""
    if stop < 1:
        return False
    before = _over_space(tokens, stop - 1, -1)
    if before < 0 or tokens[before].kind != "number":
        return False
    thousands = (
        tokens[stop].text == "," and tokens[first].kind == "number" and re.fullmatch(r"\d{3}", tokens[first].text)
    )
    return bool(thousands) or (tokens[stop].text == "and" and _fraction_at(tokens, first))


def _side(tokens: list[Token], first: int, last: int) -> Side | None:
    start, end = tokens[first].start, tokens[last - 1].end
    if last <= first or end - start > _MAX_SIDE:
        return None
    if any(re.match(r"0\d", token.text) for token in tokens[first:last]):
        return None  # 0900 is a time of day or a code
    text = "".join(token.text for token in tokens[first:last])
    try:
        return Side(start, end, parse(text))
    except ExpressionError:
        return None
