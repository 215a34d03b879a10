r"""Kind `math`: a number by the rule of kind `number`, else the same LaTeX after normalising.

Normalising takes off delimiters, spaces, `\left \right`, `\displaystyle`, text macros, degrees and a name in front
(`x =`, `x \in`); writes `\dfrac43` as `\frac{4}{3}`, `\sqrt2` as `\sqrt{2}`, `x^2` as `x^{2}`, `52_8` as `52_{8}`,
`\cdot` before a letter or a command as nothing, `≤ ≥ π ∞ ∪ √` as their commands; takes `(C)` for `C`; and lower-cases
what is only words. Then, part by part:

- lists `1, -2` (also with "and" or "or") and sets `\{1, 2\}` in any order; `a \pm b` is the two values; unions of
  intervals in any order;
- tuples and intervals in order, with the same brackets; matrices row by row;
- each part by the rule of kind `number` first, so `(0.5, 3)` equals `\left(\frac{1}{2}, 3\right)`.

What that does not settle is wrong, "not identical after normalising": `2\sqrt{2}` against `\sqrt{8}` is not decided
here. So a right answer can be called wrong, and a wrong one is not called right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from thinksmith.records import Problem
from thinksmith.verify.judgement import BadGold
from thinksmith.verify.latex import MAX_ANSWER, plain
from thinksmith.verify.number import read_number, same

_MAX_PARTS, _MAX_NESTING = 64, 6

_WRITTEN = {
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "≤": r"\leq ", "≥": r"\geq ", "π": r"\pi ",
    "∞": r"\infty ", "∪": r"\cup ", "∈": r"\in ", "±": r"\pm ", "√": r"\sqrt ", "²": "^2", "³": "^3",
}  # fmt: skip
_COMMANDS = {
    r"\le": r"\leq",
    r"\ge": r"\geq",
    r"\ne": r"\neq",
    r"\lbrace": r"\{",
    r"\rbrace": r"\}",
    r"\ast": "*",
    r"\cdot": "*",
}
_NAME_IN_FRONT = re.compile(r"(?:[a-zA-Z]|\\[a-zA-Z]+)(?:\([a-z]\)|_\w)?(?:=|\\in(?![a-zA-Z]))")
_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)
_WORDS = re.compile(r"[a-zA-Z]{2,}(?: [a-zA-Z]+)*")
_CHOICE = re.compile(r"\(([A-Z])\)|([A-Z])\)?")


def judge(problem: Problem, answer: str) -> str | None:
    """None if the answers are the same by the rules above, else why not. Raises BadGold for an empty or huge gold."""
    gold = problem.answer or ""
    if not plain(gold[:MAX_ANSWER]) or len(gold) > MAX_ANSWER:
        raise BadGold("gold answer is empty or too long")
    if len(answer) > MAX_ANSWER:
        return "too long for a final answer"
    if same_maths(gold, answer):
        return None
    both = read_number(gold) is not None and read_number(answer) is not None
    return "a different number" if both else "not identical after normalising"


def same_maths(a: str, b: str, nesting: int = 0) -> bool:
    """Whether two answers are the same by the rules of this kind."""
    number_a, number_b = read_number(a), read_number(b)
    if number_a is not None and number_b is not None:
        return same(number_a, number_b)
    if number_a is not None or number_b is not None:
        return False
    normal_a, normal_b = normalise(a), normalise(b)
    if normal_a == normal_b:
        return bool(normal_a)
    if nesting >= _MAX_NESTING:
        return False
    parts_a, parts_b = _structure(normal_a), _structure(normal_b)
    if parts_a is None or parts_b is None or parts_a[0] != parts_b[0]:
        return False
    return _same_parts(parts_a[0], parts_a[1], parts_b[1], lambda x, y: same_maths(x, y, nesting + 1))


def normalise(text: str) -> str:
    """One writing for what is written in many ways; see the module."""
    text = plain(text)
    if choice := _CHOICE.fullmatch(text):
        return choice.group(1) or choice.group(2)
    if _WORDS.fullmatch(text):
        return text.casefold()
    for sign, command in _WRITTEN.items():
        text = text.replace(sign, command)
    text = re.sub(r"\\[a-zA-Z]+", lambda match: _COMMANDS.get(match.group(), match.group()), text)
    text = re.sub(r"\s(?:and|or)\s", ", ", text).replace("°", "")
    text = re.sub(r"\s+", "", re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", r"\1{}", text))
    text = re.sub(r"(\\sqrt|[\^_])([0-9a-zA-Z])(?![{}])", r"\1{\2}", text)
    text = re.sub(r"\\frac([0-9])([0-9])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac([0-9])\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\{[^{}]*\})([0-9])", r"\1{\2}", text)
    text = re.sub(r"\*(?=[\\a-zA-Z(])", "", text)
    name = _NAME_IN_FRONT.match(text)
    return text[name.end() :] if name and text.count("=") <= 1 else text


def _structure(text: str) -> tuple[str, list[str]] | None:
    """How an answer is built, and of which parts: None when it is one piece. `text` is normalised."""
    if matrix := _MATRIX.fullmatch(text):
        rows = [row.split("&") for row in matrix.group(2).strip("\\").split(r"\\")]
        return "matrix " + "x".join(str(len(row)) for row in rows), [cell for row in rows for cell in row]
    unions = _split(text, r"\cup")
    if len(unions) > 1:
        return "union", unions
    inner, brackets = _outer(text)
    parts = [value for part in _split(inner, ",") for value in _two_signs(part)]
    if brackets in ("", r"\{\}"):
        return ("list", parts) if brackets or len(parts) > 1 else None
    return (brackets, parts) if len(parts) > 1 else None


def _outer(text: str) -> tuple[str, str]:
    """The inside and the brackets, if one pair stands around the whole text."""
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return text[2:-2], r"\{\}"
    if len(text) > 1 and text[0] in "([" and text[-1] in ")]":
        depth = 0
        for position, character in enumerate(text):
            depth += (character in "([") - (character in ")]")
            if depth == 0:
                return (text[1:-1], text[0] + text[-1]) if position == len(text) - 1 else (text, "")
    return text, ""


def _split(text: str, separator: str) -> list[str]:
    """Split where no bracket is open."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        if depth == 0 and text.startswith(separator, position):
            parts.append(text[start:position])
            position += len(separator)
            start = position
            continue
        depth += (text[position] in "([{") - (text[position] in ")]}")
        position += 1
    return [part.removeprefix("{}") for part in [*parts, text[start:]]]


def _two_signs(part: str) -> list[str]:
    r"""`a \pm b` as its two values."""
    if part.count(r"\pm") != 1:
        return [part]
    plus = part.replace(r"\pm{}", "+").replace(r"\pm", "+")
    return [plus.removeprefix("+"), part.replace(r"\pm{}", "-").replace(r"\pm", "-")]


def _same_parts(kind: str, a: Sequence[str], b: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    if len(a) != len(b) or len(a) > _MAX_PARTS:
        return False
    if kind not in ("list", "union"):
        return all(equal(x, y) for x, y in zip(a, b, strict=True))
    left = list(b)
    for x in a:
        found = next((index for index, y in enumerate(left) if equal(x, y)), None)
        if found is None:
            return False
        del left[found]
    return True
