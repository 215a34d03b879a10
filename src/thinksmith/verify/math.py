r"""Kind `math`: numbers, expressions, equations, lists, sets, tuples, intervals, matrices and words, as LaTeX has them.

How an answer is built is read by our own rules (`math_form.py`), and must be the gold answer's; then part by part:

- numbers by the rule of kind `number`, exactly: no rounding, so `0.3333333` is not `\frac{1}{3}`;
- words as they stand, apart from case: never as products of letters, of which `even` and `neve` are the same;
- times as they are written, `6:00` is not `12:00`; `7:30` equals `7:30 am`, as if a unit were left out;
- numerals with a base as they are written: `52_8` is neither `52` nor `42`;
- lists, sets and unions in any order, each part once; tuples, intervals and matrices in order, with their brackets;
- an inequality in one variable as the interval that it means, `-1 < x \leq 2` as `(-1, 2]`;
- expressions and equations by algebra (`math_algebra.py`, over math-verify's reader), in a worker with a deadline.

What is certain without algebra is decided here, in microseconds: the same writing is right, another number, another
number of parts or another kind of bracket is wrong. Decided on purpose:

- **Left to compute.** If the gold answer is a plain number, so must the answer be: `15 + 27` is not an answer to "what
  is 15 + 27?". If the gold answer is a constant such as `2\sqrt{2}`, the answer may use no function (`\sin`, `\log`,
  `!`) that the gold answer does not use. The other way round is right: `5040` for the gold answer `7!`.
- **Names.** `x = 3` equals `3`, and not `y = 3`.
- **Never a part for the whole**: `1` and `\{1\}` are wrong for `\{1, 2\}`; `\{1\}` is right for `1`.
- **An equation for an expression** is wrong, except as a name in front: `y = 2x` equals `2x`, `x^2 + y^2 = 1` not `1`.
- **Equations** are the same if one is the other times a constant.
- **Functions of real variables** are the same if they agree wherever both are real: `\sqrt{x^2}` is not `x`.
- **Units** are taken off, also per cent and degrees, by the rules of kind `number`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from thinksmith.records import Problem
from thinksmith.verify import workers
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.latex import MAX_ANSWER, plain
from thinksmith.verify.math_form import Form, is_prose, read, read_beside
from thinksmith.verify.number import same

Settle = Callable[[Form, Form], str | None]
"""Decides what needs algebra: "" for the same, why not otherwise; None leaves it open."""

_SETS = ("union", "()", "(]", "[)", "[]", "relation")
_TASK = "thinksmith.verify.math_algebra:compare"


def judge(problem: Problem, answer: str) -> str | None:
    """None if the answers are the same by the rules above, else why not.

    Raises BadGold for an empty or huge gold answer, Unreadable for an answer that is beyond our reader's bounds,
    workers.Exceeded if algebra takes too long, workers.WorkerFailed if it broke.
    """
    gold = problem.answer or ""
    if not plain(gold[:MAX_ANSWER]) or len(gold) > MAX_ANSWER:
        raise BadGold("gold answer is empty or too long")
    if len(answer) > MAX_ANSWER:
        return "too long for a final answer"
    form = read(gold)
    reason = compare(form, read_beside(form, answer), _leave_open)
    if reason is None:
        reason = _by_algebra(gold, answer)
    return reason or None


def same_maths(a: str, b: str) -> bool:
    """Whether two answers are certainly the same, without algebra and without a worker."""
    form = read(a)
    return compare(form, read_beside(form, b), _leave_open) == ""


@lru_cache(maxsize=4096)
def _by_algebra(gold: str, answer: str) -> str:
    return str(workers.call(_TASK, gold, answer, seconds=workers.DEADLINE))


def _leave_open(gold: Form, answer: Form) -> str | None:
    return None


def compare(gold: Form, answer: Form, settle: Settle) -> str | None:
    """ "" if the forms are the same, why not if they are not, None if `settle` left open what it hangs on."""
    if gold.name and answer.name and not _same_name(gold.name, answer.name):
        if gold.number is not None or answer.number is not None or gold.parts or answer.parts:
            return f"{answer.name} is another variable than {gold.name}"
        return settle(gold, answer)
    if gold.number is not None and answer.number is not None:
        return "" if same(gold.number, answer.number) else "a different number"
    if gold.text and gold.text == answer.text and gold.kind == answer.kind:
        return ""
    if is_prose(gold) or is_prose(answer):
        return "a different text"
    if "base" in (gold.kind, answer.kind):
        return "a different numeral; the base is part of it"
    if gold.kind == "time" == answer.kind:
        return "" if _same_time(gold.text, answer.text) else "a different time or ratio"
    if gold.kind != answer.kind:
        return _across_kinds(gold, answer, settle)
    if gold.kind in ("expression", "relation", "words"):
        return settle(gold, answer)
    if len(gold.parts) != len(answer.parts):
        return settle(gold, answer) if gold.kind == "union" else _counted(gold, answer)
    if gold.kind in ("list", "union") and not _told_apart_by_place(gold, answer):
        return _in_any_order(gold.parts, answer.parts, settle)
    return _in_order(gold.parts, answer.parts, settle)


def _same_name(a: str, b: str) -> bool:
    """`y` may stand for `f(x)`, which names the same by another custom."""
    return a == b or ("(" in a) != ("(" in b)


def _same_time(a: str, b: str) -> bool:
    """`7:30 am` is `7:30`, for `am` counts as a unit that may be left out, and not `7:30 pm`."""
    (clock, *half), (other_clock, *other_half) = a.split(), b.split()
    return clock == other_clock and (half == other_half or not half or not other_half)


def _across_kinds(gold: Form, answer: Form, settle: Settle) -> str | None:
    """Different kinds of forms: the same only in the few ways that are meant."""
    for one, other, swapped in ((gold, answer, False), (answer, gold, True)):
        if one.kind == "list" and len(one.parts) == 1:
            return compare(other, one.parts[0], settle) if swapped else compare(one.parts[0], other, settle)
        if one.kind == "list" and not one.parts and other.text == r"\emptyset":
            return ""
    if gold.number is not None:
        return "not a plain number, which the expected answer is" if answer.kind == "expression" else _named(answer)
    kinds = {gold.kind, answer.kind}
    if kinds <= {"number", "expression", "time"}:
        return settle(gold, answer)
    if "expression" in kinds and r"\begin" in gold.source and r"\begin" in answer.source:
        return settle(gold, answer)  # a matrix, and one with a factor in front
    if kinds == {"relation", "expression"} and (gold.name or answer.name):
        return settle(gold, answer)
    intervals = all(kind[0] in "([" for kind in kinds)
    if all(form.kind in _SETS or _is_set(form) for form in (gold, answer)) and not intervals:
        return settle(gold, answer)
    return _named(answer)


def _is_set(form: Form) -> bool:
    return form.kind == "expression" and any(
        word in form.source for word in (r"\mathbb", r"\setminus", r"\emptyset", r"\cap")
    )


def _named(answer: Form) -> str:
    called = {"list": "a list or a set", "()": "a tuple or an interval", "expression": "an expression"}
    other = "an interval" if answer.kind[0] in "([" else f"a {answer.kind.partition(' ')[0]}"
    return f"another kind of answer: {called.get(answer.kind, other)}"


def _counted(gold: Form, answer: Form) -> str:
    return f"{len(answer.parts)} parts, not {len(gold.parts)}"


def _told_apart_by_place(gold: Form, answer: Form) -> bool:
    """Whether one list names different variables and the other none: then their order tells them apart."""
    names = [len({part.name for part in form.parts if part.name}) for form in (gold, answer)]
    return min(names) == 0 and max(names) > 1


def _in_order(gold: Sequence[Form], answer: Sequence[Form], settle: Settle) -> str | None:
    reasons = [compare(x, y, settle) for x, y in zip(gold, answer, strict=True)]
    for place, reason in enumerate(reasons, 1):
        if reason:
            return f"part {place}: {reason}" if len(gold) > 1 else reason
    return None if None in reasons else ""


def _in_any_order(gold: Sequence[Form], answer: Sequence[Form], settle: Settle) -> str | None:
    """Each part of the answer may stand for one of the gold answer; being the same is transitive, so greed does."""
    left, rest, is_open = list(answer), list[Form](), False
    for part in gold:
        found = next((other for other in left if compare(part, other, settle) == ""), None)
        if found is None:
            rest.append(part)
        else:
            left.remove(found)
    for part in rest:
        reasons = [compare(part, other, settle) for other in left]
        if None not in reasons:
            return f"nothing in it is {part.source[:60]}"
        is_open = True
    return None if is_open else ""


def refuse(reason: str) -> None:
    """For the worker's side: the answer cannot be read within our bounds."""
    raise Unreadable(reason)
