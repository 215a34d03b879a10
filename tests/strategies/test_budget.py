"""`budget`: the engine's bounds kept, and the thinking gone on with as often as was said."""

import asyncio
from dataclasses import replace

import pytest

from thinksmith.engines import open_engine
from thinksmith.engines.replay import ReplayEngine
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.records import Problem, Sampling, Trace
from thinksmith.strategies.budget import budget
from thinksmith.strategies.single import single

SAMPLING = Sampling(temperature=0.6, seed=5, max_tokens=256)


@pytest.fixture(scope="module")
def engine():
    engine = open_engine("tiny")
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(scope="module")
def problems():
    return load("chains", 6, seed=2)


def outcomes(engine, problems, strategy):
    async def run():
        return await asyncio.gather(*(strategy(problem, engine) for problem in problems))

    return asyncio.run(run())


def test_most_caps_the_thinking_and_an_answer_follows_the_closing(engine, problems):
    capped = outcomes(engine, problems, budget(SAMPLING, most=15, closing="\nThat is enough."))
    free = outcomes(engine, problems, single(SAMPLING))
    for one, other in zip(capped, free, strict=True):
        trace = one.chosen
        assert trace.thinking_status == "closed"
        assert trace.forced
        assert trace.thinking.endswith("That is enough.")
        assert trace.token_ids[:15] == other.chosen.token_ids[:15]
        assert one.tokens == len(trace.token_ids)


def test_a_bound_that_is_never_reached_changes_nothing(engine, problems):
    bounded = outcomes(engine, problems, budget(SAMPLING, most=250, sample=2))
    free = outcomes(engine, problems, single(SAMPLING, sample=2))
    assert [each.chosen.token_ids for each in bounded] == [each.chosen.token_ids for each in free]


def test_least_makes_it_think_on(engine, problems):
    longer = outcomes(engine, problems, budget(SAMPLING, least=150, wait="Wait, let me check."))
    for outcome in longer:
        assert outcome.chosen.thinking_tokens >= 150 or outcome.chosen.thinking_status == "truncated"
    assert any("Wait, let me check." in each.chosen.thinking for each in longer)


@pytest.mark.parametrize("waits", [1, 3])
def test_waits_are_forced_as_often_as_was_said(engine, problems, waits):
    wait = "Wait, let me check."
    long = replace(SAMPLING, max_tokens=900, temperature=0.3)
    for outcome in outcomes(engine, problems, budget(long, waits=waits, wait=wait)):
        trace, text = outcome.chosen, engine.decode(outcome.chosen.token_ids)
        forced = engine.decode([trace.token_ids[at] for at in trace.forced])
        assert forced == wait * outcome.notes["waits"]
        assert outcome.tokens == len(trace.token_ids) == trace.thinking_tokens + trace.answer_tokens
        assert text.startswith(trace.completion)
        assert trace.logprobs is None
        if trace.thinking_status == "closed":
            assert trace.answer.strip()
            assert "</think>" not in trace.thinking
    done = [each.notes["waits"] for each in outcomes(engine, problems, budget(long, waits=waits, wait=wait))]
    assert waits in done


def test_waits_go_on_from_the_thinking_that_single_makes(engine, problems):
    """The thinking before the first wait is that of the same draw."""
    greedy = replace(SAMPLING, temperature=0.0, max_tokens=600)
    waited = outcomes(engine, problems, budget(greedy, waits=1))
    for one, plain in zip(waited, outcomes(engine, problems, single(greedy)), strict=True):
        if plain.chosen.thinking_status == "closed":
            assert one.chosen.thinking.startswith(plain.chosen.thinking + "\nWait")


def test_a_cap_ends_the_waits(engine, problems):
    capped = outcomes(engine, problems, budget(replace(SAMPLING, max_tokens=400), waits=50, most=120))
    assert sum(outcome.chosen.thinking_status == "closed" for outcome in capped) > 3
    for outcome in capped:
        assert outcome.chosen.thinking_tokens <= 120 + 12  # a last wait and the forced end come on top
        assert outcome.notes["waits"] < 50


def test_an_engine_that_bounds_nothing_says_so_in_one_line():
    replay = ReplayEngine([(Problem("p", "q"), Trace("a", "b"))], "replay/x.jsonl")
    with pytest.raises(UserError, match=r"replay/x\.jsonl cannot bound its thinking: use a model that runs in this"):
        asyncio.run(budget(SAMPLING, most=5)(Problem("p", "q"), replay))
