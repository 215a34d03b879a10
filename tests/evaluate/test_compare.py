"""Comparing runs: paired on the same problems, refused where they are none, and the same read from either side."""

import json
import math
import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.evaluate.comparing.compare import compare
from thinksmith.evaluate.comparing.compare_report import to_html, to_json, to_markdown, write_report
from thinksmith.evaluate.comparing.labels import labels
from thinksmith.evaluate.statistics.significance import sign_flip_p
from thinksmith.evaluate.statistics.stats import paired
from thinksmith.evaluate.summary import scores_by_problem
from thinksmith.records import Attempt, Problem, Trace, Usage, Verdict
from thinksmith.store.store import Store

EVIL = "<script>alert('t')</script><img src=x onerror=alert(1)></pre>\"'{{ 7*7 }}|`"


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


def problem(index, **changes):
    made = {"prompt": f"What is {index} + 1?" + " Really." * (index % 5), "answer": str(index + 1)}
    return Problem(f"fam{index % 2}/test/{index}", **(made | {"meta": {"level": f"level {index % 3}"}} | changes))


def attempt(of, sample, right, *, tokens=10, status=None, judge="", cost=None, notes=None):
    status = status or ("correct" if right else "wrong")
    said = {"correct": of.answer, "wrong": "-1"}.get(status)
    usage = None if cost is None else Usage(cost=cost)
    trace = Trace(
        f"Hm. {EVIL}\n2 + 2 = 5.", f"The answer is {said}.", token_ids=tuple(range(tokens)), seconds=0.5, usage=usage
    )
    return Attempt(
        of, trace, Verdict(status, float(right), said, "" if right else "no", judge), sample, notes=notes or {}
    )


def evaluation(store, attempts, *, model="tiny", finished=True, kind="eval", config=None):
    run = store.start_run(kind, "sums", model, f"hash of {model}", config or {"problems": 9, "samples": 1})
    store.add(run, attempts)
    if finished:
        store.finish_run(run, {})
    return run


def drawn(store, chance, *, problems=40, samples=3, seed=0, **changes):
    """A run in which each attempt is right with this chance."""
    source = random.Random(seed)
    attempts = [
        attempt(problem(index), sample, source.random() < chance, tokens=source.randint(5, 50))
        for index in range(problems)
        for sample in range(samples)
    ]
    return evaluation(store, attempts, **changes)


def test_the_difference_is_that_of_the_paired_statistics(store):
    runs = [drawn(store, 0.4, seed=1), drawn(store, 0.6, seed=2)]
    found = compare(store, runs)
    scores = [scores_by_problem(stored.attempt for stored in store.attempts(run)) for run in runs]
    assert found.versus[0].difference == paired(*scores)
    assert (found.problems, found.dropped, found.unusable) == (40, 0, 0)
    assert [side.accuracy.attempts for side in found.sides] == [120, 120]
    low, high = found.versus[0].bootstrap
    assert (low, high) == pytest.approx((found.versus[0].difference.low, found.versus[0].difference.high), abs=0.03)


def test_single_yes_no_attempts_are_mcnemars(store):
    before = evaluation(store, [attempt(problem(index), 0, index < 10) for index in range(40)])
    after = evaluation(store, [attempt(problem(index), 0, 2 <= index < 21) for index in range(40)])
    (versus,) = compare(store, [before, after]).versus
    assert versus.test == "McNemar"
    assert (versus.difference.wins, versus.difference.losses, versus.difference.ties) == (11, 2, 27)
    exact = 2 * sum(math.comb(13, wins) for wins in range(3)) / 2**13
    assert versus.p_exact == pytest.approx(exact)
    assert versus.difference.p == pytest.approx(exact - math.comb(13, 2) / 2**13)


def turned(versus):
    return {
        "difference": -versus.difference.mean,
        "interval": (-versus.difference.high, -versus.difference.low),
        "bootstrap": tuple(-each for each in reversed(versus.bootstrap)),
        "p": versus.difference.p,
        "won": [(each.problem.id, each.scores[::-1], each.attempts[::-1]) for each in versus.lost],
        "tokens": (-versus.tokens.high, -versus.tokens.low),
        "gains": [(each.key, each.value, -each.difference.mean) for each in versus.gains],
        "power": versus.power,
    }


def straight(versus):
    return {
        "difference": versus.difference.mean,
        "interval": (versus.difference.low, versus.difference.high),
        "bootstrap": versus.bootstrap,
        "p": versus.difference.p,
        "won": [(each.problem.id, each.scores, each.attempts) for each in versus.won],
        "tokens": (versus.tokens.low, versus.tokens.high),
        "gains": [(each.key, each.value, each.difference.mean) for each in versus.gains],
        "power": versus.power,
    }


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12))
def test_comparing_the_other_way_round_turns_everything_round(store, rights):
    """`rights`: of three attempts at each problem, how many the one and the other have right."""
    runs = [
        evaluation(
            store,
            [
                attempt(problem(index), sample, sample < pair[side], tokens=3 + index + 2 * side)
                for index, pair in enumerate(rights)
                for sample in range(3)
            ],
        )
        for side in (0, 1)
    ]
    there, back = compare(store, runs).versus[0], compare(store, runs[::-1]).versus[0]
    told, other = straight(back), turned(there)
    for key, value in told.items():
        if key in ("won", "power"):
            assert value == other[key]
        elif key == "gains":
            assert [each[:2] for each in value] == [each[:2] for each in other[key]]
            assert [each[2] for each in value] == pytest.approx([each[2] for each in other[key]])
        else:
            assert value == pytest.approx(other[key], abs=1e-9), key


def test_the_order_of_storing_changes_nothing(store):
    made = [attempt(problem(index), sample, (index * 7 + sample) % 3 > 0) for index in range(20) for sample in range(3)]
    other = drawn(store, 0.5, problems=20)
    one = evaluation(store, made)
    mixed = evaluation(store, random.Random(1).sample(made, len(made)))
    first, second = (compare(store, [run, other]).versus[0] for run in (one, mixed))
    assert (first.difference, first.bootstrap, first.gains) == (second.difference, second.bootstrap, second.gains)


def test_several_runs_are_compared_with_the_first_or_each_with_each_and_corrected(store):
    runs = [drawn(store, chance, seed=seed) for seed, chance in enumerate((0.4, 0.5, 0.6, 0.7))]
    to_first = compare(store, runs)
    assert [(each.one, each.other) for each in to_first.versus] == [(0, 1), (0, 2), (0, 3)]
    every = compare(store, runs, all_pairs=True)
    assert len(every.versus) == 6
    for found in (to_first, every):
        p_values = sorted((each.difference.p, each.p_holm) for each in found.versus)
        assert p_values[0][1] == pytest.approx(min(1, p_values[0][0] * len(p_values)))
        assert all(p <= corrected for p, corrected in p_values)


def test_wins_name_the_attempts_that_show_them(store):
    rights = {
        0: ((0, 1, 0), (1, 1, 1)),
        1: ((1, 1, 1), (1, 0, 0)),
        2: ((1, 0, 1), (0, 1, 1)),
        3: ((0, 0, 0), (1, 1, 1)),
    }
    runs = [
        evaluation(
            store,
            [
                attempt(problem(at), sample, right)
                for at, both in rights.items()
                for sample, right in enumerate(both[side])
            ],
        )
        for side in (0, 1)
    ]
    (versus,) = compare(store, runs).versus
    assert [change.problem.id for change in versus.won] == ["fam1/test/3", "fam0/test/0"]  # the largest first
    assert [change.problem.id for change in versus.lost] == ["fam1/test/1"]
    for change in (*versus.won, *versus.lost):
        before, after = (store.attempt(number) for number in change.attempts)
        assert (before.run_id, after.run_id) == tuple(runs)
        assert before.attempt.problem.id == after.attempt.problem.id == change.problem.id
        gained = change in versus.won
        assert (before.attempt.verdict.correct, after.attempt.verdict.correct) == (not gained, gained)
        assert change.said == (before.attempt.verdict.extracted, after.attempt.verdict.extracted)


def test_where_it_was_gained_is_told_by_family_level_and_length(store):
    before = evaluation(store, [attempt(problem(index), 0, False) for index in range(60)])
    after = evaluation(store, [attempt(problem(index), 0, index % 2 == 1) for index in range(60)])
    gains = {(gain.key, gain.value): gain.difference for gain in compare(store, [before, after]).versus[0].gains}
    assert gains["family", "fam0"].mean == 0
    assert gains["family", "fam1"].mean == 1
    assert gains["level", "level 0"].problems == 20
    lengths = [(value, each.problems) for (key, value), each in gains.items() if key == "characters of the prompt"]
    assert [value.split()[0] for value, _ in lengths] == ["up", lengths[1][0].split()[0], "over"]
    assert sum(count for _, count in lengths) == 60


def test_tokens_and_costs_are_paired_too(store):
    """Of problem i the one spends 10 i tokens, the other always 7 more: paired there is no doubt about the 7."""
    runs = [
        evaluation(
            store,
            [
                attempt(
                    problem(index), 0, True, tokens=5, notes={"spent": 10 * index + more, "cost": 0.01 * index + more}
                )
                for index in range(30)
            ],
        )
        for more in (0, 7)
    ]
    (versus,) = compare(store, runs).versus
    assert (versus.tokens.mean, versus.tokens.low, versus.tokens.high) == pytest.approx((7, 7, 7))
    assert versus.tokens.one == pytest.approx(145)
    assert versus.cost is not None
    assert versus.cost.mean == pytest.approx(7)
    assert compare(store, [runs[0], drawn(store, 1, problems=30)]).versus[0].cost is None


def test_all_the_same_is_no_difference(store):
    runs = [drawn(store, 0.5, seed=3) for _ in range(2)]
    (versus,) = compare(store, runs).versus
    assert versus.difference.mean == 0
    assert versus.difference.low < 0 < versus.difference.high
    assert versus.difference.p == versus.p_holm == versus.p_exact == 1
    assert versus.power.needed is None
    assert not versus.won
    assert not versus.lost


def test_the_power_is_that_of_the_spread_that_was_seen(store):
    runs = [drawn(store, 0.5, problems=50, samples=1, seed=seed) for seed in range(2)]
    (versus,) = compare(store, runs).versus
    assert versus.power.problems == 50
    assert 0.1 < versus.power.detectable < 0.5


# What is refused


def refused(store, runs, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        compare(store, runs, **options)
    assert "\n" not in str(caught.value)


def test_other_problems_are_refused_unless_the_shared_are_asked_for(store):
    many, few = drawn(store, 0.5, problems=30), drawn(store, 0.5, problems=24, seed=1)
    refused(
        store, [many, few], rf"problems differ: 6 are not in every run, 24 are \(30 in {many}, 24 in {few}\); --shared"
    )
    found = compare(store, [many, few], shared=True)
    assert (found.problems, found.dropped) == (24, 6)
    assert [side.accuracy.problems for side in found.sides] == [24, 24]
    other = evaluation(store, [attempt(Problem("other/1", "1 + 1", "2"), 0, True)])
    refused(store, [many, other], "share no problem", shared=True)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"prompt": "What is 3 + 1, please?"}, "another prompt"),
        ({"answer": "5"}, "another gold answer"),
        ({"kind": "math"}, "another kind of answer"),
        ({"prompt": ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"})}, "another prompt"),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_one_id_for_two_problems_is_refused(store, changes, what, shared):
    one = evaluation(store, [attempt(problem(index), 0, True) for index in range(5)])
    other = evaluation(
        store, [attempt(problem(index, **(changes if index == 3 else {})), 0, True) for index in range(5)]
    )
    refused(store, [one, other], f"the problem fam1/test/3 has {what} in {other} than in {one}", shared=shared)


def test_a_text_and_one_user_message_are_the_same_prompt(store):
    text = problem(1, prompt="What?")
    chat = problem(1, prompt=({"role": "user", "content": "What?"},))
    runs = [evaluation(store, [attempt(each, 0, True)]) for each in (text, chat)]
    assert compare(store, runs).problems == 1


def test_rules_against_a_model_and_model_against_model_are_refused(store):
    def judged(judge):
        return evaluation(store, [attempt(problem(index, kind="judge"), 0, True, judge=judge) for index in range(5)])

    rule, small, large = (judged(judge) for judge in ("", "small", "large"))
    refused(store, [small, rule], rf"{small} was judged by a model and {rule} by rules \(5 problems\)")
    refused(store, [rule, small], rf"{small} was judged by a model and {rule} by rules")
    refused(store, [small, large], rf"different models \({small} by small, {large} by large\)")
    assert compare(store, [small, judged("small")]).problems == 5


def test_unfinished_runs_and_others_than_evaluations_are_refused(store):
    done = drawn(store, 0.5, problems=9)
    half = drawn(store, 0.5, problems=4, samples=1, finished=False)
    refused(store, [done, half], rf"{half} is not finished \(4 of 9 attempts\): run its eval command again")
    asked = drawn(store, 0.5, kind="ask")
    refused(store, [done, asked], f"{asked} is no evaluation")


def test_fewer_than_two_runs_or_one_twice_are_refused(store):
    run = drawn(store, 0.5)
    refused(store, [run], "at least two runs")
    refused(store, [], "at least two runs")
    refused(store, [run, run], f"{run} is named 2 times")
    refused(store, [run, "last"], f"{run} is named 2 times")
    refused(store, [run, "nothing"], "no run 'nothing'")


def test_last_is_the_last_evaluation(store):
    runs = [drawn(store, 0.5, seed=seed) for seed in range(2)]
    drawn(store, 0.5, kind="draws")
    assert [side.run.id for side in compare(store, [runs[0], "last"]).sides] == runs


def test_problems_without_a_verdict_are_left_out_and_counted(store):
    one = evaluation(store, [attempt(problem(index), 0, True) for index in range(5)])
    other = evaluation(
        store,
        [attempt(problem(index), 0, True, status="bad_gold" if index == 2 else None) for index in range(5)],
    )
    found = compare(store, [one, other])
    assert (found.problems, found.unusable) == (4, 1)
    nothing = evaluation(store, [attempt(problem(index), 0, False, status="bad_gold") for index in range(5)])
    refused(store, [one, nothing], "nothing to compare")


def test_truncation_that_could_turn_the_ranking_is_told(store):
    better = evaluation(store, [attempt(problem(index), 0, index < 12) for index in range(20)])
    cut = evaluation(
        store,
        [attempt(problem(index), 0, index < 8, status=None if index < 8 else "truncated") for index in range(20)],
    )
    (note,) = compare(store, [better, cut]).notes
    assert "60.0% of B's attempts are truncated" in note
    assert not compare(store, [cut, drawn(store, 0, problems=20, samples=1)]).notes


def test_differing_numbers_of_attempts_are_told(store):
    found = compare(store, [drawn(store, 0.5, samples=1), drawn(store, 0.5, samples=4)])
    assert any("A 1, B 4" in note for note in found.notes)


# What runs are called


def run_of(store, model, **config):
    return store.run(evaluation(store, [attempt(problem(1), 0, True)], model=model, config=config))


def test_labels_tell_what_differs(store):
    same = {"problems": 1, "problems_hash": "x", "samples": 2}
    runs = [
        run_of(store, "tiny", **same, strategy="single", sampling={"temperature": 0.6, "max_tokens": 9}),
        run_of(store, "tiny", **same, strategy="vote@8", sampling={"temperature": 0.6, "max_tokens": 9}),
        run_of(store, "tiny-base", **same, strategy="single", sampling={"temperature": 1.0, "max_tokens": 9}),
    ]
    assert labels(runs) == [
        "tiny, single, temperature=0.6",
        "tiny, vote@8, temperature=0.6",
        "tiny-base, single, temperature=1.0",
    ]
    assert labels(runs[:1]) == ["tiny"]
    twins = labels([runs[0], run_of(store, "tiny", **runs[0].config)])
    assert len(set(twins)) == 2
    assert all(label.startswith("tiny, ") for label in twins)


# Reports


class Page(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.links, self.open = [], set(), set(), []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids |= {dict(attrs).get("id")} - {None}
        self.links |= {dict(attrs).get("href")} - {None}
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_self_contained_and_each_number_leads_to_its_attempts(store, tmp_path):
    runs = [drawn(store, chance, seed=seed) for seed, chance in enumerate((0.3, 0.6, 0.7))]
    comparison = compare(store, runs)
    write_report(tmp_path / "deep" / "page.html", comparison, store, wins=2)
    text = (tmp_path / "deep" / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "link", "iframe")]
    assert "http:" not in text
    assert "https:" not in text
    assert {link.removeprefix("#") for link in page.links} <= page.ids
    assert {"#B-A", "#B-A-won", "#B-A-lost", "#C-A-won"} <= page.links
    assert "default-src 'none'" in text
    assert "{{ 7*7 }}" in text
    for versus in comparison.versus:
        for change in (*versus.won[:2], *versus.lost[:2]):
            assert all(f"attempt {number}<" in text for number in change.attempts)
    assert len(re.findall(r'<article class="trace">', text)) == 2 * sum(
        len(each.won[:2]) + len(each.lost[:2]) for each in comparison.versus
    )


def test_json_holds_every_figure(store):
    comparison = compare(store, [drawn(store, 0.3, seed=1), drawn(store, 0.6, seed=2)])
    told = json.loads(to_json(comparison))
    (versus,) = told["comparisons"]
    found = comparison.versus[0]
    assert versus["difference"] == found.difference.mean
    assert versus["interval"] == [found.difference.low, found.difference.high]
    assert (versus["p"], versus["p_exact"], versus["p_holm"]) == (found.difference.p, found.p_exact, found.p_holm)
    assert len(versus["won"]) == found.difference.wins
    assert told["runs"][1]["accuracy"] == comparison.sides[1].accuracy.mean
    assert len(json.loads(to_json(comparison, 2))["comparisons"][0]["won"]) == 2
    differences = np.array([change["scores"][1] - change["scores"][0] for change in versus["won"] + versus["lost"]])
    assert sign_flip_p(np.round(differences, 12)) == pytest.approx(found.difference.p)


def test_markdown_keeps_its_tables_whatever_was_answered(store):
    before = evaluation(store, [attempt(problem(index), 0, False) for index in range(4)])
    sly = [Attempt(problem(index), Trace("", "x"), Verdict("correct", 1.0, "a|b\n`c`")) for index in range(4)]
    text = to_markdown(compare(store, [before, evaluation(store, sly)]))
    for block in text.split("\n\n"):
        rows = [line for line in block.split("\n") if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1
    assert "Won: 4 problems" in text


def test_a_report_that_cannot_be_is_refused(store, tmp_path):
    comparison = compare(store, [drawn(store, 0.3), drawn(store, 0.6, seed=1)])
    with pytest.raises(UserError, match=r"must end in \.html, \.md, \.json"):
        write_report(tmp_path / "page.pdf", comparison, store)
    with pytest.raises(UserError, match="is a folder"):
        write_report(tmp_path, comparison, store)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(tmp_path / "file" / "page.html", comparison, store)
    assert "A − B" not in to_html(comparison, store, 0)
