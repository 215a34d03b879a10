"""`thinksmith distill RECIPE`: collect, curate, learn, compare, in one folder."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinksmith.cli.overrides import Overrides, pair
from thinksmith.cli.unsafe import UnsafeCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from thinksmith.distill.collect.work import Watcher as Collecting
    from thinksmith.distill.curate.curate import Progress
    from thinksmith.distill.distill import Distilled
    from thinksmith.distill.learn import Watcher as Learning
    from thinksmith.records import Attempt

_KEPT = "interrupted; what is done is kept: the same command with --out {folder} goes on"


def distill(
    recipe: Annotated[str, typer.Argument(help="A TOML file, a run folder, or the name of a shipped recipe.")],
    student: Annotated[str | None, typer.Option(help="Teach this model instead of the recipe's.")] = None,
    teacher: Annotated[list[str] | None, typer.Option("--teacher", metavar="NAME", help="Ask these instead.")] = None,
    problems: Annotated[str | None, typer.Option(help="Collect on these problems.")] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, metavar="N", help="How many problems.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of problems, sampling and learning.")] = None,
    changed: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as sft.training.lr=1e-4.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; a stopped run in it is gone on with.")] = None,
    unsafe_code: UnsafeCode = False,
) -> None:
    """Teach a student by a teacher's traces, and measure before, after and the teacher. Stopped, it goes on."""
    overrides: Overrides = {
        "student": student,
        "collect.teachers": teacher,
        "problems": problems,
        "n": n,
        "seed": seed,
    }
    overrides |= dict(pair(each) for each in changed or ())
    from thinksmith.cli import learning
    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.cli.screen import console
    from thinksmith.distill.distill import distill as run
    from thinksmith.distill.recipe import DistillRecipe, lesson_of
    from thinksmith.recipes.load import find, load
    from thinksmith.store.store import Store
    from thinksmith.training.run_folder import folder_for

    checked = load(recipe, DistillRecipe, overrides)
    folder = folder_for(find(recipe), out)
    screen = console()
    try:
        with Store.open() as store, _Steps(screen) as steps:
            done = run(checked, folder, store, steps)
    except KeyboardInterrupt:
        raise Interrupted(_KEPT.format(folder=folder)) from None
    learning.write_report(lesson_of(checked, checked.student, str(folder / "set")), folder / "sft", "sft")
    _print(screen, done)


class _Steps:
    """An `distill.distill.Watcher`: a heading for each step, and what its own command shows below it."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._shown = ExitStack()
        self._measured = False

    def __enter__(self) -> _Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def _step(self, title: str) -> None:
        self._shown.close()
        self._screen.print(f"\n{title}", style="bold")

    def collecting(self, problems: int) -> Collecting:
        from thinksmith.cli.collecting import Live

        self._step("1  Collecting the teacher's traces")
        return self._shown.enter_context(Live(problems))

    def curating(self) -> Progress:
        from thinksmith.cli.progress import stages

        self._step("2  Curating them")
        return self._shown.enter_context(stages())

    def learning(self) -> Learning:
        from dataclasses import replace

        from thinksmith.cli.live import SFT, Screen

        self._shown.close()
        look = replace(SFT, titles={"training": "3  Teaching the student"})
        return self._shown.enter_context(Screen(self._screen, look))

    def measuring(self, who: str, attempts: int) -> Callable[[Attempt], None]:
        from thinksmith.cli.progress import progress

        if not self._measured:
            self._measured = True
            self._step("4  Measuring on held-out problems")
        self._shown.close()
        return self._shown.enter_context(progress(attempts, f"   {who}"))


def _print(out: Console, done: Distilled) -> None:
    from thinksmith.cli.compare import print_sides
    from thinksmith.evaluate.comparing.compare_report import title_of, verdict_of
    from thinksmith.training.model_folder import trained_in

    print_sides(out, done.comparison)
    out.print()
    for versus in done.comparison.versus:
        out.print(f"{title_of(done.comparison, versus)}: {verdict_of(done.comparison, versus)}")
    collected, funnel = done.collected, done.curated.funnel
    out.print(
        f"\ncollected {collected.ledger.attempts:,} traces, {collected.ledger.correct:,} correct; "
        f"{funnel.kept:,} kept; {done.learnt.samples:,} learnt in {done.learnt.seconds:,.0f} s"
    )
    typer.echo(f"set       {done.folder / 'set'}")
    typer.echo(f"learning  {done.folder / 'sft' / 'report.html'}")
    typer.echo(f"report    {done.folder / 'report.html'}")
    typer.echo(f"model     {trained_in(done.learnt.folder)}")
