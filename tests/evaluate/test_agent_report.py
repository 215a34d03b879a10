"""What is told of agents: steps and calls with intervals, task by task, in memory, in the store and in the pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.agent.office.scripted import Manner, ScriptedEngine
from thinksmith.evaluate.acted import COUNTS, acted, deeds_of, notes_of
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.evaluate.report import Report, render_report, stored_report
from thinksmith.evaluate.summary import Summary, summarise, summarise_run
from thinksmith.problems.load import load
from thinksmith.records import Attempt, Problem, Sampling, Trace, Verdict
from thinksmith.store.figures import figures_of
from thinksmith.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


def run(store: Store, manner: Manner, *, samples: int = 2, seed: int = 0) -> tuple[str, Summary]:
    tasks = load("agent/office:level=1")
    sampling = Sampling(max_tokens=300, seed=seed)
    engine = ScriptedEngine(tasks, manner)
    return evaluate(
        tasks, engine, sampling=sampling, store=store, name="agent/office", strategy="agent", samples=samples
    )


def attempt(problem: str, sample: int, steps: int, calls: int, failed: int, right: bool) -> Attempt:
    notes = {"steps": steps, "calls": calls, "failed": failed, "spent": 10 * steps, "traces": steps, "answered": right}
    verdict = Verdict("correct", 1.0) if right else Verdict("wrong")
    return Attempt(Problem(problem, "?", None, "task"), Trace("", "x"), verdict, sample, "agent", notes)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 30), st.integers(0, 40), st.integers(0, 5), st.booleans()),
        min_size=1,
        max_size=25,
    )
)
def test_means_are_over_tasks_each_of_which_counts_the_same(drawn):
    made = [attempt(f"t{task}", at, *rest) for at, (task, *rest) in enumerate(drawn)]
    found = summarise(made).acted
    assert found
    for name, key in (("steps", 1), ("calls", 2), ("failed", 3)):
        per_task = [np.mean([each[key] for each in drawn if each[0] == task]) for task in {each[0] for each in drawn}]
        mean = getattr(found, name)
        assert mean.mean == pytest.approx(np.mean(per_task))
        assert 0 <= mean.low <= mean.mean + 1e-9
        assert mean.high >= mean.mean - 1e-9
    assert found.answered == pytest.approx(np.mean([each[4] for each in drawn]))
    assert found.tokens.mean == pytest.approx(10 * found.steps.mean)
    assert (found.tasks, found.attempts) == (len({each[0] for each in drawn}), len(drawn))


def test_an_interval_of_tasks_that_differ_is_wider_than_one_of_more_attempts_at_them():
    few = [attempt(f"t{task}", 0, 5 + task, 1, 0, True) for task in range(8)]
    more = [attempt(f"t{task}", at, 5 + task, 1, 0, True) for task in range(8) for at in range(9)]
    one, other = summarise(few).acted, summarise(more).acted
    assert one
    assert other
    assert one.steps == other.steps, "attempts at the same tasks are no other tasks"
    assert one.steps.low < one.steps.mean < one.steps.high


def test_of_others_nothing_is_told():
    plain = Attempt(Problem("p", "1 + 1", "2"), Trace("", "2"), Verdict("correct", 1.0))
    assert summarise([plain]).acted is None
    assert deeds_of(notes_of([plain, attempt("t", 0, 3, 1, 0, True)])) is None
    assert deeds_of([]) is None
    assert acted(figures_of([plain]), None) is None


def test_the_store_tells_what_memory_does(store):
    run_id, summary = run(store, "oracle")
    made = [stored.attempt for stored in store.attempts(run_id)]
    assert summary.acted == summarise(made).acted == summarise_run(store, run_id).acted
    told = store.run(run_id).summary["acted"]
    assert told["steps"]["mean"] == summary.acted.steps.mean  # type: ignore[union-attr]
    assert summary.acted.steps.mean == np.mean([each.notes["steps"] for each in made])  # type: ignore[union-attr]
    assert summary.traces == summary.acted.steps.mean  # type: ignore[union-attr]


def test_agents_that_answer_at_once_are_told_of_too(store):
    tasks = load("agent/office:level=1")
    _, summary = evaluate(
        tasks,
        ScriptedEngine(tasks, "lazy"),
        sampling=Sampling(),
        store=store,
        name="agent/office",
        strategy="agent:planning=no",
    )
    assert summary.acted
    assert summary.acted.steps.mean == 1


def test_seeds_are_told_of_together(store):
    first, one = run(store, "oracle", samples=1)
    second, _ = run(store, "oracle", samples=1, seed=1)
    both = stored_report(store, [first, second]).summary
    assert both
    assert both.acted
    assert one.acted
    assert both.acted.attempts == 2 * one.acted.attempts
    assert both.acted.steps == one.acted.steps, "the oracle does the same again"


def table(page: Report, title: str) -> Any:
    return next(each for each in (*page.tables, *page.lists) if each.title == title)


def test_the_page_has_steps_with_intervals_and_a_row_a_task(store, tmp_path):
    run_id, summary = run(store, "lazy")
    page = stored_report(store, [run_id])
    rows = {row[0]: row[1:] for row in table(page, "What the agent did, for each task").rows}
    assert set(rows) == {
        "steps",
        "calls of tools",
        "calls that did not work",
        "calls that were not allowed",
        "steps that brought nothing new",
        "tokens",
    }
    assert rows["steps"] == ("2.00", "2.00", "2.00")
    tasks = {row[0].text: [cell.text for cell in row[1:]] for row in table(page, "Tasks").rows}
    assert len(tasks) == 8
    assert tasks["newest_error"][:4] == ["1", "2 of 2", "2.0", "0.0"]
    assert tasks["sum_column"][:4] == ["1", "0 of 2", "2.0", "0.0"]
    assert list(tasks)[-1] in ("newest_error", "count_status", "follow_pointers"), "the least solved first"
    assert not any(each.name.startswith("maj") for each in summary.at_k), "there is nothing to vote on"
    for ending in ("html", "md", "json"):
        render_report(tmp_path / f"page.{ending}", page)
        text = (tmp_path / f"page.{ending}").read_text()
        assert "What the agent did, for each task" in text
        assert "sum_column" in text or "sum\\_column" in text
    assert json.loads((tmp_path / "page.json").read_text())["summary"]["acted"]["steps"]["mean"] == 2
    assert set(COUNTS) < set(json.loads((tmp_path / "page.json").read_text())["summary"]["acted"])


def test_a_terminal_is_told_too(store, capsys):
    from thinksmith.cli.eval import _print
    from thinksmith.cli.screen import console

    run_id, _ = run(store, "oracle")
    _print(console(), stored_report(store, [run_id]), [run_id], "temperature 1")
    said = capsys.readouterr().out
    assert "steps     " in said
    assert "for each task (95 %), with " in said
    assert "sum_column" in said
    assert "2 of 2" in said
