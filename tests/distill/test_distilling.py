"""A whole distillation: its steps in one folder, gone on with, and refused before anybody is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from thinksmith.distill.distill import distill
from thinksmith.distill.recipe import DistillRecipe
from thinksmith.errors import UserError
from thinksmith.recipes.load import checked, load
from thinksmith.records import Attempt
from thinksmith.store.store import Store

SMALL: dict[str, Any] = {
    "problems": "arithmetic:digits=1",
    "n": 8,
    "student": "tiny",
    "scratch": 0.5,
    "seed": 3,
    "collect": {"k": 2, "max_tokens": 128},
    "curate": {"easiest": 1.0, "hardest": 0.0},
    "sft": {"batch": {"samples": 4}},
    "compare": {"n": 5, "max_tokens": 64},
}


class Looker:
    """Notes what it is told; `stop_at` raises Ctrl-C at the attempt of that number that is measured."""

    def __init__(self, stop_at: int = 0) -> None:
        self.collected, self.steps, self.notes, self.measured = 0, list[float](), list[str](), list[str]()
        self._stop_at = stop_at

    def collecting(self, problems: int) -> Any:
        return self

    def curating(self) -> Callable[[str, int, int], None]:
        return lambda what, done, of: None

    def learning(self) -> Any:
        return self

    def measuring(self, who: str, attempts: int) -> Callable[[Attempt], None]:
        def told(attempt: Attempt) -> None:
            self.measured.append(who)
            if len(self.measured) == self._stop_at:
                raise KeyboardInterrupt

        return told

    def begin(self, *_: Any) -> None: ...

    def attempt(self, attempt: Attempt) -> None:
        self.collected += 1

    def note(self, text: str) -> None:
        self.notes.append(text)

    def training(self, steps: int) -> None: ...

    def step(self, metrics: dict[str, float]) -> None:
        self.steps.append(metrics["loss"])

    def alarm(self, alarm: Any) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as found:
        yield found


def recipe(**changed: Any) -> DistillRecipe:
    return checked(
        json.loads(json.dumps(SMALL)), DistillRecipe, {key.replace("__", "."): v for key, v in changed.items()}
    )


def test_all_four_steps_and_all_of_it_again_for_nothing(tmp_path: Path, store: Store) -> None:
    first = Looker()
    done = distill(recipe(), tmp_path / "run", store, first)
    assert first.collected == 16
    assert len(first.steps) == done.learnt.trained.steps > 0
    assert first.measured == ["student"] * 5 + ["student before"] * 5 + ["tiny"] * 5
    assert list(done.runs) == ["student", "student before", "tiny"]
    assert [side.run.id for side in done.comparison.sides] == list(done.runs.values())
    assert done.comparison.sides[2].accuracy.mean > done.comparison.sides[1].accuracy.mean
    for name in ("report.html", "result.json", "set/data.jsonl", "set/card.md", "sft/model/config.json"):
        assert (tmp_path / "run" / name).exists()
    again = Looker()
    second = distill(recipe(), tmp_path / "run", store, again)
    assert (again.collected, again.steps) == (0, [])
    assert (second.curated.hash, second.runs) == (done.curated.hash, done.runs)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["set"] == done.curated.hash


def test_interrupted_it_goes_on_to_the_same(tmp_path: Path, store: Store) -> None:
    whole = distill(recipe(), tmp_path / "whole", store, Looker())
    with Store.open(tmp_path / "other.db") as other:
        with pytest.raises(KeyboardInterrupt):
            distill(recipe(), tmp_path / "run", other, Looker(stop_at=7))
        rest = distill(recipe(), tmp_path / "run", other, Looker())
        scores = [found.figures(run).score_N.tolist() for found, run in _runs(store, whole.runs, other, rest.runs)]
    half = len(scores) // 2
    assert scores[:half] == scores[half:]
    assert rest.curated.hash == whole.curated.hash


def _runs(one: Store, ones: dict[str, str], other: Store, others: dict[str, str]) -> list[tuple[Store, str]]:
    return [(one, run) for run in ones.values()] + [(other, run) for run in others.values()]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sft__model": "tiny"}, "recipe's student"),
        ({"sft__data": "x.jsonl"}, "what is curated"),
        ({"collect__most": 9}, "strategy"),
        ({"collect__teachers": ["tiny", "tiny"]}, "twice|named 2 times"),
        ({"collect__budget": "much"}, "budget"),
        ({"collect__budget": "10tokens"}, "does not do for one attempt"),
        ({"curate__similarity": 3}, "similarity"),
        ({"curate__choose": "best"}, "choose"),
        ({"sft__training__lr": -1.0}, "lr"),
        ({"scratch": 0.01}, "share"),
        ({"problems": "arithmetik"}, "arithmetic"),
        ({"student": "tini"}, "tiny"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(
    changed: dict[str, Any], says: str, tmp_path: Path, store: Store
) -> None:
    looker = Looker()
    with pytest.raises(UserError, match=says):
        distill(recipe(**changed), tmp_path / "run", store, looker)
    assert (looker.collected, store.runs()) == (0, [])


def test_nothing_is_taught_that_is_measured(tmp_path: Path, store: Store) -> None:
    both = tmp_path / "both.jsonl"
    both.write_text("".join(f'{{"question": "What is {i} + 1?", "answer": "{i + 1}"}}\n' for i in range(8)))
    with pytest.raises(UserError, match="both taught and measured"):
        distill(recipe(problems=str(both), compare__n=4), tmp_path / "run", store, Looker())


def test_the_shipped_recipe_is_whole() -> None:
    shipped = load("distill/words", DistillRecipe)
    assert shipped.expected
    assert shipped.compare.n == 200
