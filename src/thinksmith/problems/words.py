"""Word problems of two to four steps, told in varied wording.

A story is a list of events, each of which changes a number that the reader has to keep: `state`. The same events
make the text and the trace, so text, trace and answer cannot disagree.
"""

from __future__ import annotations

from random import Random

from thinksmith.problems.family import Family, Parameter, Parameters, make_problem
from thinksmith.problems.writer import Writer, near_miss
from thinksmith.records import Problem

LIMIT = 200
Event = tuple[str, int, int]  # kind, k, m
_NAMES = ("Mia", "Tom", "Ana", "Ben", "Lea", "Sam", "Eva", "Max", "Zoe", "Jan", "Ida", "Leo")
_THINGS = ("apples", "marbles", "stickers", "books", "coins", "cards", "shells", "pencils", "cookies", "stamps")
_BOXES = ("bags", "boxes", "packs", "baskets")

# An event is (kind, k, m); what it does to the state, and the ways to tell it.
_TOLD = {
    "gain": (
        "{n} finds {k} more.",
        "{n} gets {k} more from a friend.",
        "Then {n} buys another {k}.",
        "{k} more come in.",
    ),
    "lose": ("{n} gives away {k}.", "{n} loses {k}.", "Then {n} sells {k}.", "{k} of them are used up."),
    "boxes": (
        "{n} buys {k} {b} with {m} each.",
        "Then {k} {b} of {m} arrive.",
        "{n} gets {k} {b}, each holding {m} {t}.",
    ),
    "give": ("{n} gives {m} to each of {k} friends.", "Then {k} children take {m} each."),
    "times": ("{n} then collects until there are {k} times as many.", "The number then grows to {k} times as many."),
    "share": ("{n} keeps one part of {k} equal parts.", "They are shared equally among {k} people, {n} being one."),
}
_BY_THE_BOX = ("boxes", "give")
_OPENINGS = ("{n} has {s} {t}.", "There are {s} {t} on {n}'s table.", "{n} starts with {s} {t}.", "{n} owns {s} {t}.")
_OPENINGS_BOXES = ("{n} has {k} {b} with {m} {t} each.", "{n} fills {k} {b} with {m} {t} in each.")
_QUESTIONS = (
    "How many {t} does {n} have now?",
    "How many {t} are left for {n}?",
    "How many {t} does {n} have in the end?",
    "What is the number of {t} that {n} has now?",
)


def generate(rng: Random, parameters: Parameters) -> Problem:
    steps = rng.randint(2, int(parameters["steps"]))
    while True:
        start, events = _story(rng, steps)
        if start is not None:
            break
    words = {"n": rng.choice(_NAMES), "t": rng.choice(_THINGS), "b": rng.choice(_BOXES)}
    prompt = _tell(rng, start, events, words)
    answer = _run(start, events)
    # A number that an event does not tell is no part of the problem.
    key = f"{start}{[(kind, k, m if kind in _BY_THE_BOX else 0) for kind, k, m in events]}"
    return make_problem(
        "words", key, prompt, str(answer), "number", start=list(start), events=[list(e) for e in events]
    )


def _story(rng: Random, steps: int) -> tuple[tuple[int, int] | None, list[Event]]:
    """A start (k, m): k boxes of m, or k = 1; then events. `steps` counts the equations."""
    start = (rng.randint(2, 9), rng.randint(2, 12)) if rng.random() < 0.35 else (1, rng.randint(5, 60))
    left = steps - (start[0] > 1)
    state = start[0] * start[1]
    events: list[Event] = []
    while left:
        event = _event(rng, state, left, events[-1][0] if events else "")
        if event is None:
            return None, []
        state = _apply(state, event)
        left -= 2 if event[0] in _BY_THE_BOX else 1
        events.append(event)
    return (start, events) if 0 < state <= LIMIT else (None, [])


def _event(rng: Random, state: int, left: int, before: str) -> Event | None:
    kinds = ["gain", "lose", "times", "share"] + (["boxes", "boxes", "give", "give"] if left > 1 else [])
    kind = rng.choice([k for k in kinds if k != before])
    k, m = rng.randint(2, 9), rng.randint(2, 12)
    if kind in ("gain", "lose"):
        k = rng.randint(2, min(60, max(2, state - 1) if kind == "lose" else 60))
    if kind == "times":
        k = rng.randint(2, 4)
    if kind == "share":
        divisors = [d for d in range(2, 10) if state % d == 0]
        if not divisors:
            return None
        k = rng.choice(divisors)
    event = (kind, k, m)
    return event if 0 < _apply(state, event) <= LIMIT else None


def _apply(state: int, event: Event) -> int:
    kind, k, m = event
    change = {"gain": k, "lose": -k, "boxes": k * m, "give": -k * m}
    return state * k if kind == "times" else state // k if kind == "share" else state + change[kind]


def _run(start: tuple[int, int], events: list[Event]) -> int:
    state = start[0] * start[1]
    for event in events:
        state = _apply(state, event)
    return state


def _tell(rng: Random, start: tuple[int, int], events: list[Event], words: dict[str, str]) -> str:
    if start[0] > 1:
        sentences = [rng.choice(_OPENINGS_BOXES).format(k=start[0], m=start[1], **words)]
    else:
        sentences = [rng.choice(_OPENINGS).format(s=start[1], **words)]
    sentences += [rng.choice(_TOLD[kind]).format(k=k, m=m, **words) for kind, k, m in events]
    return " ".join([*sentences, rng.choice(_QUESTIONS).format(**words)])


def solve(problem: Problem, w: Writer) -> str:
    k, m = (int(n) for n in problem.meta["start"])
    events: list[Event] = [(str(kind), int(a), int(b)) for kind, a, b in problem.meta["events"]]
    result, before = _work(w, k, m, events)
    if w.wants_check() and not _backwards_fits(w, before, events[-1], result):
        w.again()
        result, before = _work(w, k, m, events)
    return str(result)


def _work(w: Writer, k: int, m: int, events: list[Event]) -> tuple[int, int]:
    """Write the steps; returns the result and the state before the last event, as they were written."""
    w.say("Start: ")
    if k > 1:
        state = w.equation(f"{k} * {m}", k * m)
    else:
        state = m
        w.say(str(state))
    w.say(".\n")
    before = state
    for position, event in enumerate(events):
        before = state
        state = _write_event(w, state, event)
        w.say(".\n" if position < len(events) - 1 else ".")
    return state, before


def _write_event(w: Writer, state: int, event: Event) -> int:
    kind, k, m = event
    if kind == "times":
        return w.equation(f"{state} * {k}", state * k)
    if kind == "share":
        return w.equation(f"{state} / {k}", round(state / k))
    if kind in _BY_THE_BOX:
        k = w.equation(f"{k} * {m}", k * m)
        w.say(", ")
    sign = 1 if kind in ("gain", "boxes") else -1
    return w.equation(f"{state} {'+' if sign > 0 else '-'} {k}", state + sign * k)


def _backwards_fits(w: Writer, before: int, event: Event, result: int) -> bool:
    """Undo the last event."""
    kind, k, m = event
    amount = k * m if kind in _BY_THE_BOX else k
    if kind == "times":
        left, value = f"{before} * {k}", before * k
        w.say(f"\nCheck: {left} = {value}.")
        return value == result
    if kind == "share":
        left, value = f"{result} * {k}", result * k
    elif kind in ("gain", "boxes"):
        left, value = f"{result} - {amount}", result - amount
    else:
        left, value = f"{result} + {amount}", result + amount
    w.say(f"\nCheck: {left} = {value}.")
    return value == before


def guess(problem: Problem, rng: Random) -> str:
    return str(max(0, near_miss(int(str(problem.answer)), rng)))


FAMILY = Family(
    name="words",
    about="word problems of two to four steps",
    kind="number",
    parameters={"steps": Parameter(4, "most steps", low=2, high=4)},
    generate=generate,
    solve=solve,
    guess=guess,
)
