"""Recipes: found, checked, overridden, and written so that they read back the same."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from thinksmith.errors import UserError
from thinksmith.recipes import load as recipes
from thinksmith.recipes.load import find, load, to_toml
from thinksmith.training.rl.recipe import GRPORecipe

SHIPPED = sorted(path.stem for path in recipes.HERE.glob("*.toml"))


def told(path: Path, overrides: dict[str, Any] | None = None) -> str:
    """The one line that a recipe with a mistake earns."""
    with pytest.raises(UserError) as error:
        load(str(path), GRPORecipe, overrides)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_whole_and_reads_back(name: str) -> None:
    recipe = load(name, GRPORecipe)
    assert recipe.expected
    assert GRPORecipe.model_validate(tomllib.loads(to_toml(recipe))) == recipe


def test_there_is_a_first_recipe() -> None:
    assert "quickstart" in SHIPPED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step = 3", "unknown key 'step'; did you mean 'steps'?"),
        ("[training]\nlearning_rate = 1", "unknown key 'training.learning_rate'; TRL's learning_rate is training.lr"),
        ("[rollout]\ntemprature = 1.0", "unknown key 'rollout.temprature'; did you mean 'temperature'?"),
        ("[trainig]\nlr = 1e-5", "unknown key 'trainig'; did you mean 'training'?"),
        ("a = 1\nb = 2", "(and 1 more)"),
        ('steps = "many"', "steps: Input should be a valid integer, got 'many'"),
        ("steps = true", "steps: Input should be a valid integer, got True"),
        ('steps = "40"', "got '40'"),
        ("steps = 0", "steps: Input should be greater than or equal to 1, got 0"),
        ("[training]\nlr = nan", "training.lr: "),
        ("[training]\nlr = inf", "training.lr: "),
        ('[training]\nloss_type = "ppo"', "training.loss_type: Input should be 'grpo', 'bnpo', 'dr_grpo', 'dapo', "),
        ("[rollout]\nnum_generations = 1", "rollout.num_generations: "),
        ("rollout = 3", "rollout: "),
        ("[rewards]", "rewards: "),
        ('[rewards]\ncorrectness = "much"', "rewards.correctness: "),
        ("steps = ", "not valid TOML"),
        ("steps = 1\nsteps = 2", "not valid TOML"),
    ],
)
def test_a_mistake_is_told_in_one_line(mine: Path, text: str, message: str) -> None:
    mine.write_text(text)
    assert message in told(mine)


def test_a_file_that_is_not_text(mine: Path) -> None:
    mine.write_bytes(b'model = "t\xffny"')
    assert "not UTF-8 at byte 10" in told(mine)


@pytest.mark.parametrize("name", ["no-such", "no/such.toml", "a\0b", "x" * 5000])
def test_a_recipe_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match="no recipe") as error:
        find(name)
    assert len(str(error.value)) < 6000
    assert "\n" not in str(error.value)


def test_a_missing_recipe_names_those_that_ship() -> None:
    with pytest.raises(UserError, match=", ".join(SHIPPED)):
        find("quickstrat")


def test_a_recipe_is_a_file_a_run_folder_or_a_name(mine: Path) -> None:
    mine.write_text("steps = 3")
    (mine.parent / "recipe.toml").write_text("steps = 4")
    assert load(str(mine), GRPORecipe).steps == 3
    assert load(str(mine.parent), GRPORecipe).steps == 4
    assert find("quickstart").parent == recipes.HERE


def test_overrides_win_none_is_ignored_and_what_is_left_has_its_default(mine: Path) -> None:
    mine.write_text("steps = 3\nseed = 5\n[training]\nlr = 1e-3")
    recipe = load(str(mine), GRPORecipe, {"steps": 7, "seed": None, "training.lr": 2e-3, "rollout.prompts": 2})
    assert (recipe.steps, recipe.seed, recipe.training.lr, recipe.rollout.prompts) == (7, 5, 2e-3, 2)
    assert recipe.training.epsilon == GRPORecipe().training.epsilon


def test_overrides_are_checked_too(mine: Path) -> None:
    mine.write_text("steps = 3")
    assert "steps: Input should be greater" in told(mine, {"steps": 0})
    mine.write_text("training = 3")
    assert "training: " in told(mine, {"training.lr": 1e-3})


def test_a_recipe_cannot_be_changed_behind_the_run() -> None:
    with pytest.raises(ValueError, match="frozen"):
        GRPORecipe().training.lr = 1.0  # type: ignore[misc]


class Inner(BaseModel):
    text: str
    flag: bool
    many: tuple[str, ...]


class Outer(BaseModel):
    name: str
    count: int
    share: float
    absent: str | None
    inner: Inner
    weights: dict[str, float]


finite = st.floats(allow_nan=False, allow_infinity=False)
inner = st.builds(Inner, text=st.text(), flag=st.booleans(), many=st.lists(st.text()).map(tuple))
outer = st.builds(
    Outer,
    name=st.text(),
    count=st.integers(-(2**63), 2**63 - 1),
    share=finite,
    absent=st.none(),
    inner=inner,
    weights=st.dictionaries(st.text(), finite),
)


@given(outer)
@settings(deadline=None)
def test_whatever_is_written_reads_back(recipe: Outer) -> None:
    read = tomllib.loads(to_toml(recipe))
    assert Outer.model_validate({"absent": None, **read}) == recipe
    assert to_toml(Outer.model_validate({"absent": None, **read})) == to_toml(recipe)


@pytest.mark.parametrize("text", ["\x7f", "\r\n\t", '"""', "\\", "\u2028\x85", "it's [not] = a # comment", "😀"])
def test_signs_that_toml_minds(text: str) -> None:
    recipe = GRPORecipe(expected=text, rewards={text: 1.0})
    assert GRPORecipe.model_validate(tomllib.loads(to_toml(recipe))) == recipe


def test_a_missing_lesson_names_the_lessons() -> None:
    with pytest.raises(UserError, match="one of: lessons/lr, lessons/packing"):
        find("lessons/packng")
