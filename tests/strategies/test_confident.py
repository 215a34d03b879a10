"""`confident`: which traces vote, which are stopped early, and that every token of them is counted."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from scripted_engine import PROBLEM, Scripted, outcome_of, said, sampling

from thinksmith.engines import open_engine
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.records import Sampling
from thinksmith.strategies.confidence import TOP, group_confidence, token_confidence, trace_confidence
from thinksmith.strategies.confident import confident
from thinksmith.strategies.vote import vote

SURE = tuple(np.log([0.97, 0.01, 0.01, 0.01]))
UNSURE = tuple(np.log([0.25, 0.25, 0.25, 0.25]))
ASKED = Sampling(temperature=1.0, seed=9, max_tokens=300)


@pytest.fixture(scope="module")
def engine():
    engine = open_engine("tiny")
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(scope="module")
def problems():
    return load("countdown", 4, seed=6)


def outcomes(engine, problems, strategy):
    async def run():
        return await asyncio.gather(*(strategy(problem, engine) for problem in problems))

    return asyncio.run(run())


def test_offline_the_least_confident_do_not_vote():
    traces = [said("3", top=UNSURE), said("3", top=UNSURE), said("12", top=SURE), said(None, top=SURE)]
    outcome = outcome_of(confident(sampling(), n=4, keep=0.34), Scripted(traces))
    assert "boxed{12}" in outcome.answer
    assert (outcome.notes["kept"], outcome.notes["abstained"], outcome.tokens) == (1, 3, 12)
    assert outcome.notes["votes"] == pytest.approx({"12": trace_confidence(traces[2])}, abs=1e-5)
    assert "boxed{3}" in outcome_of(vote(sampling(), n=4), Scripted(traces)).answer


def test_offline_keeping_all_is_the_vote_weighted_by_confidence(engine, problems):
    kept = outcomes(engine, problems, confident(ASKED, n=6, keep=1.0, window=2048))
    weighed = outcomes(engine, problems, vote(ASKED, n=6, weight="lowest_group"))
    for one, other in zip(kept, weighed, strict=True):
        assert [trace.token_ids for trace in one.traces] == [trace.token_ids for trace in other.traces]
        assert one.notes["votes"] == pytest.approx(other.notes["votes"], abs=1e-5)
        assert (one.answer, one.tokens) == (other.answer, other.tokens)


def test_where_all_abstain_the_first_stands():
    outcome = outcome_of(confident(sampling(), n=3), Scripted([said(None, top=SURE)] * 3))
    assert outcome.chosen is outcome.traces[0]
    assert outcome.notes["votes"] == {}


@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_online_weak_traces_are_stopped_and_their_tokens_are_spent(engine, problems, keep):
    window = 16
    made = confident(ASKED, n=10, first=4, keep=keep, window=window, chunk=8, consensus=1.0)
    stopped = 0
    for outcome in outcomes(engine, problems, made):
        bar, traces = outcome.notes["bar"], outcome.traces
        lowest = [trace_confidence(trace, "lowest", window) for trace in traces]
        assert bar == pytest.approx(np.quantile(lowest[:4], 1 - keep), abs=1e-5)
        assert outcome.tokens == sum(len(trace.token_ids) for trace in traces)
        weak = [trace for trace in traces[4:] if trace.finish == "length" and trace.tokens < ASKED.max_tokens]
        assert len(weak) == outcome.notes["stopped"]
        stopped += len(weak)
        for trace in weak:
            groups = group_confidence(token_confidence(trace), window)
            assert groups.min() < bar + 1e-5
            # Not stopped later than at the first look after the group fell below the bar.
            assert group_confidence(token_confidence(trace)[: len(trace.token_ids) - 8], window).min() > bar - 1e-5 or (
                len(trace.token_ids) - 8 < window
            )
        assert all(trace.sampling.max_tokens == 300 and trace.sampling.top_logprobs == TOP for trace in traces)
        voters = [at for at, low in enumerate(lowest) if low >= bar - 1e-6]
        assert outcome.notes["kept"] <= len(voters) or outcome.notes["kept"] == len(traces) - outcome.notes["abstained"]
    assert stopped > 0


def test_online_it_stops_at_consensus(engine, problems):
    easy = load("arithmetic", 6, seed=1)
    made = confident(replace(ASKED, temperature=0.3), n=32, first=4, keep=0.9, consensus=0.9, step=2)
    found = outcomes(engine, easy, made)
    assert sum(len(outcome.traces) for outcome in found) < 6 * 32
    assert any("of the weight agree after" in outcome.why for outcome in found)


def test_the_same_seed_gives_the_same_again(engine, problems):
    made = confident(ASKED, n=8, first=4, window=16, chunk=8)
    first, again = (outcomes(engine, problems[:3], made) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert [trace.token_ids for trace in one.traces] == [trace.token_ids for trace in other.traces]


def test_a_later_sample_begins_with_its_own_draws(engine, problems):
    early, late = (outcomes(engine, problems[:2], confident(ASKED, n=4, first=2, sample=sample)) for sample in (0, 1))
    singles = outcomes(engine, problems[:2], vote(ASKED, n=2, sample=2))  # draws 4 and 5
    for one, other, plain in zip(early, late, singles, strict=True):
        assert [trace.token_ids for trace in other.traces[:2]] == [trace.token_ids for trace in plain.traces]
        assert one.traces[0].token_ids != other.traces[0].token_ids


def test_what_an_engine_cannot_is_said_before_anything_is_spent():
    silent = Scripted([said("1")] * 4, logprobs=False)
    with pytest.raises(UserError, match="needs log-probabilities"):
        outcome_of(confident(sampling(), n=4), silent)
    whole = Scripted([said("1", top=SURE)] * 4)
    with pytest.raises(UserError, match="goes on with traces token by token, and scripted cannot"):
        outcome_of(confident(sampling(), n=4, first=2), whole)
    assert not silent.asked
    assert not whole.asked
    with pytest.raises(UserError, match="does not tell the likeliest tokens"):
        outcome_of(confident(sampling(), n=4), Scripted([said("1")] * 4))


def test_cancelling_leaves_no_request_running(engine, problems):
    async def run():
        task = asyncio.create_task(confident(ASKED, n=64, first=4, consensus=1.0)(problems[0], engine))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            if engine.room == full:
                return True
            await asyncio.sleep(0.02)
        return False

    full = engine.room
    assert asyncio.run(run())


def test_a_failed_draw_has_no_confidence_and_does_not_vote():
    failed = replace(said("3"), finish="error", error="broken", top_logprobs=None)
    outcome = outcome_of(confident(sampling(), n=2, keep=1.0), Scripted([failed, said("12", top=SURE)]))
    assert outcome.notes["votes"].keys() == {"12"}
    assert PROBLEM.answer == "12"
