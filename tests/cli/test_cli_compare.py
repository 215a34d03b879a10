"""`thinksmith compare`: its tables, bars, JSON and reports, and its one-line refusals."""

import json
import random

import pytest

from thinksmith.cli.compare import bar
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.store import Store


@pytest.fixture
def runs(own_store):
    """Three evaluations of 40 problems, right with chance 0.3, 0.6 and 0.9, and one of 30 of them."""
    made = []
    with Store.open() as store:
        for seed, (chance, problems) in enumerate([(0.3, 40), (0.6, 40), (0.9, 40), (0.5, 30)]):
            source = random.Random(seed)
            run = store.start_run("eval", "sums", f"model {seed}", "w", {"problems": problems, "samples": 1})
            attempts = []
            for index in range(problems):
                right = source.random() < chance
                trace = Trace("Hm.", "x\x1b[31m", token_ids=tuple(range(5 + seed)), model="m")
                verdict = Verdict("correct" if right else "wrong", float(right), "1" if right else "\x1b[2J0")
                attempts.append(Attempt(Problem(f"sum/{index}", f"What is {index}?", "1"), trace, verdict))
            store.add(run, attempts)
            store.finish_run(run, {})
            made.append(run)
    return made


def test_two_runs_side_by_side(cli, runs):
    done = cli("compare", runs[0], runs[1])
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    lines = done.out.splitlines()
    assert lines[0] == "40 problems, paired"
    (side,) = [line for line in lines if line.startswith("B  ")]
    assert "●" in side
    assert f"model 1 ({runs[1]})" in side
    (difference,) = [line for line in lines if line.startswith("B − A  ")]
    assert difference.split()[-1] == "McNemar"
    assert any(line.startswith("tokens an attempt 5 → 6, +1") for line in lines)
    assert any("points is told with 80 % chance" in line for line in lines)
    assert sum(line.startswith("won ") for line in lines) == 5


def test_the_shown_numbers_are_those_of_the_json(cli, runs):
    told = json.loads(cli("compare", runs[0], runs[2], "--json").out)
    (versus,) = told["comparisons"]
    text = cli("compare", runs[0], runs[2]).out
    assert f"{100 * versus['difference']:+.1f}" in text
    assert len(versus["won"]) == 5
    assert versus["won"][0]["answers"] == ["\x1b[2J0", "1"]
    assert len(json.loads(cli("compare", runs[0], runs[2], "--json", "--wins", 1).out)["comparisons"][0]["won"]) == 1


def test_all_pairs_and_beginnings_of_ids_and_last(cli, runs):
    first = json.loads(cli("compare", *runs[:3], "--json").out)
    assert [(each["other"], each["one"]) for each in first["comparisons"]] == [("B", "A"), ("C", "A")]
    every = json.loads(cli("compare", *runs[:3], "--json", "--all-pairs").out)
    assert len(every["comparisons"]) == 3
    shared = json.loads(cli("compare", runs[0], "last", "--json", "--shared").out)
    assert shared["runs"][1]["run"] == runs[3]
    assert (shared["problems"], shared["dropped"]) == (30, 10)
    assert "10 that not all runs have are left out" in cli("compare", runs[0], "last", "--shared").out


@pytest.mark.parametrize("ending", ["html", "md", "json"])
def test_reports(cli, runs, tmp_path, ending):
    page = tmp_path / f"page.{ending}"
    done = cli("compare", *runs[:3], "--report", page)
    assert done.code == 0
    assert done.out.splitlines()[-1] == f"report    {page}"
    text = page.read_text(encoding="utf-8")
    assert all(run in text for run in runs[:3])
    beside = cli("compare", *runs[:2], "--json", "--report", page)
    assert json.loads(beside.out)
    assert "report" in beside.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "at least two runs"),
        ((0, 0), "named 2 times"),
        ((0, 3), "--shared"),
        ((0, "nothing-like-it"), "no run"),
        ((0, 1, "--report", "page.pdf"), "must end in"),
        ((0, 1, "--wins", -1), "wins"),
        ((), "runs"),
    ],
)
def test_mistakes_are_told_in_one_line(cli, runs, arguments, message):
    done = cli("compare", *(runs[each] if type(each) is int and each >= 0 else each for each in arguments))
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert message.casefold() in done.err.casefold()


def test_a_bar_has_its_ends_and_its_mean_where_they_belong():
    assert bar(-1, 0, 1, -1, 1) == "├" + "─" * 11 + "●" + "─" * 11 + "┤"
    assert bar(0.5, 0.75, 1, -1, 1) == " " * 12 + "┊" + " " * 5 + "├──●──┤"
    assert bar(0, 0, 0, 0, 1) == "●" + " " * 24
    assert len(bar(-3, 0, 3, -1, 1)) == 25
