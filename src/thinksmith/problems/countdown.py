"""Countdown: reach a target with three or four numbers, each used once. The trace is a search that backtracks.

The search goes backwards: lay one number aside, see what the others would have to make, try what they make.
For three numbers that is exhaustive and short; for four, one number is laid aside first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from thinksmith.problems.family import Family, Parameter, Parameters, make_problem
from thinksmith.problems.writer import Writer
from thinksmith.records import Problem

_WORDINGS = (
    "Use {n} to make {t}.",
    "Make {t} from {n}, each used once.",
    "Using each of {n} once, reach {t}.",
    "Countdown: numbers {n}, target {t}.",
)


@dataclass(frozen=True, slots=True)
class Made:
    """A value and the expression that makes it; `op` is the outermost operation ("" for a number)."""

    value: int
    text: str
    op: str = ""


def generate(rng: Random, parameters: Parameters) -> Problem:
    numbers = str(parameters["numbers"])
    count = rng.choice((3, 3, 4)) if numbers == "any" else int(numbers)
    largest = int(parameters["largest"])
    while True:
        given = [rng.randint(2, largest) for _ in range(count)]
        made = _random_expression(rng, given)
        if made and 5 <= made.value <= 100 and made.value not in given and _reachable(given, made.value):
            break
    rng.shuffle(given)
    listed = ", ".join(str(n) for n in given[:-1]) + f" and {given[-1]}"
    prompt = rng.choice(_WORDINGS).format(n=listed, t=made.value)
    key = f"{sorted(given)}->{made.value}"
    return make_problem("countdown", key, prompt, made.text, "countdown", numbers=given, target=made.value)


def _random_expression(rng: Random, numbers: list[int]) -> Made | None:
    """Combine the numbers one after another, so that laying them aside in turn is a way back."""
    order = [Made(n, str(n)) for n in rng.sample(numbers, len(numbers))]
    made = order[0]
    for other in order[1:]:
        choices = [m for m in combine(made, other) if m.value <= 150]
        if not choices:
            return None
        made = rng.choice(choices)
    return made


def combine(x: Made, y: Made) -> list[Made]:
    """What two values make: sum, difference (never negative or zero), product, exact quotient."""
    if x.value < y.value:
        x, y = y, x
    made = [Made(x.value + y.value, f"{x.text} + {y.text}", "+")]
    if x.value != y.value:
        made.append(Made(x.value - y.value, f"{x.text} - {_inner(y, '-')}", "-"))
    made.append(Made(x.value * y.value, f"{_inner(x, '*')} * {_inner(y, '*')}", "*"))
    if y.value > 1 and x.value % y.value == 0:
        made.append(Made(x.value // y.value, f"{_inner(x, '/')} / {_inner(y, '/')}", "/"))
    return made


def _inner(made: Made, outer: str) -> str:
    """Bracket an operand where the outer operation binds tighter or does not associate."""
    weak = made.op in ("+", "-") or (outer == "/" and made.op) or (outer == "*" and made.op == "/")
    return f"({made.text})" if weak else made.text


@dataclass(frozen=True, slots=True)
class Need:
    """If the others make `value`, it reaches the target with the number laid aside, joined by `op`; `left` says how."""

    value: int
    left: str
    op: str


def needs(target: int, aside: int) -> list[Need]:
    """The values that would reach the target together with the number laid aside."""
    found = []
    if target > aside:
        found.append(Need(target - aside, f"{target} - {aside}", "+"))
    found.append(Need(target + aside, f"{target} + {aside}", "-"))
    if target % aside == 0:
        found.append(Need(target // aside, f"{target} / {aside}", "*"))
    if target * aside <= 150:
        found.append(Need(target * aside, f"{target} * {aside}", "/"))
    if aside > target:
        found.append(Need(aside - target, f"{aside} - {target}", "from"))
    return found


def finish(made: Made, need: Need, aside: int) -> Made:
    """The expression that joins what was made with the number that was laid aside."""
    if need.op == "from":
        return Made(aside - made.value, f"{aside} - {_inner(made, '-')}", "-")
    if need.op == "+":
        return Made(made.value + aside, f"{made.text} + {aside}", "+")
    if need.op == "-":
        return Made(made.value - aside, f"{made.text} - {aside}", "-")
    if need.op == "*":
        return Made(made.value * aside, f"{_inner(made, '*')} * {aside}", "*")
    # Exact unless a slip led here; 0 then stands for "not a whole number", which is no target.
    quotient = made.value // aside if made.value % aside == 0 else 0
    return Made(quotient, f"{_inner(made, '/')} / {aside}", "/")


def solve(problem: Problem, w: Writer) -> str:
    numbers, target = [int(n) for n in problem.meta["numbers"]], int(problem.meta["target"])
    search = _search_three if len(numbers) == 3 else _search_four
    made = search(w, numbers, target)
    if made and w.wants_check():
        w.say(f"\nCheck: {made.text} = {made.value}.")
        if made.value != target:
            w.again()
            made = search(w, numbers, target)
    # A slip can end the search empty; the last resort is a guess.
    return made.text if made else guess(problem, w.rng)


def _search_three(w: Writer, numbers: list[int], target: int) -> Made | None:
    """Lay each number aside in turn and try all that the other two make."""
    for aside in _order(w.rng, numbers):
        rest = list(numbers)
        rest.remove(aside)
        w.say(f"Use {aside}: ")
        wanted = []
        for position, need in enumerate(needs(target, aside)):
            w.say(", " if position else "")
            wanted.append(Need(w.equation(need.left, need.value), need.left, need.op))
        w.say(". ")
        hit = _try_pair(w, rest[0], rest[1], wanted)
        if hit:
            made = finish(hit[0], hit[1], aside)
            w.say(f" fits: {made.text}.")
            return made
        w.say(". No.\n")
    return None


def _try_pair(w: Writer, x: int, y: int, wanted: list[Need]) -> tuple[Made, Need] | None:
    for position, made in enumerate(combine(Made(x, str(x)), Made(y, str(y)))):
        w.say(", " if position else "")
        value = w.equation(made.text, made.value)
        for need in wanted:
            if need.value == value:
                return made, need
    return None


def _search_four(w: Writer, numbers: list[int], target: int) -> Made | None:
    """Lay one number aside so that three are left. The first choices may fail: then go back and choose again."""
    options = [(aside, need) for aside in _order(w.rng, numbers) for need in needs(target, aside)]
    good = [option for option in options if _solvable(numbers, *option)]
    if not good:
        return None
    failures = [option for option in options if option not in good and option[1].value <= 150]
    tries = w.rng.sample(failures, min(len(failures), w.rng.choice((0, 0, 0, 1))))
    for aside, need in (*tries, w.rng.choice(good)):
        rest = list(numbers)
        rest.remove(aside)
        w.say(f"First {aside}: ")
        value = w.equation(need.left, need.value)
        w.say(f" from {rest[0]}, {rest[1]}, {rest[2]}.\n")
        made = _search_three(w, rest, value) if value > 0 else None
        if made:
            whole = finish(made, need, aside)
            w.say(f" So {whole.text}.")
            return whole
        w.say("Wait, that does not work. Go back.\n")
    return None


def _reachable(numbers: list[int], target: int) -> bool:
    """Does the backward search find it? Only a division *by* what the others make escapes it; those are not asked."""
    if len(numbers) == 3:
        return any(True for _ in _solutions_three(numbers, target))
    return any(_solvable(numbers, aside, need) for aside in set(numbers) for need in needs(target, aside))


def _solvable(numbers: list[int], aside: int, need: Need) -> bool:
    rest = list(numbers)
    rest.remove(aside)
    return any(True for _ in _solutions_three(rest, need.value))


def _solutions_three(numbers: list[int], target: int) -> Iterator[Made]:
    for aside in set(numbers):
        rest = list(numbers)
        rest.remove(aside)
        values = {need.value: need for need in needs(target, aside)}
        for made in combine(Made(rest[0], str(rest[0])), Made(rest[1], str(rest[1]))):
            if made.value in values:
                yield finish(made, values[made.value], aside)


def _order(rng: Random, numbers: list[int]) -> list[int]:
    """Each different number once, larger ones tending to come first: they leave less to make."""
    return sorted(set(numbers), key=lambda n: -n + rng.uniform(-8, 8))


def guess(problem: Problem, rng: Random) -> str:
    """The numbers joined by operations drawn at random."""
    numbers = rng.sample(list(problem.meta["numbers"]), len(problem.meta["numbers"]))
    text = str(numbers[0])
    for number in numbers[1:]:
        text += f" {rng.choice('++-*')} {number}"
    return text


FAMILY = Family(
    name="countdown",
    about="reach a target with three or four numbers, each used once",
    kind="countdown",
    parameters={
        "numbers": Parameter("any", "how many numbers", choices=("any", "3", "4")),
        "largest": Parameter(20, "largest number", low=5, high=25),
    },
    generate=generate,
    solve=solve,
    guess=guess,
)
