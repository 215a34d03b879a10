"""Linear equations in one unknown with a whole-number solution."""

from __future__ import annotations

from random import Random

from thinksmith.problems.family import Family, Parameter, Parameters, make_problem
from thinksmith.problems.writer import Writer, by_magnitudes, near_miss
from thinksmith.records import Problem

FORMS = ("one", "bracket", "both")
_WORDINGS = ("Solve for x: {e}", "Solve {e} for x.", "Find x if {e}.", "What is x if {e}?", "{e}. What is x?")


def generate(rng: Random, parameters: Parameters) -> Problem:
    form = str(parameters["form"])
    if form == "any":
        form = rng.choice(FORMS)
    x = rng.randint(-int(parameters["largest"]) // 2, int(parameters["largest"]))
    a, b, c, d = _coefficients(rng, form, x)
    expression = _equation(form, a, b, c, d)
    prompt = rng.choice(_WORDINGS).format(e=expression)
    return make_problem("equations", expression, prompt, str(x), "number", form=form, a=a, b=b, c=c, d=d)


def _coefficients(rng: Random, form: str, x: int) -> tuple[int, int, int, int]:
    """a x + b = d; a (x + b) = d; a x + b = c x + d."""
    a = rng.randint(2, 9)
    b = rng.choice((-1, 1)) * rng.randint(1, 40 if form == "one" else 9)
    if form == "one":
        return a, b, 0, a * x + b
    if form == "bracket":
        return a, b, 0, a * (x + b)
    a = rng.randint(3, 9)
    c = rng.randint(1, a - 1)
    return a, b, c, a * x + b - c * x


def _signed(n: int) -> str:
    return f"+ {n}" if n >= 0 else f"- {-n}"


def _term(n: int) -> str:
    return "x" if n == 1 else f"{n}x"


def _equation(form: str, a: int, b: int, c: int, d: int) -> str:
    if form == "one":
        return f"{a}x {_signed(b)} = {d}"
    if form == "bracket":
        return f"{a}(x {_signed(b)}) = {d}"
    return f"{a}x {_signed(b)} = {_term(c)} {_signed(d)}"


def solve(problem: Problem, w: Writer) -> str:
    form = str(problem.meta["form"])
    a, b, c, d = (int(problem.meta[name]) for name in "abcd")
    x = _work(w, form, a, b, c, d)
    if w.wants_check() and not _substitute(w, form, a, b, c, d, x):
        w.again()
        x = _work(w, form, a, b, c, d)
    return str(x)


def _work(w: Writer, form: str, a: int, b: int, c: int, d: int) -> int:
    if form == "bracket":
        w.say(f"x {_signed(b)} = ")
        inner = w.equation(f"{d} / {a}", round(d / a))
        w.say(".\nx = ")
        x = w.signed(f"{inner} {_signed(-b)}", inner, "-", b)
        w.say(".")
        return x
    if form == "both":
        w.say(f"{a}x - {_term(c)} = {_term(a - c)}.\n")
    w.say(f"{_term(a - c)} = ")
    right = w.signed(f"{d} {_signed(-b)}", d, "-", b)
    if a - c == 1:
        w.say(".")
        return right
    w.say(".\nx = ")
    # After a slip the division may not come out even; a hasty solver rounds.
    x = w.equation(f"{right} / {a - c}", round(right / (a - c)))
    w.say(".")
    return x


def _substitute(w: Writer, form: str, a: int, b: int, c: int, d: int, x: int) -> bool:
    if form == "bracket":
        inner = by_magnitudes(f"{x} {_signed(b)}", x, "+", b)
        w.say(f"\nCheck: {inner} = {x + b}, {a} * {_bracketed(x + b)} = {a * (x + b)}.")
        return a * (x + b) == d
    w.say(f"\nCheck: {_side(a, b, x)}.")
    if form == "one":
        return a * x + b == d
    w.say(f" {_side(c, d, x)}.")
    return a * x + b == c * x + d


def _side(a: int, b: int, x: int) -> str:
    """a x + b with the value of x put in, worked out."""
    worked = by_magnitudes(f"{a * x} {_signed(b)}", a * x, "+", b)
    return f"{a} * {_bracketed(x)} {_signed(b)} = {worked} = {a * x + b}"


def _bracketed(n: int) -> str:
    return f"({n})" if n < 0 else str(n)


def guess(problem: Problem, rng: Random) -> str:
    return str(near_miss(int(str(problem.answer)), rng))


FAMILY = Family(
    name="equations",
    about="linear equations in x",
    kind="number",
    parameters={
        "form": Parameter("any", "shape of the equation", choices=("any", *FORMS)),
        "largest": Parameter(20, "largest solution", low=5, high=20),
    },
    generate=generate,
    solve=solve,
    guess=guess,
)
