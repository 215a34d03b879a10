"""`thinksmith curate`: the funnel in the terminal, the set on the disk, mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Twelve traces of three problems, four of them wrong, and one row that is none."""
    path = tmp_path / "traces.jsonl"
    lines = []
    for at in range(12):
        n = at % 3
        words = " ".join(f"{('then', 'we', 'see')[at * k % 3]} {at * k}" for k in range(1, 30))
        turn = f"<think>\n{words} so {n} + 1 = {n + 1}\n</think>\n\nThe answer is {n + 1}."
        messages = [{"role": "user", "content": f"What is {n} + 1?"}, {"role": "assistant", "content": turn}]
        lines.append(json.dumps({"messages": messages, "id": f"p{n}", "answer": n + 1, "correct": at >= 4}))
    path.write_text("\n".join([*lines, "{"]) + "\n")
    return path


def test_a_dry_run_shows_the_funnel_and_writes_nothing(cli, traces: Path) -> None:
    done = cli("curate", traces, "--dry-run")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["dropped", "left"]
    assert lines[1][:2] == ["read", "13"]
    assert ["unreadable", "1", "12"] in [line[:3] for line in lines]
    assert ["not", "correct", "4", "8"] in [line[:4] for line in lines]
    assert "kept      3 traces of 3 problems" in done.out
    assert f"bad row   {traces}:13: not JSON" in done.out
    assert "rates     Of 3 problems 3 are solved at rates from 0.1 to 0.9" in done.out
    assert [path.name for path in traces.parent.iterdir() if path.name != "store.db"] == ["traces.jsonl"]


def test_a_set_is_written_and_told(cli, traces: Path) -> None:
    out = traces.parent / "set"
    done = cli("curate", traces, "--out", out, "--choose", "all", "--form", "openr1", "--parquet")
    assert done.code == 0, done.err
    record = json.loads((out / "funnel.json").read_text())
    assert f"set       {out} ({record['hash'][:16]})" in done.out
    assert record["data"] == "data.parquet"
    assert record["options"]["choose"] == "all"
    again = cli("curate", out, "--dry-run", "--choose", "all")
    assert again.out.splitlines()[1].split()[:2] == ["read", str(record["funnel"]["kept"])]


def test_evaluations_are_looked_for(cli, traces: Path) -> None:
    evaluation = traces.parent / "eval.jsonl"
    evaluation.write_text(json.dumps({"id": "e1", "problem": "what is 1 + 1", "answer": "2"}) + "\n")
    done = cli("curate", traces, "--out", traces.parent / "set", "--against", evaluation)
    assert "1 of their problems stood in" in done.out
    hits = [json.loads(line) for line in (traces.parent / "set" / "contamination.jsonl").read_text().splitlines()]
    assert {(hit["id"], hit["hit"]["id"].rpartition("/")[2], hit["hit"]["where"]) for hit in hits} == {
        ("p1", "e1", "question")
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a folder for the set with --out"),
        (["--dry-run", "--push", "me/it"], "--dry-run writes nothing"),
        (["--dry-run", "--max-token", "3"], "--max-token"),
        (["--dry-run", "--language", "klingon"], "language 'klingon' cannot be told"),
        (["--dry-run", "--min-tokens", "9999"], "nothing is left of 13 traces: most were dropped as 'too short'"),
        (["--dry-run", "--against", "nothing.jsonl"], "nothing.jsonl"),
        (["--out", "traces.jsonl"], "traces.jsonl is a file; name a folder"),
    ],
)
def test_mistakes_are_one_line(cli, traces: Path, arguments, told: str, monkeypatch) -> None:
    monkeypatch.chdir(traces.parent)
    done = cli("curate", "traces.jsonl", *arguments)
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1


def test_sources_that_are_not_there(cli, tmp_path: Path) -> None:
    for name in ("nothing.jsonl", "no-run"):
        done = cli("curate", name, "--dry-run")
        assert (done.code, done.err.count("\n")) == (2, 1)


def test_pushing_needs_the_hub_and_keeps_the_set(cli, traces: Path, monkeypatch) -> None:
    """The tests are offline, so it cannot be reached: one line, and the set is there."""
    done = cli("curate", traces, "--out", traces.parent / "set", "--push", "me/it")
    assert done.code == 2
    assert "me/it cannot be pushed" in done.err
    assert done.err.count("\n") == 1
    assert (traces.parent / "set" / "data.jsonl").exists()
    assert "OWNER/NAME" in cli("curate", traces, "--out", traces.parent / "set", "--push", "it").err
