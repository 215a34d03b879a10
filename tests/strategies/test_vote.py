"""Ballots, `vote` and `adaptive`: their laws, against counting by hand and against one draw at a time."""

import asyncio
import itertools
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import PROBLEM, Scripted, outcome_of, said, sampling

from thinksmith.engines import open_engine
from thinksmith.problems.load import load
from thinksmith.records import Problem, Sampling
from thinksmith.strategies.adaptive import adaptive, lead
from thinksmith.strategies.ballot import Ballot, count
from thinksmith.strategies.draws import draw, request_for, spent
from thinksmith.strategies.single import single
from thinksmith.strategies.vote import vote

ANSWERS = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=12)


def counted(traces, weights=None, problem=PROBLEM):
    return asyncio.run(count(problem, traces, weights))


# --- ballots


@given(ANSWERS, st.randoms())
def test_the_count_is_the_plain_count_and_does_not_depend_on_the_order(answers, rng):
    ballot = counted([said(each) for each in answers])
    plain = Counter(each for each in answers if each is not None)
    assert {each.answer: each.count for each in ballot.classes} == plain
    assert ballot.abstained == answers.count(None)
    mixed = answers.copy()
    rng.shuffle(mixed)
    assert counted([said(each) for each in mixed]).notes["votes"] == {**ballot.notes["votes"]}
    if plain:
        most = max(plain.values())
        assert ballot.leader.answer == next(each for each in answers if plain.get(each) == most)


@given(st.lists(st.tuples(st.sampled_from(["1", "2", "3"]), st.floats(0, 1)), min_size=1, max_size=9))
def test_weights_are_summed_whatever_the_order(votes):
    """Sums are exactly rounded, so no order of additions can settle a tie."""
    told = set()
    for order in itertools.islice(itertools.permutations(votes), 30):
        ballot = counted([said(answer) for answer, _ in order], [weight for _, weight in order])
        told.add(tuple(sorted((each.answer, each.weight) for each in ballot.classes)))
    assert len(told) == 1
    assert dict(told.pop()) == pytest.approx({a: sum(w for b, w in votes if b == a) for a, _ in votes})


def test_equivalent_answers_vote_together_and_the_weightiest_trace_stands_for_them():
    traces = [said("0.5"), said("3"), said("1/2"), said("\\frac{1}{2}"), said("3")]
    ballot = counted(traces)
    assert [(each.answer, each.count) for each in ballot.ranked] == [("0.5", 3), ("3", 2)]
    assert ballot.chosen is traces[0]
    weighed = counted(traces, [1.0, 1.0, 2.0, 2.0, 1.0])
    assert weighed.chosen is traces[2]  # the first of the two that weigh most
    assert weighed.share == pytest.approx(5 / 7)


def test_kinds_that_wait_for_a_worker_do_not_hold_up_the_event_loop():
    problem = Problem("m", "Expand", "x", "math")
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def run():
        ticking = asyncio.create_task(tick())
        ballot = await count(problem, [said("x^2 + 2x + 1"), said("(x + 1)^2"), said("x^2 + 2x")])
        ticking.cancel()
        return ballot

    ballot = asyncio.run(run())
    assert [each.count for each in ballot.classes] == [2, 1]
    assert ticks > 5


def test_long_answers_that_begin_alike_stay_apart_in_the_notes():
    problem = Problem("e", "Write", None, "exact")
    ballot = counted([said("a" * 300 + "b"), said("a" * 300 + "c")], problem=problem)
    assert list(ballot.notes["votes"].values()) == [1, 1]


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="cannot weigh nan"):
        asyncio.run(Ballot(PROBLEM).add(said("1"), float("nan")))


@settings(deadline=None, max_examples=60)
@given(ANSWERS, st.integers(0, 4))
def test_decided_means_that_no_further_votes_change_the_leader(answers, left):
    ballot = counted([said(each) for each in answers])
    names = [each.answer for each in ballot.classes] + ["9"]
    more = itertools.combinations_with_replacement([*names, None], left)
    leaders = {
        found.leader and found.leader.answer
        for extra in more
        for found in [counted([said(each) for each in [*answers, *extra]])]
    }
    assert ballot.decided(left) == (len(leaders) == 1)


# --- vote


def test_vote_of_one_is_single():
    engine = open_engine("tiny")
    try:
        for number, problem in enumerate(load("mixed", 4, seed=1)):
            asked = Sampling(temperature=0.8, seed=3, max_tokens=120)
            one = outcome_of(single(asked, sample=number), _at(engine, problem))
            voted = outcome_of(vote(asked, n=1, sample=number), _at(engine, problem))
            same = {"seconds": 0.0}
            assert replace(voted.chosen, **same) == replace(one.chosen, **same)
            assert (voted.answer, voted.tokens, len(voted.traces)) == (one.answer, one.tokens, 1)
    finally:
        asyncio.run(engine.aclose())


def _at(engine, problem):
    """The engine, with the problem that `outcome_of` asks it about."""

    class At:
        info, room, sample = engine.info, 100, staticmethod(engine.sample)

    At.problem = problem
    return At()


@given(st.lists(st.sampled_from(["1", "2", None]), min_size=6, max_size=6))
def test_a_later_sample_takes_its_own_draws(answers):
    """Sample s of vote@3 looks at draws 3s, 3s+1 and 3s+2: the very traces of `single`."""
    engine = Scripted([said(each) for each in answers])
    outcome = outcome_of(vote(sampling(), n=3, sample=1), engine)
    assert sorted(engine.asked) == [3, 4, 5]
    votes = Counter(each for each in answers[3:] if each)
    assert outcome.notes["votes"] == dict(votes)
    assert outcome.notes["abstained"] == answers[3:].count(None)
    assert outcome.tokens == 9 == sum(trace.tokens for trace in outcome.traces)


def test_where_all_abstain_the_first_trace_stands_and_says_so():
    outcome = outcome_of(vote(sampling(), n=2), Scripted([said(None), said(None)]))
    assert outcome.chosen is outcome.traces[0]
    assert outcome.why == "none of 2 gave an answer"


def test_weights_by_confidence_may_turn_a_vote():
    traces = [said("1", logprob=-2.0), said("1", logprob=-2.0), said("2", logprob=-0.1)]
    assert "boxed{1}" in outcome_of(vote(sampling(), n=3), Scripted(traces)).answer
    weighed = outcome_of(vote(sampling(), n=3, weight="confidence"), Scripted(traces))
    assert "boxed{2}" in weighed.answer
    assert weighed.notes["votes"] == pytest.approx({"2": 0.904837, "1": 0.270671})


def test_cancelling_and_failing_leave_no_request_running():
    slow = Scripted([said("1")] * 8, ticks=10_000)

    async def cancelled():
        task = asyncio.create_task(vote(sampling(), n=8)(PROBLEM, slow))
        await asyncio.sleep(0.01)
        assert slow.running == 8
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert slow.running == 0

    asyncio.run(cancelled())
    failing = Scripted([said("1")] * 8, ticks=5, fails_at=3)
    with pytest.raises(ConnectionError, match="gone"):
        outcome_of(vote(sampling(), n=8), failing)
    assert failing.running == 0


def test_draws_are_numbered_and_come_in_order():
    engine = Scripted([said(str(at), tokens=at + 1) for at in range(6)])
    traces = asyncio.run(draw(PROBLEM, engine, sampling(), [4, 1, 2], prefill="Well"))
    assert [trace.tokens for trace in traces] == [5, 2, 3]
    assert spent(traces) == 10
    assert {request.prefill for request in engine.requests} == {"Well"}
    assert request_for(PROBLEM, sampling(), 4) != request_for(PROBLEM, sampling(1), 4)


# --- adaptive


def plain_lead(most: int, second: int) -> Fraction:
    """P(p > 1/2), p ~ Beta(most + 1, second + 1), in exact rational arithmetic: more than `second` heads of
    most + second + 1 fair coins have come before … that is, P(Binomial(most + second + 1, 1/2) <= most)."""
    flips = most + second + 1
    return Fraction(sum(comb(flips, heads) for heads in range(most + 1)), 2**flips)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_beta_rule_is_exact(most, second):
    assert lead(most, second) == pytest.approx(float(plain_lead(most, second)), abs=1e-12)


def one_at_a_time(answers, most, threshold):
    """Adaptive-Consistency as the paper writes it, and the stop where nothing can change any more; a reference."""
    votes: dict[str, int] = {}
    for drawn, answer in enumerate(answers[:most], 1):
        if answer is not None:
            votes[answer] = votes.get(answer, 0) + 1
        left = most - drawn
        ranked = [*sorted(votes.values(), reverse=True), 0, 0]
        names = sorted(votes, key=lambda each: -votes[each])
        if votes and plain_lead(ranked[0], ranked[1]) > threshold:
            return drawn, names[0]
        if votes:
            order = list(votes)
            at = order.index(names[0])
            ahead = all(votes[each] + left < ranked[0] for each in order[:at])
            if ahead and all(votes[each] + left <= ranked[0] for each in order[at + 1 :]) and left <= ranked[0]:
                return drawn, names[0]
    return most, names[0] if votes else None


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from(["1", "2", "3", None]), min_size=12, max_size=12),
    st.integers(1, 12),
    st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]),
)
def test_drawing_many_at_once_draws_none_more(answers, most, threshold):
    engine = Scripted([said(each) for each in answers])
    outcome = outcome_of(adaptive(sampling(), most=most, threshold=threshold), engine)
    drawn, answer = one_at_a_time(answers, most, Fraction(threshold))
    assert len(outcome.traces) == drawn
    assert outcome.chosen.answer == (said(answer).answer if answer else said(answers[0]).answer)
    assert outcome.tokens == sum(trace.tokens for trace in outcome.traces)
    assert sorted(engine.asked) == list(range(drawn))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["1", "2", "3", None]), min_size=24, max_size=24),
    st.sampled_from(["beta", "window"]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(0, 1),
)
def test_it_never_disagrees_with_vote_when_it_used_all_draws(answers, rule, step, first, window, sample):
    traces = [said(each) for each in answers]
    made = adaptive(sampling(), rule=rule, most=12, step=step, first=first, window=window, sample=sample)
    outcome = outcome_of(made, Scripted(traces))
    voted = outcome_of(vote(sampling(), n=12, sample=sample), Scripted(traces))
    if len(outcome.traces) == 12:
        assert (outcome.answer, outcome.tokens, outcome.notes) == (voted.answer, voted.tokens, voted.notes)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=12, max_size=12))
def test_with_a_threshold_of_one_it_is_vote(answers):
    traces = [said(each) for each in answers]
    outcome = outcome_of(adaptive(sampling(), most=12, threshold=1.0), Scripted(traces))
    assert outcome.answer == outcome_of(vote(sampling(), n=12), Scripted(traces)).answer
    assert len(outcome.traces) >= 6


def test_the_window_stops_where_a_whole_window_agrees():
    traces = [said(each) for each in ["1", "2", "2", "2", "2", "2", "2", "2", "1", "1", "1", "1"]]
    outcome = outcome_of(adaptive(sampling(), rule="window", window=4, most=24), Scripted(traces))
    assert (len(outcome.traces), outcome.why) == (8, "the last 4 draws agree")
    assert outcome.notes["votes"] == {"2": 7, "1": 1}
    split = [said(each) for each in ["1", None, "1", "1", "1", "1", "1", "1"]]
    assert len(outcome_of(adaptive(sampling(), rule="window", window=4, most=16), Scripted(split)).traces) == 8


@pytest.mark.parametrize(("threshold", "draws", "chance"), [(0.9, 3, "0.938"), (0.95, 4, "0.969")])
def test_a_unanimous_problem_takes_three_or_four_draws_at_once(threshold, draws, chance):
    engine = Scripted([said("1")] * 16, ticks=3)
    outcome = outcome_of(adaptive(sampling(), most=16, threshold=threshold), engine)
    assert (len(outcome.traces), outcome.why) == (draws, f"the leader is ahead with probability {chance}")
    assert outcome.tokens == sum(trace.tokens for trace in outcome.traces)


def test_steps_are_faster_for_some_more_draws():
    traces = [said(each) for each in ["1", "2"] * 4 + ["1"] * 8]
    small, large = (
        len(outcome_of(adaptive(sampling(), most=16, step=step), Scripted(traces)).traces) for step in (1, 8)
    )
    assert small < large == 16
