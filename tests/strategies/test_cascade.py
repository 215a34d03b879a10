"""The cascade: when it goes on and when not, what is drawn then, and whose tokens are counted where."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines import open_engine
from thinksmith.engines.contract import EngineInfo
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.cascade import cascade
from thinksmith.strategies.names import strategy
from thinksmith.strategies.single import single

PROBLEM = Problem("p", "What is 3 + 4?", "7")


@dataclass
class Answers:
    """An engine that gives its answers in turn, each of `size` tokens; None is an answer that was cut off."""

    name: str
    answers: list[str | None]
    size: int = 1
    logprob: float | None = None
    requests: list[Request] = field(default_factory=list)

    room = 100

    @property
    def info(self):
        return EngineInfo(self.name, logprobs=self.logprob is not None)

    async def sample(self, request: Request) -> list[Trace]:
        answer = self.answers[len(self.requests) % len(self.answers)]
        self.requests.append(request)
        logprobs = None if self.logprob is None else (self.logprob,) * self.size
        status = "closed" if answer is not None else "truncated"
        said = f"The answer is {answer}." if answer is not None else ""
        return [Trace("hm", said, status, (0,) * self.size, logprobs, finish="stop" if said else "length")]


def closed(name):
    raise AssertionError(f"{name} was opened")


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.sampled_from(["7", "14/2", "8", "9", None]), min_size=1, max_size=8),
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
)
def test_it_goes_on_exactly_when_the_leader_has_too_small_a_share(answers, sure):
    small, big = Answers("small", answers, 2), Answers("big", ["7"], 50)
    made = cascade(Sampling(), n=len(answers), sure=sure, then="big", open=lambda name: big)
    outcome = asyncio.run(made(PROBLEM, small))

    values = Counter({"14/2": "7"}.get(answer, answer) for answer in answers if answer is not None)
    share = max(values.values(), default=0) / len(answers)
    assert len(small.requests) == len(answers)
    assert outcome.notes["stage"] == (1 if share >= sure else 2)
    assert len(big.requests) == (0 if share >= sure else 1)
    counted = {"small": 2 * len(answers)} | ({} if share >= sure else {"big": 50})
    assert outcome.notes["tokens_by_model"] == counted
    assert outcome.tokens == sum(counted.values()) == sum(outcome.notes["tokens_by_stage"])
    if share >= sure and values:
        at = next(at for at, trace in enumerate(outcome.traces) if trace is outcome.chosen)
        mine = {"14/2": "7"}.get(answers[at], answers[at])
        assert values[mine] == max(values.values())


@given(st.lists(st.sampled_from(["7", "8", None]), min_size=1, max_size=4))
def test_sure_0_never_goes_on(answers):
    made = cascade(Sampling(), n=len(answers), sure=0.0, then="big", open=closed)
    outcome = asyncio.run(made(PROBLEM, Answers("small", answers)))
    assert outcome.notes["stage"] == 1


def test_confidence_is_the_mean_probability_of_those_who_gave_the_answer():
    for logprob, stage in ((log(0.9), 1), (log(0.5), 2)):
        small, big = Answers("small", ["7", "8", "7"], 3, logprob), Answers("big", ["9"])
        made = cascade(Sampling(), n=3, sure=0.8, by="confidence", then="big", open=lambda name, big=big: big)
        outcome = asyncio.run(made(PROBLEM, small))
        assert outcome.notes["stage"] == stage
        assert outcome.notes["share"] == pytest.approx(exp(logprob), abs=1e-3)
    with pytest.raises(UserError, match="log-probabilities"):
        asyncio.run(made(PROBLEM, Answers("mute", ["7"])))


def test_the_second_stage_thinks_longer_and_draws_anew():
    engine = Answers("small", [None])
    made = cascade(Sampling(max_tokens=100, seed=4), n=2, most_first=20, think=3000, then_n=2, open=closed)
    asyncio.run(made(PROBLEM, engine))
    first, second = engine.requests[:2], engine.requests[2:]
    assert [request.sampling.max_thinking_tokens for request in (*first, *second)] == [20, 20, 3000, 3000]
    assert all(request.sampling.max_tokens > 3000 for request in second)
    assert len({request.sampling.seed for request in engine.requests}) == 4


def test_on_real_models_each_stage_is_the_draws_of_single():
    problems, sampling = load("mixed", 8, seed=2), Sampling(temperature=1.0, max_tokens=160, seed=1)
    base, tiny = open_engine("tiny-base"), open_engine("tiny")

    async def run():
        made = cascade(sampling, n=2, sure=1.0, then="tiny", open=lambda name: tiny)
        together = await asyncio.gather(*(made(problem, base) for problem in problems))
        alone = [await made(problem, base) for problem in problems]
        first = await asyncio.gather(*(single(sampling)(problem, base) for problem in problems))
        second = await asyncio.gather(*(single(sampling)(problem, tiny) for problem in problems))
        await base.aclose()
        await tiny.aclose()
        return together, alone, first, second

    together, alone, first, second = asyncio.run(run())
    assert {outcome.notes["stage"] for outcome in together} == {1, 2}
    for one, other, small, big in zip(together, alone, first, second, strict=True):
        assert [trace.token_ids for trace in one.traces] == [trace.token_ids for trace in other.traces]
        assert one.answer == other.answer
        assert one.notes == other.notes
        assert one.traces[0].token_ids == small.chosen.token_ids
        if one.notes["stage"] == 2:
            assert one.chosen.token_ids == big.chosen.token_ids
            assert set(one.notes["tokens_by_model"]) == {"tiny-base", "tiny"}


@pytest.mark.parametrize(
    "spec",
    [
        "cascade:then=tiny,sure=1.01",
        "cascade:then=tiny,sure=-0.1",
        "cascade:then=tiny,sure=nan",
        "cascade@0:then=tiny",
        "cascade:then=tiny,then_n=0",
        "cascade:think=-1",
        "cascade",
        "cascade:then=tiny,by=luck",
    ],
)
def test_options_that_cannot_be(spec):
    with pytest.raises(UserError) as caught:
        strategy(spec)
    assert "\n" not in str(caught.value)
