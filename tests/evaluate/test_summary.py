"""A summary from columns is what one would work out attempt by attempt; from the store it is the same."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.evaluate import by, summary
from thinksmith.evaluate.several import joined, spread
from thinksmith.evaluate.statistics.stats import accuracy
from thinksmith.evaluate.summary import scores_by_problem, summarise, summarise_run
from thinksmith.records import Attempt, Problem, Trace, Usage, Verdict
from thinksmith.store.figures import figures_of
from thinksmith.store.store import Store

STATUSES = ("correct", "wrong", "no_answer", "truncated", "timeout", "bad_gold", "error")


def attempt(problem=0, sample=0, status="correct", *, thinking=10, finish="stop", judge="", answer="7", **notes):
    usage = Usage(cost=notes.pop("priced")) if "priced" in notes else None
    trace = Trace(
        "2 + 5 = 7.", answer, thinking_tokens=thinking, answer_tokens=3, finish=finish, seconds=0.5, usage=usage
    )
    verdict = Verdict(status, float(status == "correct"), answer, judge=judge)
    meta = {"family": "fg"[problem % 2], "level": problem % 3, "subject": ["algebra", "geometry"][problem % 2]}
    return Attempt(
        Problem(f"p/{problem:03}", f"What is {problem}?", "7", meta=meta), trace, verdict, sample, notes=notes
    )


def same(one, other):
    """But for the order in which numbers are added."""
    return asdict(one) == pytest.approx(asdict(other))


made = st.lists(
    st.builds(
        attempt,
        st.integers(0, 5),
        st.integers(0, 9),
        st.sampled_from(STATUSES),
        thinking=st.integers(0, 50),
        finish=st.sampled_from(["stop", "error"]),
        judge=st.sampled_from(["", "elder"]),
    ),
    max_size=30,
    unique_by=lambda a: (a.problem.id, a.sample),
).filter(scores_by_problem)


@settings(max_examples=60, deadline=None)
@given(made)
def test_every_accuracy_is_that_of_its_attempts(attempts):
    found = summarise(attempts)
    assert same(found.accuracy, accuracy(scores_by_problem(attempts)))
    assert dict(found.counts) == {
        name: count for name in STATUSES if (count := sum(a.verdict.status == name for a in attempts))
    }
    for key, groups in {"family": found.families, **{k: v for k, v in found.by.items() if k != "length"}}.items():
        for label, value in groups.items():
            own = scores_by_problem([a for a in attempts if str(a.problem.meta[key]) == label])
            assert same(value, accuracy(own))
    judged = scores_by_problem([a for a in attempts if a.verdict.judge])
    assert (found.judged is None) == (not judged)
    assert found.judged is None or same(found.judged, accuracy(judged))


@settings(max_examples=60, deadline=None)
@given(made)
def test_the_quarters_by_length_hold_every_attempt_once(attempts):
    figures = figures_of(attempts)
    quarters = by.by_length(figures)
    assert sum(value.attempts for value in quarters.values()) == int(figures.counted_N.sum())
    assert len(quarters) <= 4


def test_the_store_gives_the_same_summary(tmp_path):
    attempts = [attempt(n % 20, n // 20, STATUSES[n % 4], thinking=n % 37) for n in range(160)]
    with Store.open(tmp_path / "s.db") as store:
        run = store.start_run("eval", "x", "tiny")
        store.add(run, attempts[::-1])
        assert summarise_run(store, run) == summarise(attempts)


def test_what_it_took():
    attempts = [
        attempt(0, 0, thinking=10, priced=0.25),
        attempt(0, 1, thinking=20, spent=100, traces=8, cost=1.5),
        attempt(1, 0, thinking=90),
    ]
    found = summarise(attempts)
    assert (found.thinking_tokens.mean, found.thinking_tokens.median) == (40, 20)
    assert found.spent_tokens.mean == pytest.approx((13 + 100 + 93) / 3)
    assert (found.cost, found.priced) == (1.75, 2)
    assert found.traces == pytest.approx(10 / 3)
    assert found.seconds.mean == 0.5
    assert summarise([attempt()]).cost is None


def test_measures_over_k_against_the_definition():
    """Of 4 attempts 3 are right: pass^2 = C(3,2)/C(4,2); and a problem that is never solved."""
    attempts = [attempt(0, s, "correct" if s else "wrong", answer="7" if s else "8") for s in range(4)]
    attempts += [attempt(1, s, "wrong", answer="8") for s in range(4)]
    values = {each.name: each.value.mean for each in summarise(attempts).at_k}
    assert values["pass@2"] == pytest.approx((1 + 0) / 2)
    assert values["pass^2"] == pytest.approx((3 / 6 + 0) / 2)
    assert values["pass^4"] == 0
    assert values["maj@4"] == pytest.approx(1 / 2)
    assert {name for name in values if name.startswith("pass@")} == {"pass@1", "pass@2", "pass@4"}
    assert summarise([attempt(n) for n in range(4)]).at_k == ()


def test_of_a_big_run_some_are_looked_at_and_that_is_told(monkeypatch):
    attempts = [attempt(p, s, STATUSES[(p + s) % 2], answer=str(s)) for p in range(30) for s in range(4)]
    whole = summarise(attempts)
    assert (whole.audited, whole.at_k_problems) == (120, 30)
    monkeypatch.setattr(summary, "MOST_AUDITED", 60)
    monkeypatch.setattr(by, "MOST_PAIRS", 16 * 7)
    part = summarise(attempts)
    assert (part.audited, part.at_k_problems) == (60, 7)
    assert part.accuracy == whole.accuracy
    assert summarise(attempts[::-1]) == part  # the same are drawn


def test_what_a_run_can_tell():
    """80 % power for two independent runs, worked out by simulation: about half a point of tolerance."""
    attempts = [attempt(n, 0, "correct" if n % 2 else "wrong") for n in range(400)]
    told = summarise(attempts).detectable
    random = np.random.default_rng(0)
    one = random.random((4000, 400)) < 0.5 - told / 2
    other = random.random((4000, 400)) < 0.5 + told / 2
    apart = other.astype(float) - one
    z = apart.mean(1) / (apart.std(1, ddof=1) / math.sqrt(400))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.03)


def test_seeds_put_together_are_one_evaluation():
    runs = [
        [attempt(p, s, STATUSES[(p * seed + s) % 3], answer=str(seed)) for p in range(5 + seed) for s in range(3)]
        for seed in range(3)
    ]
    whole = [Attempt(a.problem, a.trace, a.verdict, a.sample + 3 * seed) for seed, run in enumerate(runs) for a in run]
    both, expected = joined([figures_of(run) for run in runs]), figures_of(whole)
    for name in ("problem_N", "sample_N", "status_N", "score_N", "spent_N"):
        assert np.array_equal(getattr(both, name), getattr(expected, name)), name
    said = [both.answers[at] for at in both.answer_N]
    assert said == [expected.answers[at] for at in expected.answer_N]
    assert both.problems == expected.problems
    assert spread([0.5, 0.7]) == pytest.approx(0.1 * math.sqrt(2))


def test_the_quarters_are_quarters():
    quarters = by.by_length(
        figures_of([attempt(n, 0, "correct" if n < 25 else "wrong", thinking=n) for n in range(100)])
    )
    assert {label: (value.attempts, value.mean) for label, value in quarters.items()} == {
        "0 to 24 tokens": (25, 1),
        "25 to 49 tokens": (25, 0),
        "50 to 74 tokens": (25, 0),
        "75 to 99 tokens": (25, 0),
    }
