"""The curves: fronts, goals, equal spend; runs that are made once and gone on with; reports that are whole and safe."""

import asyncio
import base64
import json
import re
from dataclasses import replace
from hashlib import sha256
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines import open_engine
from thinksmith.errors import UserError
from thinksmith.evaluate.scaling.curve import Curves, Point, difference, interval
from thinksmith.evaluate.scaling.policies import parse_policies
from thinksmith.evaluate.scaling.pool import pool_of
from thinksmith.evaluate.scaling.scale import (
    Setting,
    known_shape,
    make_pool,
    parse_settings,
    point_of_run,
    sizes_up_to,
    work_out,
)
from thinksmith.evaluate.scaling.scale_report import equal_table, reach_lines, rows, shown_series, write_report
from thinksmith.evaluate.statistics.stats import accuracy
from thinksmith.problems.load import load_checked
from thinksmith.records import Attempt, Problem, Sampling, Trace
from thinksmith.store.store import Store
from thinksmith.verify import verify


def point(x, scores, series="a", oracle=False, size=1):
    costs = np.array([[x, np.nan, size]] * len(scores), dtype=float)
    problems = tuple(Problem(f"p/{at}", "What?", "7", "number") for at in range(len(scores)))
    return Point(
        series, "m", "none", "vote", size, "run", problems, np.array(scores, dtype=float), costs, oracle=oracle
    )


some = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=5, max_size=5)),
    min_size=1,
    max_size=8,
)


@given(some=some)
def test_the_front_is_what_nothing_beats(some):
    curves = Curves(tuple(point(x, scores) for x, scores in some))
    front = curves.front()
    at = [(each.x("tokens"), value.mean) for each, value in zip(curves.points, curves.accuracies, strict=True)]

    def beats(one, other):
        return at[one][0] <= at[other][0] and at[one][1] >= at[other][1] - 1e-12 and at[one] != at[other]

    for member in front:
        assert not any(beats(other, member) for other in range(len(at)))
    for other in set(range(len(at))) - set(front):
        assert any(beats(member, other) or at[member] == at[other] for member in front)


@given(some=some, target=st.floats(0, 1))
def test_the_cheapest_way_is_the_cheapest(some, target):
    curves = Curves(tuple(point(x, scores) for x, scores in some))
    found = curves.reach(target)
    able = [
        each.x("tokens") for each, value in zip(curves.points, curves.accuracies, strict=True) if value.mean >= target
    ]
    if not able:
        assert found.cheapest is None
    else:
        assert found.cheapest is not None
        assert curves.points[found.cheapest].x("tokens") == min(able)
        assert set(found.same) <= {at for at in range(len(some)) if curves.points[at].x("tokens") <= min(able)}
    if found.sure is not None:
        assert curves.accuracies[found.sure].low >= target - 1e-9
    assert all(curves.accuracies[at].high >= target - 1e-9 for at in found.perhaps)


def test_limits_are_on_no_front_and_reach_nothing():
    curves = Curves((point(1, [0, 1]), point(2, [1, 1], "pass", oracle=True)))
    assert curves.front() == (0,)
    assert curves.reach(0.9).cheapest is None


def test_equal_spend_is_a_lottery_between_two_points():
    curves = Curves((point(10, [0, 0.5]), point(30, [1, 0.5]), point(20, [1, 1], "b")))
    assert curves.at_spend("a", 9.9) is None
    assert curves.at_spend("a", 10).tolist() == [0, 0.5]
    assert curves.at_spend("a", 15).tolist() == [0.25, 0.5]
    assert curves.at_spend("a", 99).tolist() == [1, 0.5]  # it cannot spend more
    found = curves.equal_spend(20)
    assert found.best == "b"
    assert found.accuracy["a"].mean == pytest.approx(0.5)
    assert found.behind["a"].mean == pytest.approx(-0.5)
    assert curves.equal_spend(1) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=3), min_size=2, max_size=12))
def test_an_interval_is_that_of_an_evaluation(scores):
    """The curve of single samples begins where `thinksmith eval` would put it."""
    known = accuracy({str(at): each for at, each in enumerate(scores)})
    found = interval(np.array([np.mean(each) for each in scores]), 3)
    assert (found.mean, found.low, found.high) == pytest.approx((known.mean, known.low, known.high))


def test_differences_are_paired():
    hard = np.array([0.0] * 20 + [1.0] * 20)
    found = difference(np.clip(hard + 0.1 * (np.arange(40) % 2), 0, 1), hard)
    assert found.apart  # though the accuracies' own intervals are wide
    assert interval(hard).high - interval(hard).low > 0.25
    assert not difference(hard, hard).apart
    one, other = difference(hard, 1 - hard), difference(1 - hard, hard)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_sizes_double_up_to_the_samples():
    assert sizes_up_to(1) == [1]
    assert sizes_up_to(12) == [1, 2, 4, 8, 12]
    assert sizes_up_to(16) == [1, 2, 4, 8, 16]


def test_settings_by_the_command_line():
    found = parse_settings("0,32,none,32", "128", "2")
    assert [each.name for each in found] == ["at once", "32", "none", "least 128", "Wait × 2"]
    made = [each.of(Sampling(max_tokens=100)) for each in found]
    assert [each.max_thinking_tokens for each in made] == [0, 32, None, None, None]
    assert [each.max_tokens for each in made] == [100, 100, 100, 228, 300]
    assert made[3].min_thinking_tokens == 128
    for wrong in (("few", "", ""), ("none", "0", ""), ("none", "", "x"), ("", "", "")):
        with pytest.raises(UserError, match=r"--budgets|--least|--waits"):
            parse_settings(*wrong)


def pool(model, run, rights, ids=None, gold="7", budget="none"):
    """A pool of a list of yes and no for each problem."""
    made = []
    for at, right in enumerate(rights):
        problem = Problem(f"p/{(ids or range(99))[at]}", f"What is {at}?", gold, "number")
        for sample, yes in enumerate(right):
            said = Trace("", f"The answer is {gold if yes else sample + 100}.", token_ids=(1,) * (10 + at), model=model)
            made.append(Attempt(problem, said, verify(problem, said), sample))
    return replace(pool_of(made, model=model, run=run, rate=100.0), budget=budget)


RIGHTS = [[1, 1, 0, 1], [0, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]]


def test_several_models_stand_in_one_chart():
    found = work_out(
        [pool("small", "r1", RIGHTS), pool("small", "r2", RIGHTS, budget="32"), pool("big", "r3", RIGHTS)],
        parse_policies("single,vote,pass@4"),
        title="t",
    )
    names = set(found.curves.series)
    assert {"small single", "big single", "small vote of none", "small vote of 32", "big vote"} <= names
    assert len(found.curves.series["small single"]) == 2  # a point a budget
    assert len(found.curves.series["big vote"]) == 3
    assert len(found.curves.series["big pass"]) == 1
    assert found.equal
    assert "pass" not in found.equal[0].accuracy


def test_seconds_are_tokens_over_the_rate():
    found = work_out([pool("m", "r", RIGHTS)], parse_policies("single,vote"), title="t", axis="seconds")
    for each in found.curves.points:
        assert each.x("seconds") == pytest.approx(each.x("tokens") / 100)
    with pytest.raises(UserError, match="use --x tokens"):
        work_out([pool("m", "r", RIGHTS)], parse_policies("single"), title="t", axis="flops")


def test_only_shared_problems_count():
    one, other = pool("a", "r1", RIGHTS, ids=[0, 1, 2, 3]), pool("b", "r2", RIGHTS[:3], ids=[0, 1, 2])
    found = work_out([one, other], parse_policies("single"), title="t")
    assert found.curves.problems == 3
    assert any("1 problems are left out" in note for note in found.notes)
    with pytest.raises(UserError, match="share no problem"):
        work_out([one, pool("b", "r2", RIGHTS, ids=[7, 8, 9, 10])], parse_policies("single"), title="t")
    with pytest.raises(UserError, match="mean different problems"):
        work_out([one, pool("b", "r2", RIGHTS, ids=[0, 1, 2, 3], gold="8")], parse_policies("single"), title="t")
    with pytest.raises(UserError, match="nothing to draw"):
        work_out([], parse_policies("single"), title="t")


def test_points_of_other_runs_are_paired_by_problem_and_not_by_place():
    pools = [pool("a", "r1", RIGHTS, ids=[0, 1, 2, 3])]
    known = [each.problem for each in pools[0].problems]
    names = [known[3], Problem("p/9", "What?", "7", "number"), known[1], known[2]]
    own = replace(point(10, [0.3, 0.9, 0.1, 0.2]), problems=tuple(names), run="r2")
    found = work_out(pools, parse_policies("single"), title="t", own=[own])
    (mine,) = [each for each in found.curves.points if each.run == "r2"]
    assert [problem.id for problem in mine.problems] == [problem.id for problem in found.curves.points[0].problems]
    assert mine.score_P.tolist() == [0.1, 0.2, 0.3]
    assert any("1 problems are left out" in note for note in found.notes)
    changed = replace(own, problems=tuple(replace(each, answer="8") for each in names))
    with pytest.raises(UserError, match="mean different problems"):
        work_out(pools, parse_policies("single"), title="t", own=[changed])
    with pytest.raises(UserError, match="share no problem"):
        work_out(pools, parse_policies("single"), title="t", own=[replace(own, problems=names[1:2])])


# Runs


@pytest.fixture(scope="module")
def tiny():
    engine = open_engine("tiny")
    yield engine
    asyncio.run(engine.aclose())


PROBLEMS = load_checked("arithmetic:digits=1", 3, split="test", seed=0).problems
ASKED = {"sampling": Sampling(max_tokens=80, seed=1), "name": "sums", "samples": 2}


class Mute:
    """The engine's name and nothing else."""

    room = 8

    def __init__(self, engine):
        self.info = engine.info

    async def sample(self, request):
        raise AssertionError("it was made before")


@pytest.mark.parametrize(
    "setting", [Setting(), Setting(most=0), Setting(least=20), Setting(waits=1)], ids=lambda s: s.name
)
def test_a_pool_is_made_once(setting, tiny, tmp_path):
    with Store.open(tmp_path / "store.db") as store:
        made = make_pool(PROBLEMS, tiny, setting, store=store, shape=known_shape("tiny"), **ASKED)
        again = make_pool(PROBLEMS, Mute(tiny), setting, store=store, shape=known_shape("tiny"), **ASKED)
    assert made.run == again.run
    assert (made.budget, made.samples, len(made.problems)) == (setting.name, 2, 3)
    assert made.has("confidence") or setting.waits
    for one, other in zip(made.problems, again.problems, strict=True):
        assert one.tokens_N.tolist() == other.tokens_N.tolist()
        assert (one.flops_N > 2 * known_shape("tiny").active_params * one.tokens_N).all()


def test_an_interrupted_pool_is_gone_on_with(tiny, tmp_path):
    def stop(attempt):
        raise KeyboardInterrupt

    with Store.open(tmp_path / "a.db") as store:
        whole = make_pool(PROBLEMS, tiny, Setting(), store=store, **ASKED)
    with Store.open(tmp_path / "b.db") as store:
        with pytest.raises(KeyboardInterrupt):
            make_pool(PROBLEMS, tiny, Setting(), store=store, on_attempt=stop, **ASKED)
        rest = make_pool(PROBLEMS, tiny, Setting(), store=store, **ASKED)
        assert len(store.runs()) == 1
    for one, other in zip(whole.problems, rest.problems, strict=True):
        assert (one.class_N.tolist(), one.tokens_N.tolist()) == (other.class_N.tolist(), other.tokens_N.tolist())


def test_a_run_of_another_strategy_is_one_point(tmp_path):
    with Store.open(tmp_path / "store.db") as store:
        run = store.start_run("eval", "sums", "m", "w", {"strategy": "refine@2"})
        problem, trace = Problem("p/0", "What?", "7", "number"), Trace("", "The answer is 7.", token_ids=(1,) * 10)
        notes = {"spent": 25, "traces": 2}
        store.add(run, [Attempt(problem, trace, verify(problem, trace), 0, "refine@2", notes)])
        store.finish_run(run, {})
        found = point_of_run(store, run)
    assert (found.x("tokens"), found.traces, found.score_P.tolist(), found.label) == (25, 2, [1.0], "refine@2")


# Reports


@pytest.fixture(scope="module")
def found():
    pools = [pool("<script>alert(1)</script>", "eval-1", RIGHTS), pool("b|g", "my file.jsonl", RIGHTS)]
    return work_out(pools, parse_policies("single,vote,adaptive,pass"), title="<b>t</b>", reach=[0.5, 0.99])


def test_the_page_runs_one_script_and_names_it_by_its_hash(found, tmp_path):
    write_report(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]
    assert "alert(1)</script>" not in page  # a model's name is text
    assert "<b>t</b>" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)  # nothing from elsewhere
    targets = set(re.findall(r'id="(run-[^"]*)"', page))
    links = set(re.findall(r'href="#(run-[^"]*)"', page))
    assert links == targets == {"run-eval-1", "run-my-file-jsonl"}
    assert page.count("<tr") > len(rows(found))


def test_the_other_reports_hold_the_same(found, tmp_path):
    for ending in ("md", "json", "svg"):
        write_report(tmp_path / f"r.{ending}", found)
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert len(told["points"]) == len(found.curves.points)
    assert [each["target"] for each in told["reach"]] == [0.5, 0.99]
    assert told["points"][0]["flops"] is None  # JSON has no NaN
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) >= len(rows(found)) + 1
    assert "b\\|g" in text  # a name does not break the table
    assert all(line in text for line in reach_lines(found))
    root = ElementTree.fromstring((tmp_path / "r.svg").read_text(encoding="utf-8"))
    assert root.tag.endswith("svg")
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_a_report_of_no_kind_is_told(found, tmp_path):
    with pytest.raises(UserError, match=r"must end in \.html"):
        write_report(tmp_path / "page.pdf", found)
    with pytest.raises(UserError, match="is a folder"):
        write_report(tmp_path, found)


def test_at_most_eight_series_have_colours():
    pools = [pool(f"m{at}", f"r{at}", RIGHTS) for at in range(5)]
    found = work_out(pools, parse_policies("single,vote"), title="t")
    assert len(found.curves.series) == 10
    assert len(shown_series(found)) == 8
    columns, cells = equal_table(found)
    assert len(cells) == 10
    assert all(len(row) == len(columns) for row in cells)


def test_the_goal_is_told_in_words(found):
    low, high = reach_lines(found)
    assert low.startswith("the cheapest way to 50%: ")
    assert high.startswith("no point reaches 99%")
