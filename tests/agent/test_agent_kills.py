"""A sample of bench/agent_kills.py: an agent that is killed while it works ends as the undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCH = str(Path(__file__).parents[2] / "bench")


def test_killed_runs_end_as_the_undisturbed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import agent_kills

    figures = agent_kills.trial(tmp_path, 3)
    assert figures["kills"] == 3
    assert figures["done_twice"] == 0
    assert figures["lost"] == 0
    assert figures["runs_that_differ_in"] == {}


def test_a_journal_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So the trial can fail: what is not written before it is done is done again."""
    monkeypatch.syspath_prepend(BENCH)
    import agent_kills

    with agent_kills.listening() as listener:
        run = agent_kills.Trial(tmp_path / "run", listener)
        run.finish()
        expected = run.outcome()
        assert set(expected["things"].values()) == {1}
        (path,) = (tmp_path / "run" / "agents").glob("*/journal.jsonl")
        lines = path.read_bytes().splitlines(keepends=True)
        at = next(n for n, entry in enumerate(run.journal()) if entry["kind"] == "begin" and "POST" in entry["summary"])
        path.write_bytes(b"".join(lines[:at]))
        run.finish()
        got = run.outcome()
        assert got != expected
        assert max(got["things"].values()) == 2
