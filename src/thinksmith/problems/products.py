"""Products of two sizes: small ones, which a small model works out in its head, and big ones, which none of them does.

It is made for learning when to call a calculator: `meta["needs_tool"]` says whether a problem is one of the big ones,
and `meta["expression"]` what to ask. It is not part of `mixed`, of which the embedded models were made.
"""

from __future__ import annotations

from random import Random

from thinksmith.problems import columns
from thinksmith.problems.family import Family, Parameter, Parameters, make_problem
from thinksmith.problems.writer import Writer, near_miss
from thinksmith.records import Problem

_WORDINGS = ("What is {e}?", "What is {e}?", "Compute {e}.", "How much is {e}?")


def generate(rng: Random, parameters: Parameters) -> Problem:
    size = str(parameters["size"])
    if size == "any":
        size = rng.choice(("small", "big"))
    if size == "small":
        # The longer ones oftener: there are more of them.
        a, b = _of_digits(rng, max(rng.randint(1, int(parameters["small"])) for _ in range(2))), rng.randint(2, 9)
    else:
        most = int(parameters["big"])
        a, b = _of_digits(rng, rng.randint(4, most)), _of_digits(rng, rng.randint(3, most))
    if rng.random() < 0.5:
        a, b = b, a
    # 3 * 4 and 4 * 3 are one problem: neither may be trained on when the other is held out.
    key = f"{min(a, b)}*{max(a, b)}"
    prompt = rng.choice(_WORDINGS).format(e=f"{a} * {b}")
    meta = {"a": a, "b": b, "size": size, "needs_tool": size == "big", "expression": f"{a} * {b}"}
    return make_problem("products", key, prompt, str(a * b), "number", **meta)


def _of_digits(rng: Random, digits: int) -> int:
    return rng.randint(10 ** (digits - 1) if digits > 1 else 2, 10**digits - 1)


def solve(problem: Problem, w: Writer) -> str:
    a, b = int(problem.meta["a"]), int(problem.meta["b"])
    result = columns.multiply(w, a, b) if min(a, b) < 100 else _long(w, max(a, b), min(a, b))
    w.say(".")
    return str(result)


def _long(w: Writer, a: int, b: int) -> int:
    """A product for each digit of b, from the front, each added to those before it."""
    total = 0
    for place, digit in enumerate(str(b)):
        shifted = int(digit) * 10 ** (len(str(b)) - place - 1)
        if not shifted:
            continue
        part = columns.multiply_digit(w, a, int(digit)) * (shifted // int(digit))
        w.say(f", {a} * {shifted} = {part}.\n")
        if total:
            total = columns.add(w, total, part)
            w.say(".\n")
        else:
            total = part
    w.say(f"So {a} * {b} = {total}")
    return total


def guess(problem: Problem, rng: Random) -> str:
    """Of big ones the product of the first digits, with as many zeros as belong there: as good as a head gets."""
    right = int(str(problem.answer))
    if problem.meta["size"] == "small":
        return str(near_miss(right, rng))
    first, second = str(problem.meta["a"]), str(problem.meta["b"])
    about = int(first[0]) * int(second[0]) * 10 ** (len(first) + len(second) - 2)
    return str(about if about != right else near_miss(right, rng))


FAMILY = Family(
    name="products",
    about="products, half of them too big to be done in the head: for learning when to call a calculator",
    kind="number",
    parameters={
        "size": Parameter("any", "which products", choices=("any", "small", "big")),
        "small": Parameter(3, "most digits of a small product's longer factor (the other has one)", low=1, high=3),
        "big": Parameter(5, "most digits of a big product's factors", low=4, high=6),
    },
    generate=generate,
    solve=solve,
    guess=guess,
)
