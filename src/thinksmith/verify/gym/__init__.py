"""Kind `gym`: answers to the problems `gym/NAME`, by the rule that `meta["rule"]` names.

Most rules are ours: `forms` compares an answer with the gold one, `puzzles` and `moves` hold it against the puzzle.
Rule `scorer` asks the package's own scorer, in the sandbox (`scorer`). Whichever it is, an answer is right or wrong:
the package's part of a reward for what is merely near is wrong here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from thinksmith.records import Problem
from thinksmith.verify.extract import Extracted, extract
from thinksmith.verify.fences import fenced
from thinksmith.verify.gym import forms, moves, puzzles, scorer
from thinksmith.verify.judgement import BadGold, Unreadable

Form = Callable[[str, str, Mapping[str, Any]], str | None]
Puzzle = Callable[[str, Mapping[str, Any]], str | None]

FORMS: dict[str, Form] = {
    "rows": forms.judge_rows,
    "items": forms.judge_items,
    "groups": forms.judge_groups,
    "partitions": forms.judge_partitions,
    "fraction": forms.judge_fraction,
    "hexadecimal": forms.judge_hexadecimal,
    "complex": forms.judge_complex,
    "point": forms.judge_point,
    "roots": forms.judge_roots,
    "duration": forms.judge_duration,
    "polynomial": forms.judge_polynomial,
    "integral": forms.judge_integral,
    "factors": forms.judge_factors,
    "palindrome": forms.judge_palindrome,
    "roles": forms.judge_roles,
}
"""Rules that compare with the gold answer."""

PUZZLES: dict[str, Puzzle] = {
    "sudoku": puzzles.judge_sudoku,
    "futoshiki": puzzles.judge_futoshiki,
    "kakurasu": puzzles.judge_kakurasu,
    "survo": puzzles.judge_survo,
    "queens": puzzles.judge_queens,
    "coloring": puzzles.judge_coloring,
    "cryptarithm": puzzles.judge_cryptarithm,
    "jugs": moves.judge_jugs,
    "hanoi": moves.judge_hanoi,
    "path": moves.judge_path,
    "buttons": moves.judge_buttons,
    "knights": moves.judge_knights,
    "rush_hour": moves.judge_rush_hour,
}
"""Rules that hold the answer against the puzzle, which may have several solutions."""


def judge(problem: Problem, answer: str) -> str | None:
    """None if the answer is right by the problem's rule, else why not.

    Raises BadGold for a rule or facts that cannot be used, Unreadable for an answer that is not of the form; and for
    rule `scorer` also Exceeded, WorkerFailed, and UserError where there is no sandbox or no reasoning-gym.
    """
    rule, gold = problem.meta.get("rule"), problem.answer or ""
    if not gold.strip():
        raise BadGold("gold answer is empty")
    if len(answer) > forms.MAX_LENGTH:
        raise Unreadable(f"longer than {forms.MAX_LENGTH:,} characters")
    if rule == "scorer":
        return scorer.judge(problem.meta, answer)
    try:
        if rule in FORMS:
            return FORMS[rule](gold, answer, problem.meta)
        if rule in PUZZLES:
            return PUZZLES[rule](answer, problem.meta)
    except (KeyError, TypeError, IndexError) as error:
        raise BadGold(f"meta does not hold the facts of a {rule}: {type(error).__name__}: {error}") from None
    raise BadGold(f'meta["rule"] {str(rule)[:40]!r} is no rule of kind gym')


def check(problem: Problem) -> str | None:
    """Why the gold answer cannot be used; None when it can. Quick: the package's scorer is not run."""
    if problem.meta.get("rule") == "scorer":
        return scorer.check(problem.meta, problem.answer or "")
    try:
        reason = judge(problem, problem.answer or "")
    except (BadGold, Unreadable) as error:
        return str(error)
    return reason and f"gold answer is not equal to itself: {reason}"


def taken(problem: Problem, text: str) -> Extracted | None:
    r"""The final answer: `\boxed{}`; else the last fenced block; else, where the gold answer is data or has several
    lines, all of a text that is data, or all that follows the last "answer:"; else what every kind takes."""
    gold = problem.answer or ""
    if r"\boxed" in text or r"\fbox" in text:
        return extract(text)
    if blocks := fenced(text):
        return Extracted(blocks[-1][1], "fenced")
    if gold.startswith(("{", "[")) and (data := text.strip()).startswith(gold[0]):
        return Extracted(data, "whole")
    if (gold.startswith(("{", "[")) or "\n" in gold) and (rest := _after_answer(text)):
        return Extracted(rest, "phrase")
    return extract(text, like=gold)


def _after_answer(text: str) -> str:
    """What follows the last "answer:" or "answer is:", to the end."""
    at = text.casefold().rfind("answer")
    head, colon, rest = text[at:].partition(":") if at >= 0 else ("", "", "")
    return rest.strip(" *\n") if colon and len(head) < 40 and "\n" not in head else ""
