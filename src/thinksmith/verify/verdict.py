"""Is it right? `verify(problem, trace) -> Verdict` by the problem's kind."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from thinksmith.errors import UserError
from thinksmith.records import Problem, Trace, Verdict
from thinksmith.verify import countdown, exact, math, number, remainder
from thinksmith.verify.extract import Extracted, extract
from thinksmith.verify.judgement import BadGold, Unreadable

Judge = Callable[[Problem, str], str | None]
"""None if the answer is right, else why it is wrong. May raise BadGold and Unreadable."""

VERIFIERS: dict[str, Judge] = {
    "number": number.judge,
    "remainder": remainder.judge,
    "countdown": countdown.judge,
    "math": math.judge,
    "exact": exact.judge,
}


def verify(problem: Problem, trace: Trace, *, last_number: bool = False) -> Verdict:
    """The verdict on a trace. Raises UserError for an unknown `problem.kind`, and nothing else.

    Only `trace.answer` is looked at, never the thinking. In this order: gold that cannot be used is `bad_gold`; an
    engine's failure is `error`; thinking that was not closed, or an answer that was cut off by length, is
    `truncated` whatever it says; nothing to take as an answer is `no_answer`. `last_number` switches on the fallback
    of `extract`. A failure of our own is `error` with its name, so that it never counts as a wrong answer.
    """
    judge = _judge(problem.kind)
    if reason := check_gold(problem):
        return Verdict("bad_gold", reason=reason)
    if early := _unfinished(trace):
        return early
    try:
        extracted = extract(trace.answer, last_number=last_number)
        if extracted is None:
            return Verdict("no_answer", reason="no final answer found")
        return _decide(problem, judge, extracted)
    except Exception as error:  # what a grader cannot handle must never count against the model
        return Verdict(
            "error", reason=f"the {problem.kind} verifier failed: {type(error).__name__}: {_short(str(error))}"
        )


def check_gold(problem: Problem) -> str | None:
    """Why the problem's gold answer cannot be verified against itself; None when it can.

    Raises UserError for an unknown kind.
    """
    judge = _judge(problem.kind)
    if problem.answer is None:
        return "has no answer"
    try:
        reason = judge(problem, problem.answer)
    except (BadGold, Unreadable) as error:
        return _line(str(error))
    except Exception as error:
        return f"the {problem.kind} verifier failed on it: {type(error).__name__}: {_short(str(error))}"
    return None if reason is None else f"gold answer {_short(problem.answer)} is not equal to itself: {_line(reason)}"


def _judge(kind: str) -> Judge:
    if kind not in VERIFIERS:
        near = get_close_matches(kind[:100], VERIFIERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(VERIFIERS)}"
        raise UserError(f"no verifier for answers of kind {_short(kind)!r}{hint}")
    return VERIFIERS[kind]


def _unfinished(trace: Trace) -> Verdict | None:
    if trace.finish == "error":
        return Verdict("error", reason=_line(trace.error) or "the engine failed")
    if trace.thinking_status == "truncated":
        return Verdict("truncated", reason="the thinking was never finished")
    if trace.finish == "length":
        return Verdict("truncated", reason="the answer was cut off")
    return None


def _decide(problem: Problem, judge: Judge, extracted: Extracted) -> Verdict:
    seen = _short(extracted.text)
    try:
        reason = _judged(problem, judge, extracted)
    except Unreadable as error:
        if extracted.rule == "bare":
            return Verdict("no_answer", reason=f"no final answer found in {seen!r}")
        return Verdict("wrong", 0.0, seen, f"extracted {seen} {extracted.where}: {_line(str(error))}")
    if reason is None:
        return Verdict("correct", 1.0, seen, f"extracted {seen} {extracted.where}")
    expected = "" if problem.kind == "countdown" else f", expected {_short(problem.answer or '')}"
    return Verdict("wrong", 0.0, seen, f"extracted {seen} {extracted.where}{expected}: {_line(reason)}")


def _judged(problem: Problem, judge: Judge, extracted: Extracted) -> str | None:
    """Several boxes are right together, as a list, or each alone, as different writings of one answer."""
    if 1 < len(extracted.parts) <= 8:
        try:
            if all(judge(problem, part) is None for part in extracted.parts):
                return None
        except Unreadable:
            pass
    return judge(problem, extracted.text)


def _short(text: str) -> str:
    """At most 80 characters on one line, for reasons."""
    text = " ".join(text[:400].split())
    return text if len(text) <= 80 else text[:79] + "…"


def _line(text: str) -> str:
    """One line of at most 200 characters."""
    return " ".join(text[:400].split())[:200]
