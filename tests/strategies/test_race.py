"""The race: a right draw is found if there is one, and nothing beyond its wave is paid for."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines import open_engine
from thinksmith.engines.contract import EngineInfo
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.names import strategy
from thinksmith.strategies.race import race
from thinksmith.strategies.single import problem_seed, single
from thinksmith.verify import verify

PROBLEM = Problem("p", "What is 3 + 4?", "7")


@dataclass
class Answers:
    """An engine that gives draw number i of PROBLEM the i-th answer, of i + 1 tokens."""

    answers: list[str]
    asked: list[int] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    info = EngineInfo("answers")
    room = 100

    async def sample(self, request: Request) -> list[Trace]:
        seeds = {problem_seed(0, PROBLEM.id, number): number for number in range(len(self.answers))}
        number = seeds[request.sampling.seed]
        self.asked.append(number)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return [Trace("hm", f"The answer is {self.answers[number]}.", token_ids=(0,) * (number + 1))]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["7", "8", "seven or so", "14/2"]), min_size=1, max_size=9), st.data())
def test_it_stops_with_the_wave_of_the_first_right_draw(answers, data):
    most = len(answers)
    step = data.draw(st.integers(1, most))
    engine = Answers(answers)
    outcome = asyncio.run(race(Sampling(), most=most, step=step)(PROBLEM, engine))

    right = [number for number, answer in enumerate(answers) if answer in ("7", "14/2")]
    asked = min(most, (right[0] // step + 1) * step) if right else most
    assert sorted(engine.asked) == list(range(asked))
    assert engine.most_at_once <= step
    assert outcome.tokens == sum(trace.tokens for trace in outcome.traces) == sum(range(1, asked + 1))
    assert verify(PROBLEM, outcome.chosen).correct == bool(right)
    if right:
        assert outcome.chosen is outcome.traces[right[0]]
        assert outcome.notes["won"] == right[0] + 1


def test_samples_have_draws_of_their_own():
    engine = Answers(["8"] * 12)
    for sample in range(3):
        asyncio.run(race(Sampling(), most=4, sample=sample)(PROBLEM, engine))
    assert engine.asked == list(range(12))


def test_the_last_wave_is_not_longer_than_what_is_left():
    engine = Answers(["8"] * 7)
    outcome = asyncio.run(race(Sampling(), most=7, step=3)(PROBLEM, engine))
    assert sorted(engine.asked) == list(range(7))
    assert len(outcome.traces) == 7


def test_gold_that_cannot_be_used_costs_one_draw():
    engine = Answers(["8"] * 8)
    outcome = asyncio.run(race(Sampling())(Problem("p", "?", "no number at all"), engine))
    assert len(outcome.traces) == 1
    assert "gold" in outcome.why


def test_on_a_real_model_it_is_right_where_any_of_the_singles_is():
    problems, sampling = load("mixed", 12, seed=8), Sampling(temperature=1.0, max_tokens=160, seed=3)
    engine = open_engine("tiny-base")

    async def all_of(make):
        return await asyncio.gather(*(make(problem) for problem in problems))

    async def run():
        singles = [await all_of(lambda p, s=s: single(sampling, sample=s)(p, engine)) for s in range(4)]
        raced = await all_of(lambda p: race(sampling, most=4, step=2)(p, engine))
        await engine.aclose()
        return singles, raced

    singles, raced = asyncio.run(run())
    for at, (problem, outcome) in enumerate(zip(problems, raced, strict=True)):
        right = [verify(problem, draws[at].chosen).correct for draws in singles]
        assert verify(problem, outcome.chosen).correct == any(right)
        assert [trace.token_ids for trace in outcome.traces] == [
            draws[at].chosen.token_ids for draws in singles[: len(outcome.traces)]
        ]


@pytest.mark.parametrize("spec", ["race:most=0", "race:step=0", "race:most=4,step=5", "race:steps=2"])
def test_options_that_cannot_be(spec):
    with pytest.raises(UserError) as caught:
        strategy(spec)
    assert "\n" not in str(caught.value)
    assert "race" in str(caught.value)
