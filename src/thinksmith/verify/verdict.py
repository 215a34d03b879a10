"""Is it right? `verify(problem, trace) -> Verdict` by the problem's kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from thinksmith.errors import UserError
from thinksmith.records import Problem, Trace, Verdict
from thinksmith.sandbox import open_sandbox
from thinksmith.verify import choice, code, countdown, exact, gym, json_answer, math, number, regex, remainder
from thinksmith.verify.extract import Extracted, extract
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.workers import DEADLINE, Exceeded

Judge = Callable[[Problem, str], str | None]
"""None if the answer is right, else why it is wrong. May raise BadGold, Unreadable, Exceeded and WorkerFailed."""

JUDGED = "judge"
"""The kind of problems that no rule decides: a model is asked (`thinksmith.verify.model_judge`)."""

TASK = "task"
"""The kind of problems that are tasks for an agent: their world judges its end state, and no text says anything."""
_TOLD = "this is a task for an agent, judged by what it did: --strategy agent"


@dataclass(frozen=True, slots=True)
class Verifier:
    """One kind of answer: how it is judged, and for people by which `rule`.

    `taken` finds the answer in the answer part of a trace. `check` tells why a problem's gold cannot be used; it runs
    before every verdict, so it is quick. Without it the gold answer is judged as an answer, and must be right.
    `reference`: the gold answer, where there is one, is itself a right answer. `expected`: it is what a wrong answer is
    shown beside. `slow`: judging waits for a worker or a sandbox, so several go side by side. `ready` raises UserError
    where what judging needs is not there.
    """

    judge: Judge
    rule: str
    taken: Callable[[Problem, str], Extracted | None] = lambda problem, text: extract(text)
    check: Callable[[Problem], str | None] | None = None
    reference: bool = True
    expected: bool = True
    slow: bool = False
    ready: Callable[[], object] | None = None


VERIFIERS: dict[str, Verifier] = {
    "number": Verifier(number.judge, "one number, exactly"),
    "remainder": Verifier(remainder.judge, "quotient and remainder"),
    "countdown": Verifier(
        countdown.judge,
        "an expression that uses each number once",
        check=countdown.check,
        reference=False,  # `check` has judged it already
        expected=False,
    ),
    "math": Verifier(math.judge, "the same mathematical object", slow=True),
    "exact": Verifier(exact.judge, "the same text", taken=exact.taken),
    "choice": Verifier(
        choice.judge, "the same option and no other", taken=choice.taken, check=choice.check, reference=False
    ),
    "regex": Verifier(
        regex.judge,
        "the pattern matches all of it",
        taken=regex.taken,
        check=regex.check,
        reference=False,
        expected=False,
        slow=True,
    ),
    "json": Verifier(
        json_answer.judge,
        "equal JSON, or JSON by the schema",
        taken=json_answer.taken,
        check=json_answer.check,
        slow=True,
    ),
    "code": Verifier(
        code.judge,
        "it passes the tests",
        taken=code.taken,
        check=code.check_tests,
        expected=False,
        slow=True,
        ready=open_sandbox,
    ),
    "gym": Verifier(gym.judge, "the rule of its data set", taken=gym.taken, check=gym.check, expected=False, slow=True),
}


def verify(problem: Problem, trace: Trace, *, last_number: bool = False) -> Verdict:
    """The verdict on a trace. Raises UserError for an unknown `problem.kind` or kind `judge`, and nothing else.

    Only `trace.answer` is looked at, never the thinking. In this order: gold that cannot be used is `bad_gold`; an
    engine's failure is `error`; thinking that was not closed, or an answer that was cut off by length, is
    `truncated` whatever it says; nothing to take as an answer is `no_answer`; an answer that costs more to decide than
    a verdict may is `timeout`. `last_number` switches on the fallback of `extract`. A failure of our own is tried once
    more, and then is `error` with its name, so that it never counts as a wrong answer. Of a task, whose end state is
    not in its trace, the verdict is `error` too.
    """
    if problem.kind == TASK:
        return unfinished(trace) or Verdict("error", reason=_TOLD)
    verifier = _verifier(problem.kind)
    failure = ""
    for _ in range(2):
        try:
            return _verdict(problem, trace, verifier, last_number)
        except UserError as error:  # something is missing on this machine, and still will be a moment later
            return Verdict("error", reason=line(str(error)))
        except Exception as error:  # what a grader cannot handle must never count against the model
            failure = f"the {problem.kind} verifier failed: {type(error).__name__}: {_short(str(error))}"
    return Verdict("error", reason=line(failure))


def check_gold(problem: Problem, *, thorough: bool = False) -> str | None:
    """Why the problem cannot be verified by its gold; None when it can.

    By default this is quick enough for whole sets: most kinds judge the gold answer against itself, those with tests or
    patterns look whether these can be used. `thorough` also runs what takes its time, such as the tests on the
    reference solution. Raises UserError for an unknown kind.
    """
    if problem.kind in (JUDGED, TASK):
        return None
    verifier = _verifier(problem.kind)
    try:
        fault = _fault(problem, verifier)
        if fault is None and thorough and verifier.check and verifier.reference and problem.answer is not None:
            fault = _against_itself(problem, problem.answer, verifier)
    except UserError:
        raise
    except Exception as error:
        fault = f"the {problem.kind} verifier failed on it: {type(error).__name__}: {_short(str(error))}"
    return fault and line(fault)


def require(kind: str) -> None:
    """See that answers of this kind can be verified here. Raises UserError for an unknown kind, or with what misses."""
    if ready := _verifier(kind).ready:
        ready()


def unfinished(trace: Trace) -> Verdict | None:
    """The verdict on a trace that came to no answer, whatever it says; None for one to be judged."""
    if trace.finish == "error":
        return Verdict("error", reason=line(trace.error) or "the engine failed")
    if trace.thinking_status == "truncated":
        return Verdict("truncated", reason="the thinking was never finished")
    if trace.finish == "length":
        return Verdict("truncated", reason="the answer was cut off")
    return None


def _verifier(kind: str) -> Verifier:
    if kind == JUDGED:
        raise UserError("answers of kind judge need a judging model: thinksmith eval … --judge MODEL")
    if kind == TASK:
        raise UserError("tasks have no answer to verify, an agent does them: thinksmith eval … --strategy agent")
    if kind not in VERIFIERS:
        near = get_close_matches(kind[:100], [*VERIFIERS, JUDGED], 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join([*VERIFIERS, JUDGED])}"
        raise UserError(f"no verifier for answers of kind {_short(kind)!r}{hint}")
    return VERIFIERS[kind]


def _fault(problem: Problem, verifier: Verifier) -> str | None:
    if verifier.check:
        return verifier.check(problem)
    return "has no answer" if problem.answer is None else _against_itself(problem, problem.answer, verifier)


def _against_itself(problem: Problem, gold: str, verifier: Verifier) -> str | None:
    try:
        reason = verifier.judge(problem, gold)
    except (BadGold, Unreadable) as error:
        return str(error)
    except Exceeded as error:
        return f"gold answer {_short(gold)} {error}"
    return None if reason is None else f"gold answer {_short(gold)} is not equal to itself: {line(reason)}"


def _verdict(problem: Problem, trace: Trace, verifier: Verifier, last_number: bool) -> Verdict:
    if fault := _fault(problem, verifier):
        return Verdict("bad_gold", reason=line(fault))
    if early := unfinished(trace):
        return early
    extracted = verifier.taken(problem, trace.answer)
    if extracted is None and last_number:
        extracted = extract(trace.answer, last_number=True)
    if extracted is None:
        return Verdict("no_answer", reason="no final answer found")
    return _decide(problem, verifier, extracted)


def _decide(problem: Problem, verifier: Verifier, extracted: Extracted) -> Verdict:
    seen = _short(extracted.text)
    told = f"extracted {seen} {extracted.where}"
    try:
        reason = _judged(problem, verifier.judge, extracted)
    except BadGold as error:
        return Verdict("bad_gold", reason=line(str(error)))
    except Exceeded as error:
        return Verdict("timeout", 0.0, seen, f"{told}: it {error}")
    except Unreadable as error:
        if extracted.rule in ("bare", "whole"):
            return Verdict("no_answer", reason=f"no final answer found in {seen!r}: {line(str(error))}")
        return Verdict("wrong", 0.0, seen, f"{told}: {line(str(error))}")
    if reason is None:
        return Verdict("correct", 1.0, seen, told)
    expected = f", expected {_short(problem.answer)}" if verifier.expected and problem.answer is not None else ""
    return Verdict("wrong", 0.0, seen, f"{told}{expected}: {line(reason)}")


def _judged(problem: Problem, judge: Judge, extracted: Extracted) -> str | None:
    """Several boxes are right together, as a list, or each alone, as different writings of one answer."""
    begin = time.monotonic()
    if 1 < len(extracted.parts) <= 8 and _each(problem, judge, extracted.parts):
        return None
    if time.monotonic() - begin > DEADLINE:  # many boxes have no more time than one
        raise Exceeded("time")
    return judge(problem, extracted.text)


def _each(problem: Problem, judge: Judge, parts: Sequence[str]) -> bool:
    begin = time.monotonic()
    try:
        return all(time.monotonic() - begin <= DEADLINE and judge(problem, part) is None for part in parts)
    except Unreadable:
        return False


def _short(text: str) -> str:
    """At most 80 characters on one line, for reasons."""
    text = _printable(text)
    return text if len(text) <= 80 else text[:79] + "…"


def line(text: str) -> str:
    """One line of at most 200 printable characters."""
    return _printable(text)[:200]


def _printable(text: str) -> str:
    """The beginning of a text on one line. What is no visible character (escapes, controls, marks that turn the writing
    around, halves of surrogate pairs) becomes U+FFFD: reasons go to terminals, pages and databases."""
    text = " ".join(text[:400].split())
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
