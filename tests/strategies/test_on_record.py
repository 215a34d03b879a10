"""Strategies on what a real model wrote: 100 MATH problems, 8 chains each, replayed. Figures from recorded text alone,
by our own extraction and equivalence; where they differ from those recorded beside, the test says by which chain."""

import asyncio
import os
from pathlib import Path

import pytest
from scripted_engine import Scripted

from thinksmith.engines.replay import ReplayEngine
from thinksmith.problems.recorded import read_recorded
from thinksmith.records import Sampling
from thinksmith.strategies.names import strategy
from thinksmith.verify import verify

FILE = "replay/math_cot_100.jsonl"
ORDERS = range(20)


@pytest.fixture(scope="module")
def path():
    data = Path(os.environ.get("THINKSMITH_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not (data / FILE).exists():
        pytest.skip(f"{data / FILE} is not here; set THINKSMITH_DATA to the folder with the data sets")
    return str(data / FILE)


@pytest.fixture(scope="module")
def recorded(path):
    """By problem: the problem and its traces, in the order of the file."""
    found = {}
    for each in read_recorded(path):
        found.setdefault(each.problem.id, (each.problem, []))[1].append(each.trace)
    return list(found.values())


@pytest.fixture(scope="module")
def right(recorded):
    """By problem and completion: is it correct? Each is judged once."""
    return {
        (problem.id, trace.answer): verify(problem, trace).correct for problem, traces in recorded for trace in traces
    }


def in_order(recorded, right, spec):
    """Accuracy and share of the 800 draws, with the chains in the order of the file."""

    async def run():
        made = strategy(spec).make(Sampling(), 0, None)
        return await asyncio.gather(*(made(problem, Scripted(traces, problem)) for problem, traces in recorded))

    return _figures(recorded, right, asyncio.run(run()))


def in_an_order(recorded, right, spec, seed):
    async def run():
        made = strategy(spec).make(Sampling(), 0, None)
        engine = ReplayEngine([(problem, trace) for problem, traces in recorded for trace in traces], "replay", seed)
        return await asyncio.gather(*(made(problem, engine) for problem, _ in recorded))

    return _figures(recorded, right, asyncio.run(run()))


def _figures(recorded, right, outcomes):
    correct = sum(right[problem.id, made.answer] for (problem, _), made in zip(recorded, outcomes, strict=True))
    return correct / len(recorded), sum(len(made.traces) for made in outcomes) / 800


def test_our_verdicts_are_the_recorded_ones_but_for_one_chain(rows, recorded, right):
    differ = [
        (row["answer"], row["predictions"][at])
        for row, (problem, traces) in zip(rows(FILE), recorded, strict=True)
        for at, trace in enumerate(traces)
        if row["correct"][at] != right[problem.id, trace.answer]
    ]
    assert differ == [("10{,}000", "10000")]  # ours is right: LaTeX's comma of thousands
    mean = sum(right[problem.id, trace.answer] for problem, traces in recorded for trace in traces) / 800
    assert mean == 729 / 800  # recorded: 728


def test_vote_is_the_plain_count(rows, recorded, right):
    assert in_order(recorded, right, "vote@8") == (0.93, 1.0)  # as recorded


@pytest.mark.parametrize(
    ("spec", "accuracy"),
    [
        ("best_of@8:by=recorded,file={path}", 0.95),  # recorded 0.94: the chain that our verdict is kinder to
        ("best_of@8:by=verifier", 0.97),  # pass@8; recorded 0.96, for the same reason
        ("vote@1", None),
    ],
)
def test_best_of_eight_by_recorded_scores(recorded, right, path, spec, accuracy):
    found, draws = in_order(recorded, right, spec.format(path=path))
    first = sum(right[problem.id, traces[0].answer] for problem, traces in recorded) / 100
    assert found == (first if accuracy is None else accuracy)
    assert draws == (1.0 if "@8" in spec else 1 / 8)


def test_adaptive_reaches_vote_with_at_most_55_per_cent_of_the_samples(recorded, right):
    """Over many orders, as the mean of each: within one point of vote."""
    voted = [in_an_order(recorded, right, "vote@8", seed) for seed in ORDERS]
    for spec in ("adaptive:most=8,threshold=0.95", "adaptive:most=8", "adaptive:rule=window,most=8,window=3"):
        found = [in_an_order(recorded, right, spec, seed) for seed in ORDERS]
        accuracy = sum(each for each, _ in found) / len(found)
        assert abs(accuracy - sum(each for each, _ in voted) / len(voted)) <= 0.01
        assert sum(share for _, share in found) / len(found) <= 0.55
        if spec == "adaptive:most=8,threshold=0.95":  # what is left could not have changed the vote
            assert found == [(accuracy, share) for (accuracy, _), (_, share) in zip(voted, found, strict=True)]


def test_weighing_by_the_recorded_scores_beats_the_plain_vote(recorded, right, path):
    plain = in_order(recorded, right, "vote@8")[0]
    weighed = in_order(recorded, right, f"best_of@8:weighted=true,by=recorded,file={path}")[0]
    assert weighed >= plain
