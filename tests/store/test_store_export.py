"""A run as a file: every field comes back, and a file is whole or not there."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from store_records import attempts, numbered, patient, without_pairs

from thinksmith.errors import UserError
from thinksmith.records import Attempt
from thinksmith.store.export import export, read_jsonl
from thinksmith.store.store import Store

batches = st.lists(attempts, max_size=4, unique_by=lambda a: (a.problem.id, a.sample))


@pytest.fixture
def run(store: Store) -> str:
    """A run of more attempts than a page or a row group."""
    run = store.start_run("eval", "count", "tiny")
    store.add(run, [numbered(n) for n in range(700)])
    return run


@patient
@given(batch=batches)
def test_jsonl_gives_the_attempts_back(store: Store, tmp_path: Path, batch: list[Attempt]) -> None:
    assume(without_pairs(batch))
    run = store.start_run("eval", "any", "tiny")
    store.add(run, batch)
    path = tmp_path / "out.jsonl"
    assert export(store, run, path) == len(batch)
    assert list(read_jsonl(path)) == batch
    # Whatever a reader takes for the end of a line, there are as many lines as attempts.
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(batch)


def test_jsonl_holds_every_field(store: Store, run: str, tmp_path: Path) -> None:
    export(store, run, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for stored, line in zip(store.attempts(run), lines, strict=True):
        head = {"id": stored.id, "run_id": run, "made": stored.made.isoformat()}
        assert line == head | json.loads(json.dumps(asdict(stored.attempt)))


def clean(value: Any) -> Any:
    """What Parquet makes of texts: U+FFFD for a surrogate."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


@patient
@given(batch=batches)
def test_parquet_holds_every_field(store: Store, tmp_path: Path, batch: list[Attempt]) -> None:
    assume(without_pairs(batch))
    run = store.start_run("eval", "any", "tiny")
    store.add(run, batch)
    path = tmp_path / "out.parquet"
    assert export(store, run, path) == len(batch)
    rows = pq.read_table(path).to_pylist()
    for row, stored in zip(rows, store.attempts(run), strict=True):
        record = asdict(stored.attempt)
        trace, verdict = record["trace"], record["verdict"]
        assert (row["id"], row["run_id"], row["made"]) == (stored.id, run, stored.made)
        for name, value in {**trace, **verdict}.items():
            if name not in ("sampling", "usage", "top_logprobs", "token_ids", "prompt_ids", "forced", "logprobs"):
                assert row[name] == clean(value), name
        for name in ("token_ids", "prompt_ids", "forced", "logprobs"):
            assert row[name] == (None if trace[name] is None else list(trace[name]))
        likely = row["top_logprobs"] and tuple(
            tuple((p["id"], p["logprob"]) for p in each) for each in row["top_logprobs"]
        )
        assert (tuple(likely) if likely is not None else None) == trace["top_logprobs"]
        usage = None if trace["usage"] is None else {**trace["usage"], "notes": list(trace["usage"]["notes"])}
        assert (row["usage"] and json.loads(row["usage"])) == usage
        problem = stored.attempt.problem
        assert row["problem_id"] == clean(problem.id)
        assert (row["gold"], row["kind"]) == (clean(problem.answer), clean(problem.kind))
        assert row["prompt"] == (clean(problem.prompt) if isinstance(problem.prompt, str) else None)
        assert [m["content"] for m in row["messages"]] == [clean(m["content"]) for m in problem.messages]
        assert (row["sample"], row["strategy"]) == (record["sample"], clean(record["strategy"]))
        assert json.loads(row["sampling"])["seed"] == trace["sampling"]["seed"]


def test_parquet_of_several_row_groups(store: Store, run: str, tmp_path: Path) -> None:
    assert export(store, run, tmp_path / "out.parquet") == 700
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["sample"].to_pylist() == [n % 4 for n in range(700)]
    assert table.schema.field("token_ids").type == pa.list_(pa.int32())
    assert table["meta"].to_pylist()[-1] == '{"n":174}'


def test_an_empty_run_is_an_empty_file(store: Store, tmp_path: Path) -> None:
    run = store.start_run("eval", "x", "tiny")
    assert export(store, run, tmp_path / "a.jsonl") == export(store, run, tmp_path / "a.PARQUET") == 0
    assert list(read_jsonl(tmp_path / "a.jsonl")) == []
    assert pq.read_table(tmp_path / "a.PARQUET").num_rows == 0


def test_where_no_export_can_be(store: Store, run: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.jsonl or \.parquet"):
        export(store, run, tmp_path / "out.csv")
    with pytest.raises(UserError, match="no run"):
        export(store, "nothing", tmp_path / "out.jsonl")
    with pytest.raises(UserError, match="No such file or directory"):
        export(store, run, tmp_path / "no" / "out.jsonl")
    (tmp_path / "dir.jsonl").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        export(store, run, tmp_path / "dir.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir() if "store.db" not in path.name) == ["dir.jsonl"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_failed_export_leaves_the_old_file_alone(store: Store, run: str, tmp_path: Path, suffix: str) -> None:
    """The disk is full: /dev/full refuses every write; it stands in for the file under the temporary name."""
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")
    part = tmp_path / f".out.{suffix}.{os.getpid()}.part"
    part.symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left on device"):
        export(store, run, path)
    assert path.read_text() == "old"
    assert not part.is_symlink()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_an_interrupted_export_leaves_the_old_file_alone(
    store: Store, run: str, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / f"out.{suffix}"
    path.write_text("old")
    monkeypatch.setattr("thinksmith.store.export.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(store, run, path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_link_stays_a_link(store: Store, run: str, tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    export(store, run, tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len(list(read_jsonl(tmp_path / "real.jsonl"))) == 700


@pytest.mark.parametrize("line", [b"{", b"[]", b"1", b"{}", b'{"problem": 3}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_an_export(store: Store, tmp_path: Path, line: bytes) -> None:
    run = store.start_run("eval", "x", "tiny")
    store.add(run, [numbered(3)])
    path = tmp_path / "out.jsonl"
    export(store, run, path)
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    reading = read_jsonl(path)
    assert next(reading) == numbered(3)
    with pytest.raises(UserError, match=r"out\.jsonl:3: not an attempt") as caught:
        next(reading)
    assert "\n" not in str(caught.value)


def test_no_file_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))
