"""What the recipe of a whole distillation may say: who teaches, what is kept, how it is learnt, how it is judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from thinksmith.distill.curate.options import Curation, curation
from thinksmith.errors import UserError
from thinksmith.training.recipe import Count, Names, Positive, Table, Weight
from thinksmith.training.supervised.recipe import SFTRecipe
from thinksmith.training.supervised.recipe import check as check_sft


class CollectTable(Table):
    """As the flags of `thinksmith collect`: `teachers` by name (`NAME*16`: 16 requests at once), `k` traces of each
    problem by `strategy`, sampled as the teacher's makers advise where nothing is said."""

    teachers: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("tiny",)
    strategy: Literal["single", "first", "correct"] = "single"
    k: Positive = 4
    most: Count = 0
    temperature: Weight | None = None
    max_tokens: Positive = 8192
    think: Count | None = None
    budget: str = ""


class CompareTable(Table):
    """What student and teachers are measured on: `n` held-out problems (of the recipe's own kind, or others), `samples`
    attempts each. `teachers`: measure them too."""

    problems: str = ""
    n: Positive = 200
    samples: Positive = 1
    temperature: Weight | None = None
    max_tokens: Positive = 8192
    teachers: bool = True


class DistillRecipe(Table):
    """A whole distillation. `problems` are collected on, `n` of them (0: all, 300 of a family). `student` is trained as
    the table `sft` says (without its model and data); with `scratch` above 0 it is a fresh one, of this share of that
    model's parameters. `seed` decides about problems, sampling and curation, and about learning where `sft.seed` does
    not. `expected` is what a run should reach; it changes nothing."""

    problems: str
    n: Count = 0
    instruction: str = ""
    student: str = "tiny-base"
    scratch: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    seed: int = 0
    track: Names = ()
    expected: str = ""
    collect: CollectTable = CollectTable()
    curate: Curation = curation({})
    sft: SFTRecipe = SFTRecipe()
    compare: CompareTable = CompareTable()


def lesson_of(recipe: DistillRecipe, student: str, data: str) -> SFTRecipe:
    """The recipe of the step that learns."""
    seed = recipe.sft.seed or recipe.seed
    return recipe.sft.model_copy(update={"model": student, "data": data, "seed": seed, "track": recipe.track})


def check(recipe: DistillRecipe) -> None:
    """Raises UserError for the first thing that cannot be, before anybody is asked."""
    defaults = SFTRecipe()
    for name, instead in (("model", "student"), ("data", "what is curated"), ("track", "track")):
        if getattr(recipe.sft, name) != getattr(defaults, name):
            raise UserError(f"sft.{name} is given by the recipe's {instead}: leave it out")
    if recipe.collect.most and recipe.collect.strategy != "correct":
        raise UserError('collect.most does nothing without strategy = "correct": set that, or leave most out')
    check_sft(lesson_of(recipe, recipe.student, "the set"))
