"""A sample of bench/collect_kills.py: a collection that is killed while it works ends as the undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_a_killed_collection_ends_as_the_undisturbed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import collect_kills

    figures = collect_kills.trial(tmp_path, 3, 24, collect_kills.KINDS[:2])
    assert figures["kills"] == 3
    assert figures["collections_that_differ_in"] == {}
    assert figures["stored_and_asked_again"] == 0
    assert figures["lost"] == 0
    assert figures["requests_to_endpoints"] >= figures["attempts_from_endpoints"] > 0


def test_the_comparison_sees_a_lost_a_doubled_and_a_changed_attempt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    from collect_kit import SAMPLING, Sums, problems, staff

    import collect_kills
    from thinksmith.distill.collect.collect import collect
    from thinksmith.distill.collect.goal import Goal
    from thinksmith.store.store import Store

    def made(folder: str, count: int, k: int, seed: int) -> object:
        home = tmp_path / folder
        home.mkdir()
        with Store.open(home / "store.db") as store:
            sampling = type(SAMPLING)(temperature=1.0, seed=seed)
            collect(problems(count), staff(Sums(), sampling=sampling), goal=Goal("single", k), store=store, name="x")
        place = collect_kills.Place(tmp_path, (), ())
        return collect_kills.Collection(home, place, "endpoints", (), count).outcome()

    calm = made("calm", 12, 2, 0)
    assert made("same", 12, 2, 0) == calm
    for other in (made("lost", 11, 2, 0), made("doubled", 12, 3, 0), made("changed", 12, 2, 1)):
        assert other["attempts"] != calm["attempts"]  # type: ignore[index]
