"""Greatest common divisor and least common multiple, by Euclid."""

from __future__ import annotations

import math
from random import Random

from thinksmith.problems import columns
from thinksmith.problems.family import Family, Parameter, Parameters, make_problem
from thinksmith.problems.writer import Writer, near_miss
from thinksmith.records import Problem

_GCD = (
    "What is the greatest common divisor of {a} and {b}?",
    "What is gcd({a}, {b})?",
    "Compute gcd({a}, {b}).",
    "Find the greatest common divisor of {a} and {b}.",
)
_LCM = (
    "What is the least common multiple of {a} and {b}?",
    "What is lcm({a}, {b})?",
    "Compute lcm({a}, {b}).",
    "Find the least common multiple of {a} and {b}.",
)


def generate(rng: Random, parameters: Parameters) -> Problem:
    op = str(parameters["op"])
    if op == "any":
        op = rng.choice(("gcd", "lcm"))
    largest = int(parameters["largest"]) if op == "gcd" else min(40, int(parameters["largest"]))
    a, b = _operands(rng, largest)
    answer = math.gcd(a, b) if op == "gcd" else math.lcm(a, b)
    prompt = rng.choice(_GCD if op == "gcd" else _LCM).format(a=a, b=b)
    key = f"{op}({min(a, b)},{max(a, b)})"
    return make_problem("divisors", key, prompt, str(answer), "number", op=op, a=a, b=b)


def _operands(rng: Random, largest: int) -> tuple[int, int]:
    """Two different numbers, most often with a common factor: uniform ones would be coprime six times in ten."""
    factors = [factor for factor in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15) if 2 * factor <= largest]
    while True:
        factor = rng.choice(factors)
        a, b = factor * rng.randint(1, largest // factor), factor * rng.randint(1, largest // factor)
        if a != b and min(a, b) >= 4:
            return a, b


def solve(problem: Problem, w: Writer) -> str:
    op, a, b = problem.meta["op"], int(problem.meta["a"]), int(problem.meta["b"])
    result = _work(w, op, a, b)
    if w.wants_check() and not _fits(w, op, a, b, result):
        w.again()
        result = _work(w, op, a, b)
    return str(result)


def _work(w: Writer, op: str, a: int, b: int) -> int:
    large, small = max(a, b), min(a, b)
    divisor = _euclid(w, large, small)
    if op == "gcd":
        return divisor
    w.say("\n")
    # After a slip the division may not come out even; a hasty solver rounds.
    part = w.equation(f"{small} / {divisor}", small // divisor)
    w.say(".\n")
    result = columns.multiply(w, large, part)
    w.say(".")
    return result


def _euclid(w: Writer, large: int, small: int) -> int:
    while small:
        product = w.equation(f"{small} * {large // small}", large // small * small)
        w.say(", ")
        # A slip may have made the product too large; the sign of what is left is then passed over, as one does.
        remainder = abs(w.equation(f"{large} - {product}", large - product))
        large, small = small, remainder
        w.say(", " if small else f", so gcd {large}.")
    return large


def _fits(w: Writer, op: str, a: int, b: int, result: int) -> bool:
    """Does the divisor divide both, is the multiple divided by both?"""
    w.say("\nCheck: ")
    pairs = [(a, result), (b, result)] if op == "gcd" else [(result, a), (result, b)]
    for position, (n, d) in enumerate(pairs):
        quotient, remainder = divmod(n, max(d, 1))
        w.say(f"{n} = {d} * {quotient} + {remainder}" + (", " if not position else "."))
    return all(n % max(d, 1) == 0 for n, d in pairs)


def guess(problem: Problem, rng: Random) -> str:
    return str(max(1, near_miss(int(str(problem.answer)), rng)))


FAMILY = Family(
    name="divisors",
    about="greatest common divisor and least common multiple",
    kind="number",
    parameters={
        "op": Parameter("any", "which", choices=("any", "gcd", "lcm")),
        "largest": Parameter(99, "largest operand of gcd (lcm: at most 40)", low=10, high=99),
    },
    generate=generate,
    solve=solve,
    guess=guess,
)
