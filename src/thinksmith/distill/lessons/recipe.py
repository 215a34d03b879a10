"""What a lesson says: a claim, the arms that put it to the test, and what they have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from thinksmith.errors import UserError
from thinksmith.recipes.load import checked
from thinksmith.training.recipe import Count, Names, Positive, Table
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.supervised.recipe import SFTRecipe

Keys = dict[str, bool | int | float | str]


class TracesTable(Table):
    """The traces that are learnt: `k` of each of `n` problems, of which those that are correct are kept."""

    teacher: str = "tiny"
    problems: str = "mixed"
    n: Positive = 500
    k: Positive = 2
    max_tokens: Positive = 256


class MeasureTable(Table):
    """What every arm is measured on: one attempt at each of `n` held-out problems, with each seed's own sampling."""

    problems: str = "mixed"
    n: Positive = 200
    max_tokens: Positive = 256


class Arm(Table):
    """A way to train. `how`: not at all, on the traces, or by GRPO. `after`: it goes on with that arm's weights.
    `keys` are changes to the lesson's own (of SFT: `training.lr`; of GRPO: `steps`). `cut`: samples are joined to one
    stream of tokens and cut after so many, whatever is torn; each row then sees what stands before it in the row."""

    how: Literal["none", "sft", "grpo"] = "sft"
    after: str = ""
    keys: Keys = Field(default_factory=dict)
    cut: Count = 0


class LessonRecipe(Table):
    """A lesson. `claim` with its `source`; `first`: the arm that the others are compared with; `sft` and `grpo`: the
    keys that all arms have in common."""

    title: str
    claim: str
    source: str = ""
    model: str = "tiny-base"
    seeds: Positive = 5
    first: str
    expected: str = ""
    track: Names = ()
    traces: TracesTable = TracesTable()
    measure: MeasureTable = MeasureTable()
    sft: Keys = Field(default_factory=dict)
    grpo: Keys = Field(default_factory=dict)
    arms: Annotated[dict[str, Arm], Field(min_length=2)]


def check(lesson: LessonRecipe) -> None:
    """Raises UserError for a lesson that cannot be taught, before anything is computed."""
    known = ", ".join(lesson.arms)
    if lesson.first not in lesson.arms:
        raise UserError(f"first = {lesson.first!r} is no arm of this lesson: {known}")
    for name, arm in lesson.arms.items():
        if arm.after and arm.after not in list(lesson.arms)[: list(lesson.arms).index(name)]:
            raise UserError(f"arm {name!r} goes on after {arm.after!r}, which must be an arm above it: {known}")
        if arm.cut == 1 or (arm.cut and arm.how != "sft"):
            raise UserError(f"arm {name!r}: cut is the length of rows of SFT, 2 or more")
        if arm.how == "none" and (arm.keys or arm.after):
            raise UserError(f'arm {name!r} is not trained (how = "none"): leave keys and after out')
        if arm.how != "none":
            made = sft_of(lesson, arm, 0) if arm.how == "sft" else grpo_of(lesson, arm, 0)
            if made.training.tuning != "full":
                raise UserError(f"arm {name!r}: a lesson's arms train all weights: leave training.tuning out")


def sft_of(lesson: LessonRecipe, arm: Arm, seed: int, model: str = "", data: str = "the traces") -> SFTRecipe:
    """The recipe of an arm's SFT with this seed. Raises UserError for a key that there is not."""
    keys: dict[str, Any] = {"evaluation.held_out": 0.0, **lesson.sft, **arm.keys}
    return checked({"model": model or lesson.model, "data": data, "seed": seed}, SFTRecipe, keys, lesson.title)


def grpo_of(lesson: LessonRecipe, arm: Arm, seed: int, model: str = "") -> GRPORecipe:
    """The same of its GRPO."""
    keys: dict[str, Any] = {**lesson.grpo, **arm.keys}
    return checked({"model": model or lesson.model, "seed": seed}, GRPORecipe, keys, lesson.title)
