"""What `thinksmith sft` and `thinksmith dpo` have in common: the recipe, the screen, the report, what to do next."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import typer

from thinksmith.cli.interrupt import Interrupted
from thinksmith.cli.live import Look, Screen
from thinksmith.cli.overrides import Overrides
from thinksmith.cli.screen import console
from thinksmith.distill.learn import Learnt
from thinksmith.evaluate.held_out import HeldOut
from thinksmith.problems.load import load as load_problems
from thinksmith.recipes.load import checked, find, load
from thinksmith.records import Sampling
from thinksmith.store.store import Store
from thinksmith.training.model_folder import trained_in
from thinksmith.training.ranks import EndedElsewhere, Ranks, opened
from thinksmith.training.run_folder import folder_for, read_json, versions
from thinksmith.training.supervised.recipe import TaughtRecipe

_KEPT = "interrupted; finished steps are kept: the same command with --out {folder} goes on from the last checkpoint"
RecipeKind = TypeVar("RecipeKind", bound=TaughtRecipe)


def learn(
    run: Callable[..., Learnt],
    kind: type[RecipeKind],
    look: Look,
    name: str | None,
    overrides: Overrides,
    out: Path | None,
    title: str,
) -> None:
    """Run the recipe under a live display and print what came of it, on the first of the ranks."""
    try:
        with opened() as ranks:
            recipe = load(name, kind, overrides) if name else checked({}, kind, overrides)
            source = find(name) if name else Path(title)
            folder = ranks.by_first(lambda: folder_for(source, out))  # a new one is named for the time
            learnt = _run(run, recipe, look, folder, ranks)
            if ranks.first:
                write_report(recipe, folder, title)
    except EndedElsewhere:
        raise typer.Exit(1) from None
    if ranks.first:
        _print(learnt)


def _run(run: Callable[..., Learnt], recipe: TaughtRecipe, look: Look, folder: Path, ranks: Ranks) -> Learnt:
    table = recipe.evaluation
    try:
        with Store.open() if table.problems else nullcontext() as store, Screen(console(), look) as watcher:
            measure = _measure(recipe, folder, store) if store else None
            return run(recipe, folder, watcher, measure=measure, ranks=ranks)
    except KeyboardInterrupt:
        raise Interrupted(_KEPT.format(folder=folder)) from None


def _measure(recipe: TaughtRecipe, folder: Path, store: Store) -> HeldOut:
    table = recipe.evaluation
    problems = load_problems(table.problems, table.n, split="test", seed=recipe.seed)
    sampling = Sampling(temperature=table.temperature, max_tokens=table.max_tokens, seed=recipe.seed)
    return HeldOut(problems, sampling, store, f"{table.problems} {folder.name}")


def write_report(recipe: TaughtRecipe, folder: Path, title: str) -> None:
    """The page of a finished run; `title` is what was done."""
    # Here, since what draws charts takes 50 MB that training has better use for.
    from thinksmith.evaluate.learning import learning_report
    from thinksmith.evaluate.report import read_metrics, render_report

    found = learning_report(
        read_metrics(folder / "metrics.jsonl"),
        read_json(folder / "result.json"),
        title=f"{recipe.model} on {recipe.data}: {title.upper()}",
        model=recipe.model,
        recipe=recipe.model_dump(),
        versions=versions(),
    )
    render_report(folder / "report.html", found)


def _print(learnt: Learnt) -> None:
    trained = learnt.trained
    steps = (
        f"{trained.steps:,} steps"
        if trained.steps == trained.planned
        else (f"{trained.steps:,} of {trained.planned:,} steps, stopped early")
    )
    typer.echo(f"\n   {steps} on {learnt.samples:,} samples in {learnt.seconds:.0f} s")
    for name, label, form in (
        ("held_out_loss", "held-out loss", "{:.4f}"),
        ("held_out_token_accuracy", "held-out tokens", "{:.1%}"),
        ("held_out_pair_accuracy", "held-out pairs told apart", "{:.1%}"),
        ("held_out_accuracy", "held-out accuracy", "{:.1%}"),
    ):
        if name in trained.after:
            was = f"{form.format(trained.before[name])} → " if name in trained.before else ""
            typer.echo(f"   {label}  {was}{form.format(trained.after[name])}{_interval(name, trained.after)}")
    typer.echo(f"\nreport    {learnt.folder / 'report.html'}")
    typer.echo(f"model     {trained_in(learnt.folder)}")


def _interval(name: str, row: dict[str, Any]) -> str:
    """An accuracy never stands alone."""
    if name != "held_out_accuracy":
        return ""
    low, high, count = (row[f"held_out_{part}"] for part in ("low", "high", "n"))
    return f" [{low:.1%}, {high:.1%}] (95 %, {count:.0f} problems)"
