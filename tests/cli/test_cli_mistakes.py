"""A mistake of the user's: one line on standard error that says what to change, exit code 2, no traceback."""

import io
import os
import resource
import sqlite3
import sys

import pytest

from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.store import Store

MISTAKES = {
    "unknown command": (["evla"], "did you mean 'eval'"),
    "unknown option": (["runs", "--limt", "3"], "--limit"),
    "missing argument": (["export", "last"], "thinksmith export --help"),
    "no number": (["runs", "--limit", "many"], "'--limit': input should be a valid integer"),
    "number out of range": (["eval", "mixed", "-n", "0"], "greater than or equal to 1"),
    "unknown choice": (["ask", "1 + 1", "--show", "thought"], "'thought' is not one of 'answer', 'all', 'json'"),
    "unknown family": (["problems", "aritmetic"], "did you mean 'arithmetic'"),
    "nothing to check": (["problems", "", "--check"], "name what to check"),
    "nothing named to check": (["problems", "--check"], "name what to check"),
    "unknown key": (["problems", "arithmetic:digts=2"], "digits"),
    "value out of range": (["eval", "arithmetic:digits=9"], "1..3"),
    "no such file": (["problems", "nowhere/mine.jsonl"], "no such file"),
    "unknown model": (["ask", "1 + 1", "--model", "tyny"], "did you mean tiny"),
    "unknown model of an evaluation": (["eval", "chains", "--model", "./nowhere"], "./nowhere"),
    "no question": (["ask", "  "], "thinksmith ask"),
    "nothing at all": (["ask"], "thinksmith ask"),
    "question in latin-1": (["ask", "wie gro\udcdf ist 3?"], "not UTF-8"),
    "replay of a new question": (["ask", "1 + 1", "--replay", "last"], "leave out"),
    "nothing to replay": (["ask", "--replay", "last"], "nothing was asked yet"),
    "no such attempt": (["audit", "77"], "no attempt 77"),
    "unreadable trace": (["audit", "/nowhere/trace.txt"], "No such file"),
    "a folder for a trace": (["audit", "/"], "directory"),
    "no run": (["traces", "last"], "no run yet"),
    "a recipe's key without a value": (["grpo", "quickstart", "--set", "steps"], "write KEY=VALUE"),
    "a recipe's key that is none": (["grpo", "quickstart", "--set", "rolout.prompts=2"], "did you mean 'rollout'"),
    "a value of another type": (["grpo", "quickstart", "--set", "rollout.prompts=two"], "rollout.prompts: "),
    "a key with dots of its own": (["grpo", "quickstart", "--set", 'rewards."no.such:one"=1.0'], "import 'no.such'"),
    "a table": (["grpo", "quickstart", "--set", "rewards={length={weight=1, shortest=999}}"], "shortest < max_tokens"),
    "a tracker that is none": (["grpo", "quickstart", "--track", "wanb"], "did you mean 'wandb'"),
    "unknown export": (["export", "last", "x.jsonl"], "no run yet"),
}


def one_line(done):
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("thinksmith: ")
    assert done.err.count("\n") == 1, done.err
    assert done.err.endswith("\n")
    return done.err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(mistake, cli):
    arguments, told = MISTAKES[mistake]
    assert told.lower() in one_line(cli(*arguments)).lower()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["traces", "sum-1"], "nearest"),
        (["traces", "last", "--status", "right"], "correct, wrong"),
        (["export", "last", "x.csv"], ".parquet"),
        (["export", "last", "/nowhere/at/all/x.jsonl"], "cannot write"),
        (["ask", "--replay", "1"], "without its token ids"),
        (["ask", "--replay", "one"], "number"),
    ],
)
def test_mistakes_over_a_filled_store(arguments, told, cli, filled):
    assert told in one_line(cli(*arguments))


@pytest.mark.parametrize("command", ["ask", "audit"])
def test_standard_input_that_is_no_utf8(command, cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"What is 3 \xff 4?")))
    assert "byte 10" in one_line(cli(command, "-"))


@pytest.mark.parametrize("command", [["ask", "-"], ["audit", "-"], ["verify", "-", "--gold", "5"]])
def test_standard_input_that_is_closed(command, cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # so it is in a process that was started with `<&-`
    assert "standard input is closed" in one_line(cli(*command))


def test_a_file_that_is_no_utf8(cli, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"prompt": "1 \xff 1", "answer": "2"}\n')
    assert str(bad) in one_line(cli("problems", bad))
    assert str(bad) in one_line(cli("audit", bad))


def test_a_malformed_row_is_told_with_its_line(cli, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "1 + 1", "answer": "2"}\n{"prompt": \n')
    assert f"{bad}:2" in one_line(cli("problems", bad))


def test_an_empty_trace(cli, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    assert "no text" in one_line(cli("audit", tmp_path / "empty.txt"))


@pytest.mark.parametrize("command", [["runs"], ["traces", "last"], ["audit", "1"], ["ask", "2 + 2"]])
def test_a_store_of_a_newer_version(command, cli, filled, own_store):
    with sqlite3.connect(own_store) as connection:
        connection.execute("UPDATE thinksmith_meta SET value = '99' WHERE key = 'schema_version'")
    assert "upgrade thinksmith" in one_line(cli(*command))


def test_a_store_that_is_something_else(cli, own_store):
    own_store.write_text("my diary")
    assert "THINKSMITH_STORE" in one_line(cli("runs"))
    assert own_store.read_text() == "my diary"


def test_a_full_disk_leaves_the_old_export(cli, tmp_path):
    file = tmp_path / "out.jsonl"
    file.write_text("old")
    with Store.open() as store:
        long = store.start_run("eval", "long", "tiny")
        problem, verdict = Problem("p", "1 + 1", "2"), Verdict("wrong")
        store.add(long, [Attempt(problem, Trace("Hm. " * 2000, ""), verdict, sample) for sample in range(50)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # like a disk with this much left
        done = cli("export", long, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in one_line(done)
    assert file.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"out.jsonl", "store.db", "store.db-wal", "store.db-shm"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(cli, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("1 + 1 = 2")
    secret.chmod(0)
    assert "Permission denied" in one_line(cli("audit", secret))


def test_a_fault_of_ours_keeps_its_traceback(cli, monkeypatch):
    monkeypatch.setattr("thinksmith.store.store.Store.open", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli("runs")
