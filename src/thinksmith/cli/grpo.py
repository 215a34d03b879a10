"""`thinksmith grpo RECIPE`: train a model on rewards that can be verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinksmith.cli.overrides import Overrides, pair
from thinksmith.cli.unsafe import UnsafeCode

if TYPE_CHECKING:
    from rich.console import Console

    from thinksmith.training.ranks import Ranks
    from thinksmith.training.rl.calling import Calling
    from thinksmith.training.rl.run import Result

_KEPT = "interrupted; finished steps are kept: the same command with --out {folder} goes on from the last checkpoint"


def grpo(
    recipe: Annotated[str, typer.Argument(help="A TOML file, a run folder, or the name of a shipped recipe.")],
    model: Annotated[str | None, typer.Option(help="Train this model instead of the recipe's.")] = None,
    problems: Annotated[str | None, typer.Option(help="Train on these problems.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many steps.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of problems and sampling.")] = None,
    changed: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as rollout.prompts=8.")
    ] = None,
    track: Annotated[
        list[str] | None, typer.Option(help="Also send each step to tensorboard, wandb or trackio.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; a stopped run in it is resumed.")] = None,
    unsafe_code: UnsafeCode = False,
) -> None:
    """Train with GRPO and measure before and after on held-out problems. Stopped, it resumes with the same --out."""
    overrides: Overrides = {
        "model": model,
        "problems": problems,
        "steps": steps,
        "training.lr": lr,
        "seed": seed,
        "track": track,
    }
    overrides |= dict(pair(each) for each in changed or ())
    from thinksmith.training.ranks import EndedElsewhere, opened

    try:
        with opened() as ranks:
            result = train(recipe, overrides, out, ranks)
    except EndedElsewhere:
        raise typer.Exit(1) from None
    if ranks.first:
        _print_next(result)


def train(recipe: str, overrides: Overrides, out: Path | None, ranks: Ranks | None = None) -> Result:
    """Run the recipe under a live display and print what came of it, on the first of the ranks."""
    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.cli.live import Screen
    from thinksmith.cli.screen import console
    from thinksmith.recipes.load import find, load
    from thinksmith.store.store import Store
    from thinksmith.training.ranks import ALONE
    from thinksmith.training.rl.recipe import GRPORecipe
    from thinksmith.training.rl.run import run
    from thinksmith.training.run_folder import folder_for

    ranks = ranks or ALONE
    checked = load(recipe, GRPORecipe, overrides)
    named = folder_for(find(recipe), out)
    folder = ranks.by_first(lambda: named)  # a new one is named for the time
    screen = console()
    try:
        with Store.open() as store, Screen(screen) as watcher:
            result = run(checked, folder, store, watcher, ranks)
    except KeyboardInterrupt:
        raise Interrupted(_KEPT.format(folder=folder)) from None
    if ranks.first:
        _print_result(screen, result)
    return result


def _print_result(screen: Console, result: Result) -> None:
    from rich.text import Text

    screen.print()
    screen.print(f"   before  {result.before.line}")
    if result.warmed:
        screen.print(f"   warm    {result.warmed.line}")
    screen.print(f"   after   {result.after.line}")
    screen.print(Text.assemble("   change  ", (str(result.difference), "bold")))
    won = f"{result.difference.wins} problems won, {result.difference.losses} lost"
    for stage, found in result.calls.items():
        screen.print(Text(f"   calls   {stage:<7} {_calling(found)}"))
    screen.print(f"           {won}; trained for {result.train_seconds:.0f} s, {result.seconds:.0f} s in all")


def _calling(found: Calling) -> str:
    """When tools were called."""
    fitting = found.fitting
    return (
        f"{found.where_needed.mean:.0%} where one is needed, {found.where_not.mean:.0%} where none is; "
        f"right, and called exactly where needed: {fitting.mean:.1%} [{fitting.low:.1%}, {fitting.high:.1%}]"
    )


def _print_next(result: Result) -> None:
    from thinksmith.training.model_folder import trained_in

    typer.echo(f"\nreport    {result.folder / 'report.html'}")
    typer.echo(f"model     {trained_in(result.folder)}")
    typer.echo(f"traces    thinksmith traces {result.run_id} --wrong")
