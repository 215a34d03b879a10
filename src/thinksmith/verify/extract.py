r"""The final answer out of an answer's text: what was taken, and under which rule.

Rules, in this order; the first that finds something decides:

1. `boxed`: the last `\boxed{…}` or `\fbox{…}` that is not empty. Boxes joined only by a comma, "and" or "or" are one
   answer with several parts, so `\boxed{3} or \boxed{4}` is "3, 4": right if that list is the gold answer, or if each
   part alone is right (`\boxed{\frac{1}{2}} or \boxed{0.5}`); naming two answers to have one of them right does not
   pay. If the last box is never closed there is no answer at all: an earlier box was not the last word.
2. `####`: GSM8K's mark, on the last line.
3. `tag`: the last closed `<answer>…</answer>` that is not empty, in which R1-Zero's template asks for answers; of
   "the answer is 5" in it, what follows the phrase. Tags joined like boxes have parts like boxes.
4. `phrase`: what follows the last "the answer is", "Answer:" or "answer =", up to the end of the sentence, or the
   contents of the display (`$$…$$`, `\[…\]`) or fenced block that follows.
5. `bare`: the whole text, if it is one short line of at most four words, or no longer than the text `like`: the gold
   answer or the options, where these are texts.
6. `last number`: only when asked for; it pays for numbers that were never meant as an answer.

Kinds whose answers are whole texts take them by rules of their own: `fenced`, the contents of a fenced block, and
`whole`, all of the text. The caller passes the answer part of a trace, never its thinking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from thinksmith.verify.expression import NUMBER
from thinksmith.verify.latex import MAX_ANSWER, undress

Rule = Literal["boxed", "####", "tag", "phrase", "bare", "last number", "fenced", "whole"]

_BRACE = re.compile(
    r"\\(?:boxed|fbox)\s{0,3}\{|\\(?:boxed|fbox)(?:\s{1,3}|(?=[0-9]))(?P<single>[^\s{}$\\])|\\[\s\S]|[{}]"
)  # like TeX, a command without braces takes one sign: \boxed12 is 1 in a box, and a 2 behind it
_JOIN = re.compile(r"(?:[\s,;$]|\\[()\[\]]|\b(?:and|or)\b)*")
_HASHES = re.compile(r"####[ \t]*([^\n#]+)\Z")
_TAG = re.compile(r"<(?P<closing>/?)answer>", re.IGNORECASE)
_THEREFORE = r"(?:,?\s{1,3}(?:therefore|thus|hence|clearly|indeed|equal to)\b,?(?=:?\s{1,3}\S))?"
_PHRASE = re.compile(rf"\banswer(?:\*\*)?\s{{0,3}}(?:\bis\b{_THEREFORE}\s{{0,3}}:?|:|=)", re.IGNORECASE)
_SENTENCE_END = re.compile(
    r"[.!?](?=\s|$|\*\*)|\n(?!\s{0,9}or\b)|,?\s(?:because|since|which|where|so that|as)\b", re.IGNORECASE
)
_BLOCK = re.compile(r"(?P<opening>\$\$|\\\[|\\\(|```)(?:(?<=```)[\w+#.-]*[ \t]*\n)?\s*")
_CLOSING = {"$$": "$$", r"\[": r"\]", r"\(": r"\)", "```": "```"}
_DELIMITERS = re.compile(r"(?:\s|\$|\\[()\[\]]|```\w*(?=\s|$)|`)*+")
_SPELLED = re.compile(r"(?P<digits>[0-9]{1,2}) ?\((?P<words>[a-zA-Z]+(?:[- ][a-zA-Z]+)?)\)")
_LAST_NUMBER = re.compile(rf"[-−]?\$?(?:{NUMBER})(?:/[0-9]+)?")
_PROSE_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")

_BARE_LENGTH, _BARE_WORDS = 200, 4
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text that was taken as the answer, the rule that took it, and its `parts` if it came in boxes or tags."""

    text: str
    rule: Rule
    parts: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """For people: "from \\boxed{}"."""
        return {
            "boxed": r"from \boxed{}",
            "####": "after ####",
            "tag": "from <answer>",
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
    if tags := _tags(text):
        parts = _joined(text, tags)
        whole = ", ".join(parts)
        return Extracted(_after_phrase(whole) or whole, "tag", parts)
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


def _tags(text: str) -> list[_Box]:
    """What stands in `<answer>…</answer>`, where it is closed and not empty. One pass."""
    tags: list[_Box] = []
    opening: re.Match[str] | None = None
    for match in _TAG.finditer(text):
        if match["closing"] and opening:
            content = text[opening.end() : match.start()].strip()
            if content and r"\boxed" not in content:  # a box with something in it was found before
                tags.append(_Box(opening.start(), match.end(), content))
        opening = None if match["closing"] else match
    return tags


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
    taken = (_display(rest) or _sentence(rest)).rstrip()
    bare = taken.rstrip(" \t\n*")
    if bare.count("**") % 2 == 0:  # of "is **42**." the first two stars are gone already; of "C) **Paris**" none is
        taken = bare
    if _DELIMITERS.fullmatch(taken):
        return None
    return _without_words(undress(taken)) or None


def _display(rest: str) -> str | None:
    """The contents of the display or fenced block that `rest` begins with; with what else its sentence says, if any."""
    block = _BLOCK.match(rest)
    if block is None:
        return None
    closing = _CLOSING[block["opening"]]
    end = rest.find(closing, block.end())
    if end < 0:
        return _sentence(rest[block.end() :])
    behind = _sentence(rest[end + len(closing) :])
    return rest[block.end() : end] if not behind.strip(" \t\n*,;:`") else rest[: end + len(closing)] + behind


def _sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text


def _without_words(text: str) -> str:
    """`5 (five)` as `5`; whatever else stands in brackets stays, for it may be another answer."""
    match = _SPELLED.fullmatch(text)
    if match is None:
        return text
    tens, ones = divmod(int(match["digits"]), 10)
    units = _ONES.split()
    spelled = (
        units[10 * tens + ones] if tens < 2 else f"{_TENS.split()[tens - 2]} {units[ones] if ones else ''}".strip()
    )
    return match["digits"] if match["words"].lower().replace("-", " ") == spelled else text


def _bare(text: str, like: str) -> str | None:
    longest = max(_BARE_LENGTH, min(2 * len(like), MAX_ANSWER))
    taken = undress(text[: longest + 1])
    if not taken or len(text) > longest or taken.count("\n") > like.count("\n"):
        return None
    if r"\boxed" in taken or _TAG.search(taken):  # they were to mark an answer, and hold none
        return None
    words = max(_BARE_WORDS, len(_PROSE_WORD.findall(like[:MAX_ANSWER])))
    return taken if len(_PROSE_WORD.findall(taken)) <= words else None
