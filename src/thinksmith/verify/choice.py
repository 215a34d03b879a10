r"""Kind `choice`: one of the options A to J, named by its letter or by its own text.

The options may stand in `meta["options"]` (or `meta["choices"]`): a list of texts, or texts by letter. With or
without them a letter may be dressed as people do: `C`, `(C)`, `C.`, `**C**`, `\text{C}`, `Option C`, `the answer is C`,
and text may follow a bracket, full stop, colon or dash, or stand in brackets: `C) Paris`, `C (Paris)`. Behind a comma
it must be the option's own: `C, Paris`. Decided on purpose:

- With options, the whole text of one of them is as good as its letter: the same text apart from case, dressing and
  white space. A part of it is not, nor is a longer text that contains it.
- What names two options is wrong, whichever they are: `A or B`, `A, B`, `C) or D)`, `C) Paris` where Paris is B,
  `B: no. It is C`. A bare letter in an explanation is an option only where the words around it make it one ("it is C",
  "C is right"), for `C) vitamin D` and `C) F = ma` name no other. Its own text behind a letter is never searched.
- What is turned down is not named: `B, not A` and `B) since A is wrong` are B. `B) is wrong` names nothing.
- The gold answer is a letter, the number of an option in `meta["options"]` (from 0), or an option's text. Where it can
  be read in two ways (gold `2` with the options 3, 2, 1) it is `bad_gold`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from thinksmith.records import Problem
from thinksmith.verify.extract import Extracted, extract
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.latex import MAX_ANSWER, plain

LETTERS = "ABCDEFGHIJ"

_NAMING = r"(?:(?:the |my )?(?:final |correct |right |best )*(?:option|choice|answer)(?: is)?:? ?)*"
_LETTER = re.compile(rf"{_NAMING}[(\[]?([A-Ja-j])[)\]]?[.:]?", re.IGNORECASE)
_WITH_TEXT = re.compile(
    rf"{_NAMING}(?:[(\[]([A-Ja-j])[)\]][.:]?|([A-Ja-j])[)\].:]| ?([A-J]) [-–—]) ?(\S.*)", re.IGNORECASE
)
_WITH_ITS_TEXT = re.compile(
    rf"{_NAMING}(?-i:([A-J]))(?: ?\((.+)\)|(?:, ?| (?=not |rather |instead ))(\S.*))", re.IGNORECASE
)
_SEVERAL = re.compile(
    r"(?:both |either )?[(\[]?[A-J][)\]]?(?:(?: ?[,;/&|+] ?| )(?:or |and |both )*[(\[]?[A-J][)\]]?)+", re.IGNORECASE
)
_IT_IS = r"(?i:it is|it's|answer is|one is|should be|must be|would be|say|choose|pick|select)"
_IS_RIGHT = (
    r"(?:is|was|seems|looks|must be|would be) (?:the |also |in fact |actually )*"
    r"(?:(?:right|correct)\b|(?:true|better|best|it|one|answer)(?=[.,;!?]|\Z))"
)
_OTHER = re.compile(
    r"[(\[]([A-J])[)\]]|(?<!\w)([A-J])[)\].:]|\b(?:or|and|option) [(\[]?([A-J])(?!\w)|\A([A-J])\Z"
    rf"|\b{_IT_IS} ([A-J])(?=[.,;!?]|\Z)|(?<![\w°])([A-J]) {_IS_RIGHT}"
)
_REJECTED = re.compile(
    r",? ?(?<!\w)(?:and |but )?(?:not|rather than|instead of) (?:option )?"
    r"[(\[]?[A-J](?!\w)[)\]]?(?: (?:or|nor) [(\[]?[A-J](?!\w)[)\]]?)*"
)
_DENIED = re.compile(
    r"(?:(?:is|was) (?:wrong|incorrect|not (?:right|correct|it))|(?:isn't|cannot be) (?:right|correct|it))\b",
    re.IGNORECASE,
)


def taken(_: Problem, text: str) -> Extracted | None:
    """The final answer in `text`; where nothing is marked as one, the text may be one if it is a single line."""
    whole = text.strip()
    return extract(text) or (Extracted(whole, "whole") if whole and "\n" not in whole else None)


def check(problem: Problem) -> str | None:
    """Why the gold answer and the options cannot be used, or None."""
    try:
        read_gold(problem.answer or "", _options(problem))
    except BadGold as error:
        return str(error)
    return None


def judge(problem: Problem, answer: str) -> str | None:
    """None if `answer` names the gold option and no other, else why not. Raises BadGold or Unreadable."""
    options = _options(problem)
    gold = read_gold(problem.answer or "", options)
    if len(answer) > MAX_ANSWER:
        raise Unreadable("too long to name an option")
    text = plain(answer)
    named = read_choice(text, options)
    if named is None and _SEVERAL.fullmatch(text):
        return "it names more than one option"
    if named is None and _WITH_TEXT.fullmatch(text):
        return "the words behind the letter name another option, or say that it is wrong"
    if named is None:
        raise Unreadable("that names no option" if options else "that is no letter from A to J")
    if options and named not in options:
        return f"there is no option {named}"
    return None if named == gold else "another option"


def read_choice(text: str, options: Mapping[str, str]) -> str | None:
    """The letter of the one option that `text` (plain) names, or None. `options` are plain texts by letter."""
    by_text = [letter for letter, option in options.items() if option == text.casefold()]
    if match := _LETTER.fullmatch(text):
        return match.group(1).upper()
    if by_text:
        return by_text[0] if len(by_text) == 1 else None
    if match := _WITH_TEXT.fullmatch(text):
        letter, rest = next(group for group in match.groups()[:3] if group).upper(), plain(match.group(4))
        return letter if _belongs(letter, rest, options) else None
    if match := _WITH_ITS_TEXT.fullmatch(text):
        letter, rest = match.group(1), plain(match.group(2) or match.group(3))
        own = _behind(rest, options.get(letter, "")) is not None or not _REJECTED.sub("", rest).strip()
        return letter if (own or match.group(2)) and _belongs(letter, rest, options) else None
    return None


def _belongs(letter: str, rest: str, options: Mapping[str, str]) -> bool:
    """Whether the words behind a letter name no other option: they are its text, or some explanation, or both."""
    own = options.get(letter, "")
    behind = _behind(rest, own)
    if behind is None and _DENIED.match(rest):
        return False
    explained = rest if behind is None else behind
    for name, option in options.items():
        said = explained if _contains(own, option) else rest  # "vitamin" is no part of what says "vitamin C"
        if name != letter and option and _contains(said.casefold(), option):
            return False
    return _named(_REJECTED.sub("", explained)) <= {letter}


def _behind(rest: str, own: str) -> str | None:
    """What follows an option's `own` text, with which `rest` begins; None where it does not."""
    if not own or rest[: len(own)].casefold() != own or rest[len(own) : len(own) + 1].isalnum():
        return None
    return rest[len(own) :].strip()


def _named(text: str) -> set[str]:
    """The letters that an explanation names as options."""
    return {letter for match in _OTHER.finditer(text) for letter in match.groups() if letter}


def _contains(text: str, option: str) -> bool:
    """Whether `option` stands in `text` as whole words."""
    return re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text) is not None


def read_gold(gold: str, options: Mapping[str, str]) -> str:
    """The letter of the gold option. Raises BadGold."""
    text = plain(gold[:MAX_ANSWER])
    readings = {letter for letter, option in options.items() if option and option == text.casefold()}
    if text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) < len(options):
        readings.add(list(options)[int(text)])
    if match := _LETTER.fullmatch(text):
        readings.add(match.group(1).upper())
    elif not readings and (named := read_choice(text, options)):
        readings.add(named)
    readings = {letter for letter in readings if not options or letter in options}
    if len(readings) > 1:
        raise BadGold(f"gold answer {gold[:50]!r} can be read as {' or as '.join(sorted(readings))}: give the letter")
    if not readings:
        what = f"is none of the options {', '.join(options)}" if options else "is no letter from A to J"
        raise BadGold(f"gold answer {gold[:50]!r} {what}")
    return readings.pop()


def _options(problem: Problem) -> dict[str, str]:
    """Letter → the option's text, plain and in lower case; empty where none are given. Raises BadGold."""
    given = problem.meta.get("options", problem.meta.get("choices"))
    written = _written(problem)
    if given is not None and not written:
        raise BadGold(f'meta["options"] must be 2 to {len(LETTERS)} texts, as a list or by letter')
    return {letter: plain(text[:MAX_ANSWER]).casefold() for letter, text in written.items()}


def _written(problem: Problem) -> dict[str, str]:
    """Letter → the option's text as it stands in `meta`; empty where that holds no options."""
    given = problem.meta.get("options", problem.meta.get("choices"))
    if isinstance(given, Mapping):
        pairs = [(str(letter).strip().upper(), text) for letter, text in given.items()]
    elif isinstance(given, Sequence) and not isinstance(given, str) and len(given) <= len(LETTERS):
        pairs = list(zip(LETTERS, given, strict=False))
    else:
        return {}
    named = {
        letter: str(text) for letter, text in pairs if letter in set(LETTERS) and isinstance(text, str | int | float)
    }
    return named if 2 <= len(named) == len(pairs) else {}
