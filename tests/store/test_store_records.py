"""What goes in comes out: every field, every text, every number."""

from __future__ import annotations

import array
import dataclasses
import math
import sqlite3
import struct
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from store_records import attempts, numbered, patient, problems, texts

from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.attempts import pack_floats, problem_row, unpack_floats
from thinksmith.store.schema import escape, unescape
from thinksmith.store.store import Store


@patient
@given(texts)
def test_escaped_text_is_utf8_without_nul_and_comes_back(text: str) -> None:
    assert b"\x00" not in escape(text).encode("utf-8")
    assert unescape(escape(text)) == text


@patient
@given(texts, texts)
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@patient
@given(st.lists(st.floats(width=32)))
def test_float32_numbers_take_four_bytes_each_and_come_back(values: list[float]) -> None:
    packed, dtype = pack_floats(values)
    assert (dtype, len(packed)) == ("<f4", 4 * len(values))
    assert str(unpack_floats(packed, dtype)) == str(tuple(values))  # as text: NaN equals NaN, and -0.0 differs from 0.0


@patient
@given(st.lists(st.floats(allow_nan=False)))
def test_other_floats_come_back_exactly(values: list[float]) -> None:
    packed, dtype = pack_floats(values)
    assert str(unpack_floats(packed, dtype)) == str(tuple(values))
    if any(math.isfinite(v) and abs(v) < 3e38 and struct.unpack("<f", struct.pack("<f", v))[0] != v for v in values):
        assert dtype == "<f8"


@patient
@given(batch=st.lists(attempts, max_size=4, unique_by=lambda a: (a.problem.id, a.sample)))
def test_attempts_come_back_exactly(store: Store, batch: list[Attempt]) -> None:
    run = store.start_run("eval", "any", "tiny")
    numbers = store.add(run, batch)
    stored = list(store.attempts(run))
    assert [one.attempt for one in stored] == batch
    assert [one.id for one in stored] == numbers
    assert store.done(run) == {(a.problem.id, a.sample) for a in batch}
    assert all(store.attempt(str(one.id)) == one for one in stored)


@patient
@given(name=texts, model=texts, value=texts)
def test_a_run_takes_any_text(store: Store, name: str, model: str, value: str) -> None:
    run_id = store.start_run("eval", name, model, config={value: [value]})
    store.finish_run(run_id, {"note": value})
    run = store.run(run_id)
    assert (run.name, run.model, run.config, run.summary) == (name, model, {value: [value]}, {"note": value})


def test_nan_comes_back(store: Store) -> None:
    nan = math.nan
    run = store.start_run("eval", "x", "tiny")
    trace = Trace("", "", logprobs=(nan, -math.inf), seconds=nan)
    store.add(run, [Attempt(Problem("p", "?", meta={"v": nan}), trace, Verdict("wrong", nan))])
    (one,) = store.attempts(run)
    assert math.isnan(one.attempt.trace.seconds)
    assert math.isnan(one.attempt.verdict.score)
    assert math.isnan(one.attempt.problem.meta["v"])
    assert str(one.attempt.trace.logprobs) == "(nan, -inf)"


@patient
@given(problems, problems)
def test_only_equal_problems_share_a_hash(one: Problem, other: Problem) -> None:
    assert (problem_row(one)["hash"] == problem_row(other)["hash"]) == (repr(one) == repr(other))


@patient
@given(problems, texts)
def test_the_hash_covers_every_field(problem: Problem, text: str) -> None:
    for name in ("id", "prompt", "answer", "kind"):
        assume(getattr(problem, name) != text)
        assert problem_row(dataclasses.replace(problem, **{name: text}))["hash"] != problem_row(problem)["hash"]


def test_meta_that_is_not_json_is_the_users_to_mend(store: Store) -> None:
    run = store.start_run("eval", "x", "tiny")
    bad = Attempt(Problem("gsm/7", "?", meta={"when": object()}), Trace("", ""), Verdict("wrong"))
    with pytest.raises(UserError, match=r"gsm/7.*meta"):
        store.add(run, [numbered(0), bad])
    assert store.done(run) == set()  # all or none


def test_what_plain_sql_sees(tmp_path: Path) -> None:
    """The file read by sqlite3 and `array` alone, as a user's script would."""
    path = tmp_path / "store.db"
    batch = [numbered(n, length=n) for n in range(8)]
    with Store.open(path) as store:
        run = store.start_run("eval", "count", "tiny")
        store.add(run, batch)
    rows = sqlite3.connect(path).execute("SELECT token_ids, logprobs, logprobs_type, thinking, tokens FROM attempts")
    for attempt, (packed_ids, packed, kind, thinking, tokens) in zip(batch, rows.fetchall(), strict=True):
        assert tuple(array.array("i", packed_ids)) == attempt.trace.token_ids
        assert kind == "<f4"
        assert tuple(array.array("f", packed)) == attempt.trace.logprobs
        assert (thinking, tokens) == (attempt.trace.thinking, len(attempt.trace.token_ids))
    count = sqlite3.connect(path).execute("SELECT count(*), json_extract(prompt, '$') FROM problems").fetchone()
    assert count == (2, "What is 0?")  # eight attempts at two problems
