"""`thinksmith lesson NAME`: a claim about training, tried on the embedded models in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinksmith.cli.overrides import Overrides, pair

if TYPE_CHECKING:
    from rich.console import Console

    from thinksmith.distill.lessons.recipe import LessonRecipe
    from thinksmith.distill.lessons.trial import Trial

_KEPT = "interrupted; what is done is kept: the same command with --out {folder} goes on"


def lesson(
    name: Annotated[str, typer.Argument(help="A shipped lesson (lessons/lr, …) or a TOML file.")] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, instead of the lesson's.")] = None,
    changed: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as traces.n=200.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder; a stopped trial in it is gone on with.")] = None,
) -> None:
    """Try a claim about training: several arms and seeds, paired intervals. Without a name: which there are."""
    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.cli.screen import console
    from thinksmith.distill.lessons.page import write_pages
    from thinksmith.distill.lessons.recipe import LessonRecipe
    from thinksmith.distill.lessons.trial import teach
    from thinksmith.recipes.load import HERE, find, load
    from thinksmith.store.store import Store
    from thinksmith.training.run_folder import folder_for

    screen = console()
    if not name:
        for path in sorted((HERE / "lessons").glob("*.toml")):
            found = load(str(path), LessonRecipe)
            screen.print(f"lessons/{path.stem:<12} {found.title}")
        return
    overrides: Overrides = {"seeds": seeds}
    overrides |= dict(pair(each) for each in changed or ())
    recipe = load(name, LessonRecipe, overrides)
    source = find(name)
    folder = folder_for(source, out, f"lesson-{source.stem}")
    try:
        with Store.open() as store, _Lines(screen, recipe) as lines:
            trial = teach(recipe, folder, store, lines)
    except KeyboardInterrupt:
        raise Interrupted(_KEPT.format(folder=folder)) from None
    write_pages(trial, folder)
    _print(screen, trial)
    typer.echo(f"report    {folder / 'report.html'}")


class _Lines:
    """A `lessons.trial.Watcher`: a line for each arm and seed; on a terminal what is being done, too."""

    def __init__(self, screen: Console, recipe: LessonRecipe) -> None:
        self._screen, self._status, self._now = screen, screen.status(""), ""
        screen.print(recipe.title, style="bold")
        screen.print(f"The claim: {recipe.claim}")

    def collecting(self, lesson: LessonRecipe) -> None:
        table = lesson.traces
        self._screen.print(f"   {table.k} traces of {table.teacher} for each of {table.n} problems", style="dim")

    def __enter__(self) -> _Lines:
        if self._screen.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def arm(self, name: str, seed: int) -> None:
        self._now = f"seed {seed}  {name}"
        self._tell(self._now)

    def step(self, row: dict[str, float]) -> None:
        self._tell(f"{self._now}: step {row['step']:.0f}")

    def _tell(self, text: str) -> None:
        from rich.text import Text

        self._status.update(Text(text))

    def measured(self, name: str, seed: int, found: float) -> None:
        self._screen.print(f"   seed {seed}  {name}: {found:.1%}")


def _print(out: Console, trial: Trial) -> None:
    from thinksmith.cli.screen import print_table
    from thinksmith.distill.lessons.page import spent, told

    rows = []
    for arm in trial.arms:
        found = arm.accuracy
        interval = f"[{found.low:.1%}, {found.high:.1%}]"
        rows.append((arm.name, f"{found.mean:.1%}", interval, f"{arm.truncated:,}", f"{arm.tokens:,.0f}", spent(arm)))
    out.print()
    print_table(out, ("arm", ">accuracy", "95 % interval", ">cut off", ">tokens", ">training"), rows)
    out.print()
    for each in trial.versus:
        out.print(told(each, trial.lesson.first))
