r"""The final answer out of an answer's text: what was taken, and under which rule.

Rules, in this order; the first that finds something decides:

1. `boxed`: the last `\boxed{…}` or `\fbox{…}` that is not empty. Boxes joined only by a comma, "and" or "or" are one
   answer with several parts, so `\boxed{3} or \boxed{4}` is "3, 4": right if that list is the gold answer, or if each
   part alone is right (`\boxed{\frac{1}{2}} or \boxed{0.5}`); naming two answers to have one of them right does not
   pay. If the last box is never closed there is no answer at all: an earlier box was not the last word.
2. `####`: GSM8K's mark, on the last line.
3. `phrase`: what follows the last "the answer is", "Answer:" or "answer =", up to the end of the sentence.
4. `bare`: the whole text, if it is one short line of at most four words, or no longer than the text `like`: the gold
   answer or the options, where these are texts.
5. `last number`: only when asked for; it pays for numbers that were never meant as an answer.

Kinds whose answers are whole texts take them by rules of their own: `fenced`, the contents of a fenced block, and
`whole`, all of the text. The caller passes the answer part of a trace, never its thinking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from thinksmith.verify.expression import NUMBER
from thinksmith.verify.latex import MAX_ANSWER, undress

Rule = Literal["boxed", "####", "phrase", "bare", "last number", "fenced", "whole"]

_BRACE = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{|\\(?:boxed|fbox)\s{1,3}(?P<single>[^\s{}$\\])|\\[\s\S]|[{}]")
_JOIN = re.compile(r"(?:[\s,;$]|\\[()\[\]]|\b(?:and|or)\b)*")
_HASHES = re.compile(r"####[ \t]*([^\n#]+)\Z")
_PHRASE = re.compile(r"\banswer(?:\*\*)?\s{0,3}(?:\bis\b\s{0,3}:?|:|=)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|\*\*)|\n|,?\s(?:because|since|which|where|so that|as)\b", re.IGNORECASE)
_LAST_NUMBER = re.compile(rf"[-−]?\$?(?:{NUMBER})(?:/[0-9]+)?")
_PROSE_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")

_BARE_LENGTH, _BARE_WORDS = 200, 4


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text that was taken as the answer, the rule that took it, and its `parts` if it came in several boxes."""

    text: str
    rule: Rule
    parts: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """For people: "from \\boxed{}"."""
        return {
            "boxed": r"from \boxed{}",
            "####": "after ####",
            "phrase": 'after "answer"',
            "bare": "as the whole answer",
            "last number": "as the last number",
            "fenced": "from a fenced block",
            "whole": "as the whole answer",
        }[self.rule]


def extract(text: str, *, last_number: bool = False, like: str = "") -> Extracted | None:
    """The final answer in `text` (the answer part of a trace), or None. Linear in the length of the text.

    A bare answer may be as long as the text `like`, in lines and words.
    """
    boxes, unclosed = _boxes(text)
    if unclosed:
        return None
    if boxes:
        parts = _joined(text, boxes)
        return Extracted(", ".join(parts), "boxed", parts)
    text = text.strip()
    if match := _HASHES.search(text, max(0, text.rfind("\n"))):
        return Extracted(match.group(1).strip(), "####")
    if taken := _after_phrase(text):
        return Extracted(taken, "phrase")
    if taken := _bare(text, like):
        return Extracted(taken, "bare")
    if last_number and (numbers := _LAST_NUMBER.findall(text)):
        return Extracted(numbers[-1], "last number")
    return None


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    content: str


def _boxes(text: str) -> tuple[list[_Box], bool]:
    """The outermost boxes that are not empty, and whether the last box of the text was left open. One pass."""
    boxes: list[_Box] = []
    open_braces: list[
        tuple[int, int]
    ] = []  # (where the box's command begins or -1 for a plain brace, where content begins)
    open_boxes = 0
    for match in _BRACE.finditer(text):
        token = match.group()
        if match["single"]:
            if not open_boxes:
                boxes.append(_Box(match.start(), match.end(), match["single"]))
        elif len(token) > 2 and token.endswith("{"):
            open_braces.append((match.start(), match.end()))
            open_boxes += 1
        elif token == "{":
            open_braces.append((-1, match.end()))
        elif token == "}" and open_braces:
            start, inside = open_braces.pop()
            if start >= 0:
                open_boxes -= 1
                if not open_boxes and text[inside : match.start()].strip():
                    boxes.append(_Box(start, match.end(), text[inside : match.start()].strip()))
    return boxes, open_boxes > 0


def _joined(text: str, boxes: list[_Box]) -> tuple[str, ...]:
    """The contents of the last box, and of the boxes before it that only a comma, "and" or "or" parts from it."""
    parts = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not _JOIN.fullmatch(text, box.end, parts[-1].start):
            break
        parts.append(box)
    return tuple(dict.fromkeys(part.content for part in reversed(parts)))


def _after_phrase(text: str) -> str | None:
    ends = [match.end() for match in _PHRASE.finditer(text)]
    if not ends:
        return None
    rest = text[ends[-1] : ends[-1] + MAX_ANSWER].lstrip(" \t\n*:")
    end = _SENTENCE_END.search(rest)
    taken = rest[: end.start()] if end else rest
    return undress(taken.rstrip(" \t\n*")) or None  # of "is **42**." the first two stars are gone already


def _bare(text: str, like: str) -> str | None:
    longest = max(_BARE_LENGTH, min(2 * len(like), MAX_ANSWER))
    taken = undress(text[: longest + 1])
    if not taken or len(text) > longest or taken.count("\n") > like.count("\n") or r"\boxed" in taken:
        return None
    words = max(_BARE_WORDS, len(_PROSE_WORD.findall(like[:MAX_ANSWER])))
    return taken if len(_PROSE_WORD.findall(taken)) <= words else None
