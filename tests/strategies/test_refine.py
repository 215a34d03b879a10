"""Refining: what the critic tells never depends on the gold answer, and how the conversation goes on and ends."""

import asyncio
import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines import open_engine
from thinksmith.engines.contract import EngineInfo
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.sandbox import open_sandbox
from thinksmith.strategies.feedback import feedback
from thinksmith.strategies.names import strategy
from thinksmith.strategies.refine import refine
from thinksmith.strategies.single import single
from thinksmith.verify import verify

NUMBERS = st.integers(-10_000, 10_000).map(str) | st.sampled_from(["0.5", "1/3", "12%", "1,234", "2 km"])
WORDS = st.text("abcdefgh ", min_size=1, max_size=12).filter(str.strip)
MATHS = st.sampled_from([r"\frac{1}{2}", r"2\sqrt{3}", "x^2 + 1", r"\{1, 2\}", "(1, 2)", r"\pi", "[0, 3)", "5", "-7"])
JSONS = st.dictionaries(st.sampled_from("pqrs"), st.integers(0, 99) | WORDS, max_size=3).map(json.dumps)
PATTERNS = st.sampled_from(["[a-c]+x", "d{3,}", r"(?i)yes|no", r"\d+-\d+", "h e"])
KINDS = {
    "number": NUMBERS,
    "math": MATHS,
    "choice": st.sampled_from("ABCDEF"),
    "exact": WORDS,
    "regex": PATTERNS,
    "json": JSONS,
    "remainder": st.builds("{} remainder {}".format, st.integers(0, 99), st.integers(0, 9)),
    "countdown": st.sampled_from(["3 * 5 + 9", "9 + 5 * 3", "(9 + 3 * 5)"]),
}
META = {"countdown": {"numbers": [3, 5, 9], "target": 24}}
WRITTEN = st.one_of(
    NUMBERS, MATHS, WORDS, JSONS, st.sampled_from(["A", "B) or C)", "3 * 5 * 9", "4 + 4", "3 remainder 2"])
)
DRESS = st.sampled_from(["The answer is {}.", r"\boxed{{{}}}", "{}", "I wonder about {} and what it may be, or not"])


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_the_feedback_does_not_depend_on_the_gold_answer(kind, data):
    """Of two gold answers that make a trace wrong in the same way nobody could tell which it was."""
    trace = Trace("hm", data.draw(DRESS).format(data.draw(WRITTEN | KINDS[kind])))
    told = {}
    for gold in data.draw(st.lists(KINDS[kind], min_size=2, max_size=4)):
        problem = Problem("p", "?", gold, kind, META.get(kind, {}))
        verdict = verify(problem, trace)
        if verdict.status not in ("correct", "error", "bad_gold"):
            told.setdefault(verdict.status, set()).add(feedback(problem, trace, verdict))
    assert all(len(texts) == 1 for texts in told.values())


def test_not_even_the_shape_of_the_gold_answer_is_told():
    """Of a puzzle's text more is taken as the answer where the gold answer has several lines."""
    trace = Trace("", "Answer: 3 4\n5 6")
    told = set()
    for gold in ("1 2", "1 2\n3 4"):
        problem = Problem("p", "?", gold, "gym", {"rule": "rows"})
        verdict = verify(problem, trace)
        assert verdict.status == "wrong"
        told.add(feedback(problem, trace, verdict))
    assert len(told) == 1


SECRETS = {
    "number": "987654",
    "math": r"\{987654, 12\}",
    "choice": "J",
    "exact": "quetzalcoatl",
    "regex": "quetzal[a-z]+",
    "json": '{"quetzal": 987654, "zygote": [1]}',
    "remainder": "987654 remainder 3",
    "gym": "quetzal 987654",
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize(
    "answer", ["5", "A", "\\boxed{\\{5, 12\\}}", '{"a": 1}', "no answer at all, I am afraid of it", ""]
)
def test_no_part_of_a_gold_answer_is_told(kind, answer):
    problem = Problem("p", "?", SECRETS[kind], kind, {"rule": "items"} if kind == "gym" else {})
    verdict = verify(problem, Trace("", answer))
    assert verdict.status in ("wrong", "no_answer")
    text = feedback(problem, Trace("", answer), verdict)
    for secret in ("987654", "quetzal", "zygote", "expected", " J "):
        assert secret not in text


def test_a_countdown_is_told_by_which_rule_it_is_wrong():
    problem = Problem("p", "?", None, "countdown", META["countdown"])
    for answer, reason in (("3 * 5 + 8", "23"), ("(5 + 3) * 3", "once"), ("3 * 5 = 24", "15")):
        trace = Trace("", f"The answer is {answer}.")
        assert reason in feedback(problem, trace, verify(problem, trace))


@dataclass
class Script:
    """An engine that says these answers in turn, then the last for ever; None is one that was cut off."""

    answers: list[str | None]
    requests: list[Request] = field(default_factory=list)

    info = EngineInfo("script")
    room = 100

    async def sample(self, request: Request) -> list[Trace]:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        size = (0,) * len(self.requests)
        if answer is None:
            return [Trace("hm", "", "truncated", size, finish="length")]
        return [Trace(f"thought {len(self.requests)}", answer, token_ids=size)]


PROBLEM = Problem("p", "What is 3 + 4?", "7")


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["7", "8", None, "no idea of what it may be at all"]), min_size=1, max_size=6), st.data()
)
def test_it_goes_on_until_the_verifier_is_content(answers, data):
    rounds = data.draw(st.integers(1, 5))
    engine = Script(answers)
    outcome = asyncio.run(refine(Sampling(), rounds=rounds)(PROBLEM, engine))
    said = [answers[min(at, len(answers) - 1)] for at in range(rounds + 1)]
    asked = min(said.index("7"), rounds) + 1 if "7" in said else rounds + 1
    assert len(engine.requests) == len(outcome.traces) == outcome.notes["attempts"] == asked
    assert outcome.tokens == sum(range(1, asked + 1))
    assert verify(PROBLEM, outcome.chosen).correct == ("7" in said)
    if any(said[:asked]):
        assert outcome.answer == [answer for answer in said[:asked] if answer][-1]
    for number, request in enumerate(engine.requests):
        assert [message["role"] for message in request.messages] == ["user", *["assistant", "user"] * number]
        assert all(message["content"] for message in request.messages)
        assert "7" not in " ".join(message["content"] for message in request.messages[1:])
    assert len({request.sampling.seed for request in engine.requests}) == asked


def test_thinking_stands_apart_in_the_conversation():
    engine = Script(["8"])
    asyncio.run(refine(Sampling(), rounds=2)(PROBLEM, engine))
    turns = [message for message in engine.requests[-1].messages if message["role"] == "assistant"]
    assert turns == [
        {"role": "assistant", "content": "8", "thinking": "thought 1"},
        {"role": "assistant", "content": "8", "thinking": "thought 2"},
    ]


def test_its_own_critic_ends_it_and_never_sees_the_gold_answer():
    engine = Script(["8", "I forgot the 4.\nVERDICT: wrong", "7", "All is well.\nVERDICT: right"])
    outcome = asyncio.run(refine(Sampling(), by="self")(PROBLEM, engine))
    assert (outcome.answer, len(outcome.traces), outcome.notes["attempts"]) == ("7", 4, 2)
    assert outcome.tokens == 1 + 2 + 3 + 4
    blind = Script(engine.answers)
    assert asyncio.run(refine(Sampling(), by="self")(replace(PROBLEM, answer=None), blind)) == outcome
    assert blind.requests == engine.requests

    never = Script(["8", "VERDICT: **wrong**."])
    outcome = asyncio.run(refine(Sampling(), rounds=2, by="self")(PROBLEM, never))
    assert (len(outcome.traces), outcome.notes["attempts"]) == (5, 3)


def test_a_program_is_told_which_test_it_fails():
    try:
        open_sandbox()
    except UserError as error:
        pytest.skip(str(error))
    problem = Problem(
        "p", "Write double(x).", None, "code", {"entry": "double", "tests": "assert double(4) == 8, 'of 4'"}
    )
    engine = Script(
        ["```python\ndef double(x):\n    return x + 2\n```", "```python\ndef double(x):\n    return 2 * x\n```"]
    )
    outcome = asyncio.run(refine(Sampling(), by="tests")(problem, engine))
    assert verify(problem, outcome.chosen).correct
    assert len(outcome.traces) == 2
    assert "of 4" in engine.requests[1].messages[-1]["content"]
    with pytest.raises(UserError, match="by=verifier"):
        asyncio.run(refine(Sampling(), by="tests")(PROBLEM, engine))


def test_on_a_real_model_it_begins_as_single_does_and_neighbours_change_nothing():
    problems, sampling = load("mixed", 8, seed=5), Sampling(temperature=1.0, max_tokens=120, seed=6)
    engine = open_engine("tiny-base")

    async def run():
        made = refine(sampling, rounds=2)
        together = await asyncio.gather(*(made(problem, engine) for problem in problems))
        alone = [await made(problem, engine) for problem in problems]
        first = await asyncio.gather(*(single(sampling)(problem, engine) for problem in problems))
        await engine.aclose()
        return together, alone, first

    for one, other, plain in zip(*asyncio.run(run()), strict=True):
        assert [trace.token_ids for trace in one.traces] == [trace.token_ids for trace in other.traces]
        assert one.answer == other.answer
        assert one.why == other.why
        assert one.traces[0].token_ids == plain.chosen.token_ids


@pytest.mark.parametrize("spec", ["refine:rounds=0", "refine:by=magic", "refine:round=2"])
def test_options_that_cannot_be(spec):
    with pytest.raises(UserError) as caught:
        strategy(spec)
    assert "\n" not in str(caught.value)
