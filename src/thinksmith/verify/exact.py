"""Kind `exact`: the same text, apart from case, dressing (`**Monday**.`) and the amount of white space."""

from __future__ import annotations

from thinksmith.records import Problem
from thinksmith.verify.judgement import BadGold
from thinksmith.verify.latex import MAX_ANSWER, plain


def judge(problem: Problem, answer: str) -> str | None:
    """None if the texts are the same, else why not. Raises BadGold for an empty gold answer."""
    gold = plain((problem.answer or "")[:MAX_ANSWER]).casefold()
    if not gold:
        raise BadGold("gold answer is empty")
    if len(answer) > MAX_ANSWER:
        return "too long for a final answer"
    return None if plain(answer).casefold() == gold else "a different text"
