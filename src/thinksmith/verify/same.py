"""Are two answers the same answer? What votes are counted by: classes of equivalent answers, not of equal strings.

The rules are the verifier's own for the problem's kind, with one answer in the place of the gold one: `1/2`, `0.5` and
`\\frac{1}{2}` are one class. The gold answer is never looked at. Verifiers let a right answer be written in ways that
do not work the other way round (`5040` for the gold answer `7!`), so two answers are the same if either would be right
were the other the gold one. Kinds whose answers are not written but judged by a rule (programs, patterns, puzzles) are
compared as texts; countdown expressions by their value and the numbers that they use, which is all that is asked of
them: an expression that reaches the target with other numbers stands apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from thinksmith.errors import UserError
from thinksmith.records import Problem, Trace
from thinksmith.verify.expression import ExpressionError, parse
from thinksmith.verify.extract import extract
from thinksmith.verify.latex import MAX_ANSWER, plain
from thinksmith.verify.verdict import VERIFIERS, unfinished

_BY_RULE = ("number", "math", "choice", "exact", "remainder", "json")


def final(problem: Problem, trace: Trace) -> str | None:
    """What the trace gives as its answer; None where it was cut off, failed, or names none. Gold is not looked at."""
    if unfinished(trace):
        return None
    blind = replace(problem, answer=None)
    verifier = VERIFIERS.get(problem.kind)
    found = verifier.taken(blind, trace.answer) if verifier else extract(trace.answer)
    return found.text if found and found.text.strip() else None


def same(problem: Problem, a: str, b: str) -> bool:
    """Whether two answers to the problem are the same. Symmetric; may wait for a worker, up to its deadline."""
    if " ".join(a.split()) == " ".join(b.split()):
        return True
    if problem.kind == "countdown":
        return _value(a) is not None and _value(a) == _value(b)
    if problem.kind not in _BY_RULE or max(len(a), len(b)) > MAX_ANSWER:
        return False
    meta = {key: value for key, value in problem.meta.items() if key != "schema"}
    bare = replace(problem, meta=meta)
    return _right(bare, a, b) or _right(bare, b, a)


def classes(problem: Problem, answers: Sequence[str | None]) -> list[int | None]:
    """The class of each answer, numbered by first appearance; None for no answer.

    An answer joins the first class whose first member it is the same as.
    """
    first: list[str] = []
    found: list[int | None] = []
    for answer in answers:
        if answer is None:
            found.append(None)
            continue
        at = next((at for at, member in enumerate(first) if same(problem, member, answer)), len(first))
        if at == len(first):
            first.append(answer)
        found.append(at)
    return found


def _right(problem: Problem, gold: str, answer: str) -> bool:
    try:
        return VERIFIERS[problem.kind].judge(replace(problem, answer=gold), answer) is None
    except UserError:  # something is missing on this machine
        raise
    except Exception:  # unreadable, too dear to decide, or beyond a grader: then they are not known to be the same
        return False


@lru_cache(maxsize=4096)
def _value(answer: str) -> tuple[str, ...] | None:
    """What a countdown answer comes to, and the numbers in it, in order of size; of `3 * 8 = 24` those of the side with
    operators. None for what is no expression, or a false equation."""
    try:
        sides = [parse(side) for side in plain(answer[:MAX_ANSWER]).split("=")]
    except ExpressionError:
        return None
    if len({side.value for side in sides}) > 1:
        return None
    said = next((side for side in sides if side.operators), sides[0])
    return (str(said.value), *map(str, sorted(said.numbers)))
