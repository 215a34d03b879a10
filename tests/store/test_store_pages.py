"""Pages of a run's attempts: each goes on where the last one ended, in every order and for every filter."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event
from store_records import numbered, patient

from thinksmith.errors import UserError
from thinksmith.records import Status
from thinksmith.store import store as store_module
from thinksmith.store.store import Order, Store

STATUSES: tuple[Status, ...] = ("correct", "wrong", "no_answer", "truncated")
made = st.lists(st.tuples(st.sampled_from(STATUSES), st.integers(0, 3)), max_size=40)
filters = st.fixed_dictionaries(
    {"wrong": st.booleans(), "order": st.sampled_from(["made", "longest", "shortest"])},
    optional={"status": st.sampled_from(STATUSES), "problem": st.sampled_from(["count/test/1", "What", "is 2?"])},
)


def reference(store: Store, run: str, asked: dict[str, Any]) -> list[int]:
    """The numbers that the filters keep, in their order, worked out from all attempts."""
    found = list(store.attempts(run))
    if asked["wrong"]:
        found = [one for one in found if one.attempt.verdict.status != "correct"]
    if "status" in asked:
        found = [one for one in found if one.attempt.verdict.status == asked["status"]]
    if text := asked.get("problem"):
        exact = any(one.attempt.problem.id == text for one in store.attempts(run))
        found = [
            one
            for one in found
            if (one.attempt.problem.id == text if exact else text in one.attempt.problem.id + one.attempt.problem.text)
        ]
    by_length = {"made": 0, "longest": -1, "shortest": 1}[asked["order"]]
    return [one.id for one in sorted(found, key=lambda one: (by_length * one.attempt.trace.tokens, one.id))]


@patient
@given(made=made, asked=filters, size=st.integers(1, 7))
def test_pages_put_together_are_the_whole(store: Store, made: list[Any], asked: dict[str, Any], size: int) -> None:
    run, other = store.start_run("eval", "x", "tiny"), store.start_run("eval", "y", "tiny")
    for n, (status, length) in enumerate(made):
        store.add(run, [numbered(n, status, length)])
        store.add(other, [numbered(n, "correct", 2)])
    known = {text for n in range(len(made)) for text in (f"count/test/{n // 4}", f"What is {n // 4}?")}
    if "problem" in asked and not any(asked["problem"] in text for text in known):
        with pytest.raises(UserError, match="no problem"):
            store.attempts(run, **asked)
    else:
        expected = reference(store, run, asked)
        assert [one.id for one in store.attempts(run, **asked)] == expected
        paged: list[int] = []
        while page := [one.id for one in store.attempts(run, **asked, limit=size, after=paged[-1] if paged else None)]:
            assert len(page) <= size
            paged += page
        assert paged == expected


@pytest.mark.parametrize("order", ["longest", "shortest"])
def test_a_page_may_end_among_the_equally_long(store: Store, order: Order) -> None:
    run = store.start_run("eval", "x", "tiny")
    numbers = store.add(run, [numbered(n, "wrong", 3) for n in range(10)])
    numbers += store.add(run, [numbered(n, "wrong", 5 if order == "shortest" else 1) for n in range(10, 20)])
    for size in (1, 3, 4, 7, 10, 11):
        assert [one.id for one in store.attempts(run, order=order, limit=size)] == numbers[:size]
        assert [one.id for one in store.attempts(run, order=order, limit=size, after=numbers[4])] == numbers[
            5 : 5 + size
        ]


def test_numbers_are_read_in_pages_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_NUMBERS", 7)
    run = store.start_run("eval", "x", "tiny")
    store.add(run, [numbered(n, STATUSES[n % 4], n % 5) for n in range(60)])
    for order in get_args(Order):
        asked = {"wrong": True, "order": order}
        assert [one.id for one in store.attempts(run, **asked)] == reference(store, run, asked)


def test_a_page_reads_no_more_than_it_shows(store: Store) -> None:
    """However long the run: what is asked of the database has a bound, and goes along an index."""
    if store._engine.dialect.name != "sqlite":
        return
    run = store.start_run("eval", "x", "tiny")
    store.add(run, [numbered(n, STATUSES[n % 4]) for n in range(300)])
    asked: list[tuple[str, Any]] = []
    event.listen(store._engine, "before_cursor_execute", lambda _, __, *sql: asked.append(sql[:2]))
    for order in get_args(Order):
        list(store.attempts(run, wrong=True, order=order, limit=5, after=150))
    numbers = [(text, values) for text, values in asked if "LIMIT" in text]
    assert len(numbers) > 10
    with store._engine.connect() as connection:
        for text, values in numbers:
            plan = str(connection.exec_driver_sql("EXPLAIN QUERY PLAN " + text, values).all())
            assert "COVERING INDEX attempts_by_status" in plan or "COVERING INDEX attempts_in_order" in plan, plan
            assert "TEMP B-TREE" not in plan, plan


def test_what_cannot_be_shown(store: Store) -> None:
    run, other = store.start_run("eval", "x", "tiny"), store.start_run("eval", "y", "tiny")
    store.add(run, [numbered(n) for n in range(4)])
    (elsewhere,) = store.add(other, [numbered(9)])
    with pytest.raises(UserError, match=f"no attempt {elsewhere} in the run"):
        store.attempts(run, after=elsewhere)
    with pytest.raises(UserError, match=r"no problem of the run .* is called 'count/test/2'"):
        store.attempts(run, problem="count/test/2")  # of the other run alone


def test_words_that_say_too_little(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinksmith.store.order.MOST_PROBLEMS", 2)
    run = store.start_run("eval", "x", "tiny")
    store.add(run, [numbered(n) for n in range(12)])
    with pytest.raises(UserError, match="more than 2 problems"):
        store.attempts(run, problem="What is")
    assert len(list(store.attempts(run, problem="count/test/1"))) == 4
    assert len(list(store.attempts(run, problem="is 1?"))) == 4


def test_signs_of_sql_are_text(store: Store) -> None:
    run = store.start_run("eval", "x", "tiny")
    store.add(run, [numbered(n) for n in range(4)])
    for text in ("%", "_", "'", '"', "\\", "\x00", "\ud800", "\n"):
        with pytest.raises(UserError, match="no problem"):
            store.attempts(run, problem=text)
