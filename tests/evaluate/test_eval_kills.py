"""A sample of bench/eval_kills.py: an evaluation that is killed while it works ends as the undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_a_killed_evaluation_ends_as_the_undisturbed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import eval_kills

    figures = eval_kills.trial(tmp_path, 2, 12, ("vote@4",))
    assert figures["kills"] == 2
    assert figures["evaluations_that_differ_in"] == {}


def test_the_comparison_sees_a_lost_a_doubled_and_a_changed_attempt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    from test_kept import PROBLEMS, SAMPLING, Dice

    import eval_kills
    from thinksmith.evaluate.evaluate import evaluate
    from thinksmith.store.store import Store

    def made(folder: str, count: int, samples: int, seed: int) -> object:
        home = tmp_path / folder
        home.mkdir()
        with Store.open(home / "store.db") as store:
            settings = {"sampling": SAMPLING if not seed else type(SAMPLING)(seed=seed), "strategy": "vote@2"}
            evaluate(PROBLEMS[:count], Dice(), store=store, name="x", samples=samples, **settings)  # type: ignore[arg-type]
        return eval_kills.Evaluation(home, "vote@2", count).outcome()

    calm = made("calm", 12, 2, 0)
    assert made("same", 12, 2, 0) == calm
    others = [made("lost", 11, 2, 0), made("doubled", 12, 3, 0), made("changed", 12, 2, 1)]
    assert all(other["attempts"] != calm["attempts"] for other in others)  # type: ignore[index]
    assert all(other["draws"] != calm["draws"] for other in others)  # type: ignore[index]
