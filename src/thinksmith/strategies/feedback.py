"""What a model may be told about a wrong answer: that it is wrong, and what follows from the problem, never the gold.

Reasons of a verdict may name what was expected, or a part of it ("lacks the key …", a pattern, a member of a set), so
they are not passed on. Told is what does not depend on the gold answer at all: the model's own answer, whether it has
the form that is asked for, and the reasons of kinds whose rule stands in the problem (countdown) or is to be tried out
(programs and their tests).
"""

from __future__ import annotations

from dataclasses import replace

from thinksmith.records import Problem, Trace, Verdict
from thinksmith.verify import VERIFIERS
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.same import final
from thinksmith.verify.verdict import line
from thinksmith.verify.workers import Exceeded, WorkerFailed

_SAID = 200
"""Characters of the model's own answer that are said back to it."""
_FORMS = ("number", "remainder", "math", "json", "choice")
"""Kinds whose answers have a form that can be told without the gold answer."""
_ASK = "Look for the mistake, and answer the problem again in the form that it asks for."


def feedback(problem: Problem, trace: Trace, verdict: Verdict) -> str:
    """The next user turn, after a verdict that is neither `correct`, `error` nor `bad_gold`.

    For two gold answers that both make the trace wrong it is the same text, so nothing can be learnt from it but that
    the answer is wrong. May wait for a worker, as long as a verdict may take.
    """
    if verdict.status == "truncated":
        return f"You did not come to an answer: {verdict.reason}. Think more briefly, and answer the problem again."
    answer = final(problem, trace)
    if verdict.status == "no_answer" or answer is None:
        return "No final answer was found in what you wrote. Answer the problem again in the form that it asks for."
    if verdict.status == "timeout":
        return "Your answer could not be checked in time. Make it simpler, and answer the problem again."
    if problem.kind == "code":
        return f"Your program does not pass its tests: {_own_reason(verdict)}. Find the mistake, and write it again."
    said = line(answer[:_SAID])
    if problem.kind == "countdown":
        return f"Your answer {said} is wrong: {_own_reason(verdict)}. {_ASK}"
    if problem.kind in _FORMS and not _well_formed(problem, answer):
        return f"Your answer {said} is wrong: it has not the form that is asked for. {_ASK}"
    return f"Your answer {said} is wrong. {_ASK}"


def _own_reason(verdict: Verdict) -> str:
    """The judge's reason, without what was extracted and from where."""
    told = verdict.reason.removeprefix(f"extracted {verdict.extracted} ")
    return told.partition(": ")[2].rstrip(".") or told


def _well_formed(problem: Problem, answer: str) -> bool:
    """Would it be right were it the gold answer itself? What is not, has not the form that the kind reads."""
    meta = {key: value for key, value in problem.meta.items() if key != "schema"}
    try:
        return VERIFIERS[problem.kind].judge(replace(problem, answer=answer, meta=meta), answer) is None
    except (Unreadable, BadGold, Exceeded, WorkerFailed):
        return False
