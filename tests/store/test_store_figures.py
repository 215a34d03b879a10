"""The columns of a run are those of its attempts, read from the database or made in memory."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from store_records import attempts, numbered, patient

from thinksmith.records import Attempt, Problem, Sampling, Trace, Usage, Verdict
from thinksmith.store.figures import Figures, figures_of
from thinksmith.store.store import Store

noted = st.builds(
    lambda attempt, notes: replace(attempt, notes=notes),
    attempts,
    st.one_of(
        st.just({}),
        st.fixed_dictionaries({"spent": st.integers(0, 2**31 - 1), "traces": st.integers(0, 1000)}),
        st.fixed_dictionaries({"cost": st.floats(0, 1e6), "spent": st.integers(0, 2**31 - 1)}),
    ),
)


def equal(stored: Figures, made: Figures) -> bool:
    """All but the numbers in the store; NaN equals NaN."""
    for field in fields(Figures):
        one, other = getattr(stored, field.name), getattr(made, field.name)
        if isinstance(one, tuple):
            same = one == other
        else:
            same = one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        if not same and field.name != "ids_N":
            return False
    return True


@patient
@given(batch=st.lists(noted, max_size=6, unique_by=lambda a: (a.problem.id, a.sample)))
def test_figures_from_the_store_are_those_of_the_attempts(store: Store, batch: list[Attempt]) -> None:
    run = store.start_run("eval", "any", "tiny")
    numbers = store.add(run, batch)
    stored = store.figures(run)
    assert equal(stored, figures_of(batch))
    by_key = {(a.problem.id, a.sample): number for a, number in zip(batch, numbers, strict=True)}
    keys = [(stored.problems[p].id, s) for p, s in zip(stored.problem_N, stored.sample_N, strict=True)]
    assert [by_key[key] for key in keys] == stored.ids_N.tolist()


def test_the_order_is_pythons_whatever_the_database_sorts_by(store: Store) -> None:
    """NUL and U+241B are written as other characters, which sort elsewhere; so does every letter in PostgreSQL."""
    names = ["a\x00", "a", "a\x01", "a\u2400", "a\u241b", "a\u2500", "B", "b", "\ud800", "é", "e", "f"]
    made = [Attempt(Problem(name, "?"), Trace("", "", model=name), Verdict("wrong", 0.0, name)) for name in names]
    made += [replace(made[0], sample=1, verdict=Verdict("correct", 1.0, "last"))]
    run = store.start_run("eval", "x", "tiny")
    store.add(run, made)
    stored = store.figures(run)
    assert [problem.id for problem in stored.problems] == sorted(names)
    assert equal(stored, figures_of(made))


def test_a_problem_that_changed_during_a_run_is_that_of_its_last_attempt(store: Store) -> None:
    run = store.start_run("eval", "x", "tiny")
    made = [replace(numbered(n), problem=Problem(f"p/{n % 2}", f"version {n // 2}"), sample=n // 2) for n in range(8)]
    store.add(run, made[::-1])
    stored = store.figures(run)
    assert {problem.text for problem in stored.problems} == {"version 3"}
    assert equal(stored, figures_of(made))


def test_what_an_attempt_spent(store: Store) -> None:
    """All traces of a strategy count; one that asked once spent what its trace has."""
    trace = Trace("", "", token_ids=(1, 2, 3), sampling=Sampling(), usage=Usage(cost=0.5))
    once = Attempt(Problem("p", "?"), trace, Verdict("wrong"))
    voted = replace(once, sample=1, notes={"spent": 40, "traces": 8, "cost": 4.0})
    run = store.start_run("eval", "x", "tiny")
    store.add(run, [once, voted])
    figures = store.figures(run)
    assert figures.tokens_N.tolist() == [3, 3]
    assert figures.spent_N.tolist() == [3, 40]
    assert figures.traces_N.tolist() == [1, 8]
    assert figures.cost_N.tolist() == [0.5, 4.0]


def test_figures_of_an_empty_run(store: Store) -> None:
    run = store.start_run("eval", "x", "tiny")
    assert len(store.figures(run)) == 0
    assert equal(store.figures(run), figures_of([]))


def test_figures_are_read_through_the_index_alone(store: Store) -> None:
    """Traces take a thousand times as long to read. SQLite tells how it reads."""
    if store._engine.dialect.name != "sqlite":
        return
    from sqlalchemy import event

    asked: list[tuple[str, Any]] = []
    event.listen(store._engine, "before_cursor_execute", lambda _, __, *sql: asked.append(sql[:2]))
    run = store.start_run("eval", "x", "tiny")
    store.add(run, [numbered(n) for n in range(8)])
    asked.clear()
    store.figures(run)
    read, values = next(each for each in asked if "attempts.score" in each[0])
    with store._engine.connect() as connection:
        plan = str(connection.exec_driver_sql("EXPLAIN QUERY PLAN " + read, values).all())
    assert "COVERING INDEX attempts_figures" in plan
    assert "TEMP B-TREE" not in plan
