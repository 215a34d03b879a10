"""`thinksmith sft RECIPE`: teach a model by traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinksmith.cli.overrides import Overrides, pair

Recipe = Annotated[str | None, typer.Argument(help="A TOML file or a run folder; none: the flags are all.")]
Model = Annotated[str | None, typer.Option(help="The student, if not the recipe's.")]
Data = Annotated[str | None, typer.Option(help="What is learnt: a set, a file of traces, or a run of the store.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="How often the data are gone through.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimiser steps, instead of epochs.")]
Lr = Annotated[float | None, typer.Option(help="Learning rate.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the order and of what is held out.")]
Changed = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, as batch.samples=8.")]
Track = Annotated[list[str] | None, typer.Option(help="Also send each step to tensorboard, wandb or trackio.")]
Out = Annotated[Path | None, typer.Option(help="The run folder; a stopped run in it is resumed.")]


def sft(
    recipe: Recipe = None,
    model: Model = None,
    data: Data = None,
    epochs: Epochs = None,
    steps: Steps = None,
    lr: Lr = None,
    seed: Seed = None,
    changed: Changed = None,
    track: Track = None,
    out: Out = None,
) -> None:
    """Fine-tune a model on traces: whole samples, packed, the completion alone is learnt. Stopped, it resumes."""
    overrides = overrides_of(model, data, epochs, steps, lr, seed, changed, track)
    from thinksmith.cli import learning
    from thinksmith.cli.live import SFT
    from thinksmith.distill.learn import sft as run
    from thinksmith.training.supervised.recipe import SFTRecipe

    learning.learn(run, SFTRecipe, SFT, recipe, overrides, out, "sft")


def overrides_of(
    model: str | None,
    data: str | None,
    epochs: int | None,
    steps: int | None,
    lr: float | None,
    seed: int | None,
    changed: list[str] | None,
    track: list[str] | None,
) -> Overrides:
    """The flags as keys of the recipe."""
    flags: Overrides = {
        "model": model,
        "data": data,
        "epochs": epochs,
        "steps": steps,
        "training.lr": lr,
        "seed": seed,
        "track": track,
    }
    return flags | dict(pair(each) for each in changed or ())
