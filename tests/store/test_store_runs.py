"""Runs: their ids, how they are named, continued and counted; and the orders of attempts."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_records import numbered, patient

from thinksmith.errors import UserError
from thinksmith.records import Status
from thinksmith.store.store import Store, config_hash, default_url


def test_a_run_from_start_to_end(store: Store) -> None:
    before = datetime.now(UTC)
    run_id = store.start_run("eval", "arithmetic", "tiny", "abc", {"n": 3, "temperature": 0.6})
    assert re.fullmatch(r"eval-\d{8}-\d{6}-[0-9a-f]{4}", run_id)
    statuses: list[Status] = ["correct", "wrong", "truncated", "correct"]
    store.add(run_id, [numbered(n, status) for n, status in enumerate(statuses)])
    running = store.run(run_id)
    assert (running.status, running.finished, running.attempts, running.correct) == ("running", None, 4, 2)
    assert running.config == {"n": 3, "temperature": 0.6}
    store.finish_run(run_id, {"accuracy": 0.5})
    done = store.run(run_id)
    assert (done.status, done.summary, done.weights_hash) == ("done", {"accuracy": 0.5}, "abc")
    assert done.finished is not None
    assert before - timedelta(seconds=1) <= done.started <= done.finished <= datetime.now(UTC)
    assert next(store.attempts(run_id)).made >= before


def test_naming_a_run(store: Store) -> None:
    with pytest.raises(UserError, match="holds no run"):
        store.run("last")
    first = store.start_run("eval", "a", "tiny")
    second = store.start_run("grpo", "b", "tiny")
    third = store.start_run("eval", "c", "tiny")
    assert [run.id for run in store.runs()] == [third, second, first]
    assert [run.id for run in store.runs(limit=1)] == [third]
    assert store.run("last").id == third
    assert store.run("gr").id == second
    assert store.run(first).id == first
    with pytest.raises(UserError, match=f"2 runs.*{third}, {first}"):
        store.run("eval-")
    with pytest.raises(UserError, match=f"nearest: {second}"):
        store.run(second.replace("grpo", "gpro"))
    for nonsense in ("", "%", "_", "nothing like it", "\x00", "\ud800"):
        with pytest.raises(UserError, match="no run"):
            store.run(nonsense)


def test_ids_of_one_second_do_not_clash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["0000", "0000", "0000", "0001"])
    monkeypatch.setattr("thinksmith.store.store.secrets.token_hex", lambda _: next(drawn))
    with Store.open(tmp_path / "store.db") as store:
        ids = [store.start_run("eval", "a", "tiny") for _ in range(2)]
    assert len(set(ids)) == 2


def test_what_can_be_continued(store: Store) -> None:
    config = {"n": 300, "seed": 1}
    key = config_hash("eval", "gsm8k", "tiny", "abc", config)
    assert store.find_run("eval", key) is None
    old = store.start_run("eval", "gsm8k", "tiny", "abc", config)
    store.start_run("eval", "gsm8k", "tiny", "OTHER", config)
    new = store.start_run("eval", "gsm8k", "tiny", "abc", {"seed": 1, "n": 300})
    found = store.unfinished("eval", key)
    assert found is not None
    assert found.id == new
    store.finish_run(new, {})
    left = store.unfinished("eval", key)
    assert left is not None
    assert left.id == old
    store.finish_run(old, {})
    assert store.unfinished("eval", key) is None
    latest = store.find_run("eval", key)
    assert latest is not None
    assert latest.id == new
    assert store.find_run("grpo", key) is None


@patient
@given(st.lists(st.text(), min_size=4, max_size=4), st.lists(st.text(), min_size=4, max_size=4))
def test_config_hash_separates_its_parts(one: list[str], other: list[str]) -> None:
    assert (config_hash(*one) == config_hash(*other)) == (one == other)


def test_the_same_attempt_is_stored_once(store: Store) -> None:
    run = store.start_run("eval", "x", "tiny")
    first = store.add(run, [numbered(n) for n in range(6)])
    again = store.add(run, [numbered(n, "wrong") for n in (5, 6, 0, 6)])
    assert (again[0], again[2]) == (first[5], first[0])
    assert again[1] == again[3]
    assert again[1] not in first
    stored = list(store.attempts(run))
    assert [one.attempt.verdict.status for one in stored] == ["correct"] * 6 + ["wrong"]
    other = store.start_run("eval", "x", "tiny")
    assert not set(store.add(other, [numbered(0)])) & {one.id for one in stored}
    assert store.add(run, []) == []


def test_attempts_need_a_run(store: Store) -> None:
    with pytest.raises(UserError, match="no run 'eval-x'"):
        store.add("eval-x", [numbered(1)])
    with pytest.raises(UserError, match="no run"):
        store.finish_run("eval-x", {})


def test_orders_and_filters(store: Store) -> None:
    run = store.start_run("eval", "x", "tiny")
    other = store.start_run("eval", "y", "tiny")
    statuses: list[Status] = ["correct", "wrong", "no_answer", "truncated", "wrong"]
    made = [numbered(n, statuses[n % 5], length=(n * 7) % 30) for n in range(300)]  # several pages
    for start in range(0, 300, 60):
        store.add(run, made[start : start + 60])
        store.add(other, [numbered(start)])
    assert [one.attempt for one in store.attempts(run)] == made
    longest = [one.attempt for one in store.attempts(run, order="longest")]
    assert longest == sorted(made, key=lambda a: -a.trace.tokens)
    assert [one.attempt for one in store.attempts(run, order="shortest")] == sorted(made, key=lambda a: a.trace.tokens)
    assert [one.attempt for one in store.attempts(run, order="longest", limit=7)] == longest[:7]
    assert [one.attempt for one in store.attempts(run, wrong=True)] == [
        a for a in made if a.verdict.status != "correct"
    ]
    truncated = [one.attempt for one in store.attempts(run, status="truncated", limit=3)]
    assert truncated == [a for a in made if a.verdict.status == "truncated"][:3]
    with pytest.raises(UserError, match="choose one of correct, wrong"):
        store.attempts(run, status="rong")  # at once, not at the first next()
    with pytest.raises(UserError, match="nearest"):
        store.attempts("nothing")


def test_reading_is_not_disturbed_by_writing(store: Store) -> None:
    run = store.start_run("eval", "x", "tiny")
    store.add(run, [numbered(n) for n in range(200)])
    reading = store.attempts(run)
    next(reading)
    store.add(run, [numbered(n) for n in range(200, 210)])
    assert len(list(reading)) == 199
    assert len(list(store.attempts(run))) == 210


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1e3", "٣", "0x1", "1_0", "9" * 30, "4711"])
def test_no_such_attempt(store: Store, text: str) -> None:
    with pytest.raises(UserError, match="attempt"):
        store.attempt(text)


def test_threads_share_a_store(store: Store) -> None:
    run = store.start_run("eval", "x", "tiny")
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for n in range(thread, 160, 8):  # neighbours share problems
                store.add(run, [numbered(n)])
                list(store.attempts(run, limit=3))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.done(run) == {(f"count/test/{n // 4}", n % 4) for n in range(160)}


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINKSMITH_STORE", str(tmp_path / "deep" / "er" / "my store?.db"))
    with Store.open() as store:
        store.start_run("eval", "x", "tiny")
    assert (tmp_path / "deep" / "er" / "my store?.db").stat().st_size > 0
    with Store.open(f"sqlite:///{tmp_path}/deep/er/my store?.db") as store:
        assert len(store.runs()) == 1
    monkeypatch.setenv("THINKSMITH_STORE", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Path(default_url()).is_relative_to(tmp_path)
    assert Path(default_url()).parts[-2:] == ("thinksmith", "store.db")
