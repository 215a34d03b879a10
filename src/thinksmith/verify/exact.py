"""Kind `exact`: the same text, apart from case, dressing (`**Monday**.`) and the amount of white space.

Where case matters, the problem says so with `meta["case"]`: true.
"""

from __future__ import annotations

from thinksmith.records import Problem
from thinksmith.verify.extract import Extracted, extract
from thinksmith.verify.judgement import BadGold
from thinksmith.verify.latex import MAX_ANSWER, plain


def taken(problem: Problem, text: str) -> Extracted | None:
    """The final answer in `text`; where nothing is marked as one, a text no longer than the gold answer is one."""
    return extract(text, like=problem.answer or "")


def judge(problem: Problem, answer: str) -> str | None:
    """None if the texts are the same, else why not. Raises BadGold for an empty gold answer."""
    gold = plain((problem.answer or "")[:MAX_ANSWER])
    if not gold:
        raise BadGold("gold answer is empty")
    if len(answer) > MAX_ANSWER:
        return "too long for a final answer"
    answer = plain(answer)
    if answer == gold:
        return None
    if answer.casefold() != gold.casefold():
        return "a different text"
    return "the case differs" if problem.meta.get("case") is True else None
