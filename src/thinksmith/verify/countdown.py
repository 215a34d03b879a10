"""Kind `countdown`: any expression that reaches `meta["target"]` with `meta["numbers"]`, each used exactly once.

The gold answer is one solution among many, and need not be there. Allowed are + - * / with brackets; a division must
come out whole unless `meta["fractions"]` is true (the game of 24 allows 8 / (3 - 8 / 3)). The expression may be
followed by `= 24`, which must be true. A sign is not an operation on a number, so `-3 + 27` is as good as `27 - 3`.
Powers are not allowed, nor are numbers glued together: 3 and 5 do not make 35.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from thinksmith.records import Problem
from thinksmith.verify.expression import Expression, ExpressionError, parse
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.latex import MAX_ANSWER, plain

_MAX_NUMBERS = 100


def judge(problem: Problem, answer: str) -> str | None:
    """None if `answer` is a valid expression that reaches the target, else why not. Raises BadGold or Unreadable."""
    numbers, target = _asked(problem)
    if len(answer) > MAX_ANSWER:
        raise Unreadable("too long for an expression")
    expression, result = _sides(plain(answer))
    if result is not None and result != expression.value:
        return f"it says {result} but makes {expression.value}"
    if expression.value != target:
        return f"it makes {expression.value}, not {target}"
    if "^" in expression.operators:
        return "powers are not allowed"
    if Counter(expression.numbers) != Counter(numbers):
        return f"it must use each of {_listed(numbers)} once, and uses {_listed(expression.numbers)}"
    if not expression.whole and not problem.meta.get("fractions"):
        return "a division does not come out whole"
    return None


def check(problem: Problem) -> str | None:
    """Why `meta` asks for nothing, or why the gold answer, where there is one, is no solution; else None."""
    try:
        _asked(problem)
        reason = None if problem.answer is None else judge(problem, problem.answer)
    except (BadGold, Unreadable) as error:
        return str(error)
    return reason and f"gold answer {(problem.answer or '')[:50]!r} is no solution: {reason}"


def _listed(numbers: Sequence[Fraction]) -> str:
    return ", ".join(map(str, numbers))


def _asked(problem: Problem) -> tuple[list[Fraction], Fraction]:
    numbers, target = problem.meta.get("numbers"), problem.meta.get("target")
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or not 1 <= len(numbers) <= _MAX_NUMBERS:
        raise BadGold('meta["numbers"] is not a list of numbers')
    try:
        return [_number(number) for number in numbers], _number(target)
    except (ValueError, ZeroDivisionError):
        raise BadGold('meta["numbers"] and meta["target"] must be numbers') from None


def _number(value: object) -> Fraction:
    text = str(value).casefold()
    if len(text) > 400 or len(text.partition("e")[2]) > 4:  # 1e999999999 would be written out in full
        raise ValueError("too large a number")
    return Fraction(text)


def _sides(text: str) -> tuple[Expression, Fraction | None]:
    """The expression, and what it is said to be equal to. `24 = 3 * 9 - 3` is read as well."""
    sides = text.split("=")
    if len(sides) > 2:
        raise Unreadable("that has more than one equals sign")
    try:
        read = [parse(side) for side in sides]
    except ExpressionError as error:
        raise Unreadable(f"that is no expression: {error}") from None
    if len(read) == 1:
        return read[0], None
    left, right = read if read[0].operators or not read[1].operators else reversed(read)
    return left, right.value
