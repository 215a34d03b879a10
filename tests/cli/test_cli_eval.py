"""`thinksmith eval`: how the model is sampled, strategies, seeds, reports; and pages of traces."""

from __future__ import annotations

import json
import re

import pytest

from thinksmith.cli.eval import _sampled_by, _sampling, _seeds
from thinksmith.errors import UserError
from thinksmith.evaluate.cards import Advice
from thinksmith.store.store import Store
from thinksmith.strategies.names import STRATEGIES

FEW = ("-n", 4, "--max-tokens", 24, "--model", "tiny")


def test_seeds_are_runs_that_are_summed_up_together(cli, own_store, tmp_path):
    page = tmp_path / "report.json"
    done = cli("eval", "arithmetic", *FEW, "--seeds", "3,4", "--samples", 2, "--report", page)
    assert done.code == 0, done.err
    assert "4 problems, 16 attempts" in done.out
    assert "between seeds: ±" in done.out
    with Store.open() as store:
        runs = store.runs()
        assert [run.config["sampling"]["seed"] for run in runs] == [4, 3]
        assert {run.attempts for run in runs} == {8}
        assert all(run.id in done.out for run in runs)
    assert json.loads(page.read_text())["summary"]["accuracy"]["attempts"] == 16


def test_measures_over_k_and_warnings_are_printed(cli, own_store):
    done = cli("eval", "arithmetic", *FEW, "--samples", 4)
    assert [line.split()[0] for line in done.out.splitlines() if re.match(r"\d ", line)] == ["1", "2", "4"]
    assert "warning   4 problems are too few" in done.out
    assert "sampling  temperature 1\n" in done.out


def test_a_strategy_spends_more_than_the_trace_that_is_judged(cli, own_store):
    done = cli("eval", "arithmetic", *FEW, "--strategy", "vote@3")
    assert done.code == 0, done.err
    assert "3.0 traces for each attempt" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--strategy", "vot@8"), "vote"),
        (("--strategy", "vote@0"), "n"),
        (("--seeds", "1,x"), "whole numbers"),
        (("--seeds", "1,1"), "twice"),
        (("--report", "page.pdf"), "must end in .html, .md, .json"),
    ],
)
def test_a_mistake_is_told_before_a_model_is_opened(cli, own_store, arguments, said):
    done = cli("eval", "arithmetic", "--model", "./nowhere", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert said in done.err
    assert "nowhere" not in done.err


def test_tasks_are_an_agents(cli, own_store):
    few = ("agent/office", "-n", 2, "--model", "tiny", "--max-tokens", 8)
    done = cli("eval", *few)
    assert done.code == 0, done.err
    assert "for each task (95 %), with 0.0 [0.0, 0.0] calls" in done.out
    with Store.open() as store:
        assert store.runs()[0].config["strategy"] == "agent"
    refused = cli("eval", *few, "--strategy", "single")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "single only answers: --strategy agent" in refused.err


def test_the_help_names_every_strategy(cli):
    shown = " ".join(cli("eval", "--help").out.split())
    assert all(name in shown for name in STRATEGIES)


def test_how_the_model_is_sampled():
    card = Advice({"temperature": 0.6, "top_p": 0.95, "top_k": 20}, "the model's own")
    own = _sampling(card, {}, 64, None)
    assert (own.temperature, own.top_p, own.top_k, own.max_tokens) == (0.6, 0.95, 20, 64)
    assert _sampled_by(own, card, {}) == "temperature 0.6, top_p 0.95, top_k 20 (the model's own)"
    given = _sampling(card, {"temperature": 0.0}, 64, 8)
    assert (given.temperature, given.top_p, given.max_thinking_tokens) == (0, 0.95, 8)
    assert _sampled_by(given, card, {"temperature": 0.0}).endswith("(the model's own, but for temperature)")
    plain = _sampling(Advice({}), {}, 64, None)
    assert (plain.temperature, plain.top_p) == (1, 1)
    assert _sampled_by(plain, Advice({}), {}) == "temperature 1"


def test_seeds_as_they_are_written():
    assert _seeds("") == []
    assert _seeds(" 0, 1,12") == [0, 1, 12]
    for text in ("-1", "1.5", "a", "٣"):
        with pytest.raises(UserError, match="whole numbers"):
            _seeds(text)


def test_the_next_page_of_traces(cli, filled):
    first = cli("traces", filled["sums"], "--longest", "--limit", 4)
    numbers = [line.split()[0] for line in first.out.splitlines()[1:-1]]
    assert f"--after {numbers[-1]} shows the next" in first.out
    second = cli("traces", filled["sums"], "--longest", "--limit", 4, "--after", numbers[-1])
    following = [line.split()[0] for line in second.out.splitlines()[1:-1]]
    assert [int(number) for number in numbers + following] == list(range(30, 22, -1))


def test_traces_of_a_problem(cli, filled):
    by_id = cli("traces", filled["sums"], "--problem", "sum/7").out.splitlines()
    by_text = cli("traces", filled["sums"], "--problem", "is 7 + 1").out.splitlines()
    assert len(by_id) == 2
    assert by_id == by_text
    assert cli("traces", filled["sums"], "--problem", "moon").code == 2
