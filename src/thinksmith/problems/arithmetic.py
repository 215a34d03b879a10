"""Arithmetic: sums, differences, products and division with remainder, up to three digits by two."""

from __future__ import annotations

import re
from random import Random

from thinksmith.problems import columns
from thinksmith.problems.family import Family, Parameter, Parameters, make_problem
from thinksmith.problems.writer import Writer, near_miss
from thinksmith.records import Problem

OPERATIONS = ("add", "sub", "mul", "div")
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_WORDS = {"add": "plus", "sub": "minus", "mul": "times", "div": "divided by"}
_WORDINGS = ("What is {e}?", "What is {e}?", "Compute {e}.", "Calculate {e}.", "{e} = ?", "How much is {e}?")
_DIVISIONS = (
    "What is {e} with remainder?",
    "Divide {a} by {b} with remainder.",
    "Compute {e} with remainder.",
    "What are the quotient and the remainder of {e}?",
)


def generate(rng: Random, parameters: Parameters) -> Problem:
    op = str(parameters["op"])
    if op == "any":
        op = rng.choice(OPERATIONS)
    digits = int(parameters["digits"])
    a, b = _operands(rng, op, digits)
    if op == "div":
        quotient, remainder = divmod(a, b)
        answer, kind = f"{quotient} remainder {remainder}", "remainder"
    else:
        answer, kind = str({"add": a + b, "sub": a - b, "mul": a * b}[op]), "number"
    expression = _expression(rng, op, a, b)
    prompt = rng.choice(_DIVISIONS if op == "div" else _WORDINGS).format(e=expression, a=a, b=b)
    # 3 + 4 and 4 + 3 are one problem: neither may be trained on when the other is held out.
    x, y = (min(a, b), max(a, b)) if op in ("add", "mul") else (a, b)
    return make_problem("arithmetic", f"{x}{_SIGNS[op]}{y}", prompt, answer, kind, op=op, a=a, b=b)


def _operands(rng: Random, op: str, digits: int) -> tuple[int, int]:
    # The number of digits is drawn first: uniform operands would almost never be small.
    a = _of_digits(rng, rng.randint(min(2, digits), digits))
    if op == "div":
        return a, rng.randint(2, 12)
    b = _of_digits(rng, rng.randint(1, min(digits, 2 if op == "mul" else 3)))
    return (b, a) if rng.random() < 0.3 else (a, b)


def _of_digits(rng: Random, digits: int) -> int:
    return rng.randint(10 ** (digits - 1) if digits > 1 else 2, 10**digits - 1)


def _expression(rng: Random, op: str, a: int, b: int) -> str:
    style = rng.random()
    if style < 0.15:
        return f"{a} {_WORDS[op]} {b}"
    sign = {"mul": "×", "div": "÷", "sub": "−", "add": "+"}[op] if style < 0.25 else _SIGNS[op]
    return f"{a}{sign}{b}" if style > 0.9 else f"{a} {sign} {b}"


def solve(problem: Problem, w: Writer) -> str:
    op, a, b = problem.meta["op"], int(problem.meta["a"]), int(problem.meta["b"])
    if op == "div":
        return _solve_division(w, a, b)
    result = _work(w, op, a, b)
    w.say(".")
    if w.wants_check() and not _last_digit_fits(w, op, a, b, result):
        w.again()
        result = _work(w, op, a, b)
        w.say(".")
    return str(result)


def _work(w: Writer, op: str, a: int, b: int) -> int:
    if op == "add":
        return columns.add(w, a, b)
    if op == "sub":
        return columns.subtract(w, a, b)
    return columns.multiply(w, a, b)


def _last_digit_fits(w: Writer, op: str, a: int, b: int, result: int) -> bool:
    """The last digit of a result follows from the last digits of the operands: short, and it catches slips there."""
    large, small = (b, a) if op == "sub" and b > a else (a, b)
    x, y = large % 10, small % 10
    if op == "sub" and x < y:
        x += 10
    value = {"add": x + y, "sub": x - y, "mul": x * y}[op]
    w.say(f"\nCheck the last digit: {x} {_SIGNS[op]} {y} = {value}.")
    return value % 10 == abs(result) % 10


def _solve_division(w: Writer, a: int, b: int) -> str:
    quotient, remainder = columns.divide(w, a, b)
    w.say(".")
    if w.wants_check():
        digit = b * (quotient % 10) + remainder
        w.say(f"\nCheck the last digit: {b} * {quotient % 10} + {remainder} = {digit}.")
        if digit % 10 != a % 10:
            w.again()
            quotient, remainder = columns.divide(w, a, b)
            w.say(".")
    return f"{quotient} remainder {remainder}"


def guess(problem: Problem, rng: Random) -> str:
    numbers = [int(n) for n in re.findall(r"-?\d+", str(problem.answer))]
    numbers[0] = near_miss(numbers[0], rng)
    return " remainder ".join(str(n) for n in numbers)


FAMILY = Family(
    name="arithmetic",
    about="sums, differences, products and division with remainder",
    kind="number",
    parameters={
        "digits": Parameter(3, "most digits of an operand", low=1, high=3),
        "op": Parameter("any", "which operation", choices=("any", *OPERATIONS)),
    },
    generate=generate,
    solve=solve,
    guess=guess,
)
