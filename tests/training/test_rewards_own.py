"""What a recipe may write under [rewards]: own functions by import path, options, and every mistake in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_kit import attempt

from thinksmith.errors import UserError
from thinksmith.training.rl.rewards import REWARDS, Scorer, scorer

OWN = '''
from __future__ import annotations

def brevity(attempt, *, most: float = 4.0, upper: bool = False):
    return len(attempt.trace.answer) / most

def spread(attempts, *, by: int = 1):
    return [index / by for index, _ in enumerate(attempts)]

def maker(factor: float, name: str = "x"):
    def reward(attempt):
        return factor * len(attempt.trace.answer)
    return reward

def untyped(factor):
    return lambda attempt: factor * len(attempt.trace.answer)

class Kept:
    """Made once, with its options."""
    made = 0

    def __init__(self, start: int = 1, max_tokens: int = 7):
        if start < 0:
            raise ValueError("start must not\\nbe negative")
        Kept.made += 1
        self.start, self.max_tokens = start, max_tokens

    def __call__(self, attempt):
        self.start += 1
        return self.start * 1000 + self.max_tokens

class Box:
    inner = staticmethod(brevity)

table = {}
not_a_function = 3

def makes_text(factor: float = 1.0):
    return "text"

def makes_maker(factor: float = 1.0):
    return maker

def no_arguments():
    return no_arguments

def fails(attempt):
    raise KeyError("lost\\nin lines")

def gives(attempt):
    return table["value"]

def short(attempts):
    return [1.0]

def no_list(attempts):
    return 1.0

async def later(attempt):
    return 1.0

def two(attempt, other):
    return 1.0
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module `mylab.rewards`, which is the current directory and not on Python's path."""
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "rewards.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "mylab" / "broken.py").write_text("import no_such_module_anywhere", encoding="utf-8")
    (tmp_path / "mylab" / "leaves.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def one(spec: dict[str, Any], *texts: str, max_tokens: int = 0) -> tuple[float | None, ...]:
    totals, _ = scorer(spec, max_tokens=max_tokens)([attempt(text) for text in texts])
    return totals


def test_own_functions_by_import_path(own: Path) -> None:
    assert one({"mylab.rewards:brevity": 0.5}, "four", "eightish") == (0.5, 1.0)
    assert one({"mylab.rewards:brevity": {"weight": 2, "most": 2}}, "four") == (4.0,)
    assert one({"mylab.rewards:Box.inner": 1.0}, "four") == (1.0,)
    assert one({"mylab.rewards:maker": {"weight": 1.0, "factor": 3}}, "four") == (12.0,)
    assert one({"mylab.rewards:untyped": {"weight": 1.0, "factor": 2}}, "four") == (8.0,)
    assert one({"mylab.rewards:spread": {"weight": 1.0, "by": 2}}, "a", "b", "c") == (0.0, 0.5, 1.0)


def test_a_class_is_made_once_and_told_the_longest_completion(own: Path) -> None:
    assert one({"mylab.rewards:Kept": {"weight": 1.0, "start": 4}}, "a", "b", max_tokens=50) == (5050.0, 6050.0)
    assert sys.modules["mylab.rewards"].Kept.made == 1
    assert one({"mylab.rewards:Kept": {"weight": 1.0, "max_tokens": 9}}, "a", max_tokens=50) == (2009.0,)
    assert one({"mylab.rewards:Kept": 1.0}, "a") == (2007.0,)


def test_an_installed_module_is_not_hidden_by_one_here(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "statistics.py").write_text("def fmean(attempt):\n    return 7.0\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "statistics", raising=False)
    scorer({"statistics:fmean": 1.0})
    assert not (own / "statistics.py").samefile(sys.modules["statistics"].__file__ or "")


MISTAKES = {
    "corectness": "unknown reward 'corectness'; did you mean 'correctness'[?] known are correctness, think_format",
    "mylab.rewards:brevty": "mylab.rewards has no 'brevty'; did you mean 'brevity'[?]",
    "mylab.rewards:": "mylab.rewards has no ''; name a function in it",
    "mylab.reward:brevity": r"cannot import 'mylab.reward' \(ModuleNotFoundError: .*\); it must be installed",
    "mylab.broken:brevity": r"cannot import 'mylab.broken' \(ModuleNotFoundError: No module named 'no_such_module",
    "mylab.leaves:brevity": r"cannot import 'mylab.leaves' \(SystemExit: 3\)",
    ":brevity": "cannot import ''",
    "..mylab:brevity": r"cannot import '..mylab'",
    "mylab.rewards:not_a_function": "is no function but int",
    "mylab.rewards:makes_text": "makes no function but str",
    "mylab.rewards:makes_maker": "makes a function without a parameter for the attempt",
    "mylab.rewards:no_arguments": "makes a function without a parameter for the attempt",
    "mylab.rewards:maker": "needs the option 'factor'",
    "mylab.rewards:two": "needs the option 'other'",
    "mylab.rewards:later": "is async",
    "length": "needs 0 <= shortest < max_tokens, got 0 and 0",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_names(own: Path, name: str) -> None:
    with pytest.raises(UserError, match=MISTAKES[name]) as told:
        scorer({"think_format": 1.0, name: 1.0})
    assert "\n" not in str(told.value)
    assert repr(name) in str(told.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "length",
            {"shortst": 1},
            "unknown option 'shortst'; did you mean 'shortest'? its options are max_tokens, short",
        ),
        ("correctness", {"attempt": 1}, "unknown option 'attempt'; it has no options"),
        ("code_tests", {"attempts": 1}, "unknown option 'attempts'; its options are most"),
        ("think_format", {"conversational": True}, "unknown option 'conversational'"),
        ("length", {"shortest": 1.5}, "option 'shortest' must be int, got 1.5"),
        ("length", {"shortest": True}, "option 'shortest' must be int, got True"),
        ("language", {"script": 1}, "option 'script' must be str, got 1"),
        ("language", {"script": "klingon"}, "reward 'language': unknown script 'klingon'; known are latin"),
        ("repetition", {"max_penalty": float("nan")}, "option 'max_penalty' is nan; give a number"),
        ("mylab.rewards:brevity", {"most": "4"}, "option 'most' must be float, got '4'"),
        ("mylab.rewards:brevity", {"upper": 1}, "option 'upper' must be bool, got 1"),
        ("mylab.rewards:Kept", {"start": -1}, "reward 'mylab.rewards:Kept': start must not be negative"),
        ("mylab.rewards:Kept", {"weigth": 1}, "unknown option 'weigth'"),
    ],
)
def test_mistakes_in_options(own: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as told:
        scorer({name: {"weight": 1.0, **options}}, max_tokens=64)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "1", True, None])
def test_a_weight_is_a_number(weight: Any) -> None:
    for spec in (weight, {"weight": weight}):
        with pytest.raises(UserError, match=r"reward 'correctness'.*weight"):
            scorer({"correctness": spec})
    with pytest.raises(UserError, match="reward 'length' has no weight; write"):
        scorer({"length": {"shortest": 3}}, max_tokens=64)
    with pytest.raises(UserError, match="no rewards"):
        scorer({})


def test_every_reward_of_ours_can_be_made_by_its_name_alone() -> None:
    made = scorer(dict.fromkeys(REWARDS, 1.0), max_tokens=64)
    assert isinstance(made, Scorer)
    assert [part.name for part in made.parts] == list(REWARDS)
    assert {part.name for part in made.parts if not part.each} == {"code_tests"}


# -- what own functions do while it runs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "1.0", b"1", [1.0], {}, object(), 1j, np.float32("nan"), torch.ones(2)]
)
def test_what_is_no_number_is_told_with_reward_and_problem(own: Path, value: Any) -> None:
    made = scorer({"mylab.rewards:gives": 1.0})
    sys.modules["mylab.rewards"].table["value"] = value
    with pytest.raises(UserError, match=r"reward 'mylab.rewards:gives' returned .* for problem p/1; it must") as told:
        made([attempt()])
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize("value", [1, True, np.float32(1), np.int64(1), np.ones(()), torch.ones(()), 1.0])
def test_numbers_of_all_makers_are_numbers(own: Path, value: Any) -> None:
    made = scorer({"mylab.rewards:gives": 2.0})
    sys.modules["mylab.rewards"].table["value"] = value
    assert made([attempt()]) == ((2.0,), ({"mylab.rewards:gives": 1.0},))
    sys.modules["mylab.rewards"].table["value"] = None
    assert made([attempt()]) == ((None,), ({"mylab.rewards:gives": None},))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", "reward 'mylab.rewards:fails' failed on problem p/1: KeyError: 'lost\\nin lines'"),
        ("short", "returned 1 numbers for 3 attempts"),
        ("no_list", "returned 1.0; it must return a list"),
    ],
)
def test_functions_that_fail(own: Path, name: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        scorer({f"mylab.rewards:{name}": 1.0})([attempt(), attempt(), attempt()])
    assert message in str(told.value)


def test_attempts_whose_engine_failed_are_not_shown(own: Path) -> None:
    failed = attempt(status="error", finish="error")
    totals, parts = scorer({"mylab.rewards:spread": 1.0, "mylab.rewards:brevity": 1.0})(
        [failed, attempt("four"), failed, attempt("four")]
    )
    assert totals == (None, 1.0, None, 2.0)
    assert parts[0] == {"mylab.rewards:spread": None, "mylab.rewards:brevity": None}
    assert scorer({"mylab.rewards:fails": 1.0})([failed]) == ((None,), ({"mylab.rewards:fails": None},))
    assert scorer({"mylab.rewards:no_list": 1.0})([failed])[0] == (None,)


def test_totals_do_not_depend_on_company(own: Path) -> None:
    """Attempts are scored one by one, whatever they stand beside."""
    made = scorer({"correctness": 1.0, "mylab.rewards:brevity": 0.5, "language": 0.25})
    attempts = [attempt("four"), attempt("vier", status="bad_gold"), attempt("четыре", score=0.5)]

    def alone(each: Sequence[Any]) -> tuple[float | None, ...]:
        return tuple(total for one_ in each for total in made([one_])[0])

    assert made(attempts)[0] == alone(attempts) == (1.75, None, 1.25)
    assert made(attempts[::-1])[0] == alone(attempts[::-1])
    assert made([replace(attempts[0], sample=9)])[0] == (1.75,)
