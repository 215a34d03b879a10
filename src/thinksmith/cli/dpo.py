"""`thinksmith dpo RECIPE`: teach a model to prefer right traces to wrong ones."""

from __future__ import annotations

from thinksmith.cli.sft import Changed, Data, Epochs, Lr, Model, Out, Recipe, Seed, Steps, Track, overrides_of


def dpo(
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
    """Direct preference optimisation on pairs of a right and a wrong trace of the same problem. Stopped, it resumes."""
    overrides = overrides_of(model, data, epochs, steps, lr, seed, changed, track)
    from thinksmith.cli import learning
    from thinksmith.cli.live import DPO
    from thinksmith.distill.learn import dpo as run
    from thinksmith.training.supervised.recipe import DPORecipe

    learning.learn(run, DPORecipe, DPO, recipe, overrides, out, "dpo")
