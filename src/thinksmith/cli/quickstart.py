"""`thinksmith quickstart`: the main job on the embedded model, in a few minutes, everything shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from thinksmith.evaluate.trace_view import TraceView
    from thinksmith.records import Attempt
    from thinksmith.training.rl.run import Result

_SIDE_BY_SIDE = 100  # columns; narrower terminals show one trace below the other
_MARKS = {"check": "cyan", "backtrack": "yellow", "false": "bold red"}


def quickstart(
    seed: Annotated[int, typer.Option(help="Seed of the problems and of the sampling.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps, if not the recipe's.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; a stopped run in it is resumed.")] = None,
) -> None:
    """Measure tiny-base, train it with GRPO for about a minute, measure again, and show what changed."""
    from thinksmith.cli.grpo import train
    from thinksmith.cli.screen import console

    result = train("quickstart", {"seed": seed, "steps": steps}, out)
    screen = console()
    if result.solved_now:
        screen.print("\n4  A problem that it failed before and solves now", style="bold")
        _print_pair(screen, *result.solved_now[0])
    _print_next(screen, result)


def _print_pair(screen: Console, before: Attempt, after: Attempt) -> None:
    from rich.columns import Columns

    from thinksmith.cli.screen import clean
    from thinksmith.evaluate.trace_view import pair_of

    pair = pair_of(before, after)
    screen.print(f"   {clean(pair.problem)}   (right: {pair.gold})\n")
    panels = [_panel(view) for view in pair.traces]
    if screen.is_terminal and screen.width >= _SIDE_BY_SIDE:
        screen.print(Columns(panels, equal=True, expand=True), soft_wrap=False)
    else:
        for panel in panels:
            screen.print(panel, soft_wrap=False, width=min(screen.width, _SIDE_BY_SIDE))


def _panel(view: TraceView) -> RenderableType:
    from rich.panel import Panel
    from rich.text import Text

    from thinksmith.cli.screen import clean

    body = Text()
    for piece in view.thinking:
        styles = [_MARKS[mark] for mark in piece.marks.split() if mark in _MARKS]
        body.append(clean(piece.text), " ".join(["dim" if not styles else "", *styles]).strip())
    body.append("\n\n" + clean("".join(piece.text for piece in view.answer)).strip(), "bold")
    colour = "green" if view.status == "correct" else "red"
    return Panel(body, title=f"{view.label}: {view.status}", subtitle=f"{view.tokens} tokens", border_style=colour)


def _print_next(screen: Console, result: Result) -> None:
    screen.print("\n5  What was made", style="bold")
    screen.print(f"   {result.folder / 'report.html'}   the report: open it in a browser")
    screen.print(f"   {result.folder / 'model'}   the trained model, an ordinary Hugging Face folder")
    screen.print("\nNext:")
    for command, about in (
        ('thinksmith ask "What is 27 * 34?"', "the finished tiny model thinks aloud"),
        (f'thinksmith ask "What is 27 * 34?" --model {result.folder / "model"}', "the one you just trained"),
        (f"thinksmith traces {result.run_id} --wrong", "what it still got wrong while training"),
        ("thinksmith eval countdown --model tiny -n 100", "measure tiny on another family"),
        ("thinksmith problems", "every family and data set"),
    ):
        screen.print(f"   {command}", style="bold", end="")
        screen.print(f"   # {about}", style="dim")
