"""`thinksmith compare RUN RUN [RUN…]`: which is better, by how much, and could it be chance?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from thinksmith.evaluate.comparing.compare import Change, Comparison, Versus

_BAR = 25  # cells of an interval's bar: odd, so that 0 is in the middle
_SHORT = 24  # characters of an answer
_ROUND = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # what bars of differences reach to, in both directions


def compare(
    runs: Annotated[list[str], typer.Argument(help="Finished evaluations: ids, beginnings of ids, or last.")],
    shared: Annotated[
        bool, typer.Option("--shared", help="Compare on the problems that all have, and say how many are left out.")
    ] = False,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Each with each, instead of the first with each other one.")
    ] = False,
    wins: Annotated[int, typer.Option(min=0, metavar="N", help="Wins and losses shown of each comparison.")] = 5,
    report: Annotated[
        Path | None, typer.Option(help="Also write a report: page.html, .md or .json.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON instead of tables.")] = False,
) -> None:
    """Compare evaluations on the same problems, paired: differences, intervals, p-values, wins and losses, tokens."""
    import sys

    from thinksmith.cli.screen import console, write
    from thinksmith.evaluate.comparing.compare import compare as run
    from thinksmith.evaluate.comparing.compare_report import renderer, to_json, write_report
    from thinksmith.store.store import Store

    if report:
        renderer(report)  # told before anything is worked out
    with Store.open() as store:
        comparison = run(store, runs, shared=shared, all_pairs=all_pairs)
        if as_json:
            write(sys.stdout, to_json(comparison, wins))
        else:
            _print(console(), comparison, wins)
        if report:
            write_report(report, comparison, store, wins)
            typer.echo(f"report    {report}", err=as_json)


def _print(out: Console, comparison: Comparison, wins: int) -> None:
    from thinksmith.cli.screen import one_line
    from thinksmith.evaluate.comparing.compare_report import amount_lines, scope_of, title_of, verdict_of

    out.print(scope_of(comparison), style="bold")
    print_sides(out, comparison)
    out.print()
    _print_differences(out, comparison)
    for note in comparison.notes:
        out.print(f"note: {one_line(note)}", style="yellow")
    for versus in comparison.versus:
        out.print()
        out.print(f"{title_of(comparison, versus)}: {verdict_of(comparison, versus)}", style="bold")
        for line in [*amount_lines(versus), str(versus.power)]:
            out.print(line)
        _print_gains(out, versus)
        if wins:
            _print_changes(out, comparison, versus, wins)
    if wins and any(versus.won or versus.lost for versus in comparison.versus):
        out.print("thinksmith audit ATTEMPT looks at one; --report page.html shows both traces", style="dim")


def print_sides(out: Console, comparison: Comparison) -> None:
    from thinksmith.cli.screen import one_line, print_table

    priced = any(side.cost is not None for side in comparison.sides)
    rows = []
    for side in comparison.sides:
        mean, low, high = side.accuracy.mean, side.accuracy.low, side.accuracy.high
        figures = [f"{mean:.1%}", bar(low, mean, high, 0, 1), f"[{low:.1%}, {high:.1%}]"]
        figures += [f"{side.counts[status]:,}" for status in ("truncated", "no_answer")]
        figures.append(f"{side.tokens:,.0f}")
        if priced:
            figures.append("–" if side.cost is None else f"{side.cost:.6f}")
        rows.append((side.letter, *figures, f"{one_line(side.label)} ({side.run.id})"))
    heads = ["", ">accuracy", "0" + "100 %".rjust(_BAR - 1), "95 % interval", ">truncated", ">no answer", ">tokens"]
    print_table(out, (*heads, *([">dollars"] if priced else []), "run"), rows)


def _print_differences(out: Console, comparison: Comparison) -> None:
    from thinksmith.cli.screen import print_table
    from thinksmith.evaluate.comparing.compare_report import interval_of, p_value, points, title_of

    reach = _reach([bound for each in comparison.versus for bound in (each.difference.low, each.difference.high)])
    rows = []
    for versus in comparison.versus:
        found, (low, high) = versus.difference, versus.bootstrap
        figures = [points(found.mean), bar(found.low, found.mean, found.high, -reach, reach), interval_of(found)]
        chances = [f"[{points(low)}, {points(high)}]", p_value(found.p), p_value(versus.p_holm)]
        counts = [f"{count:,}" for count in (found.wins, found.losses, found.ties)]
        rows.append((title_of(comparison, versus), *figures, *chances, *counts, versus.test))
    heads = ("", ">points", _scale(reach), "95 % interval", "bootstrap", ">p", ">Holm", ">wins", ">losses", ">ties")
    print_table(out, (*heads, "test"), rows)


def _print_gains(out: Console, versus: Versus) -> None:
    from thinksmith.cli.screen import one_line, print_table
    from thinksmith.evaluate.comparing.compare_report import interval_of, points

    if not versus.gains:
        return
    reach = _reach([bound for gain in versus.gains for bound in (gain.difference.low, gain.difference.high)])
    rows = []
    for gain in versus.gains:
        found = gain.difference
        drawn = bar(found.low, found.mean, found.high, -reach, reach)
        names = (one_line(gain.key), one_line(gain.value)[:_SHORT])
        rows.append((*names, f"{found.problems:,}", points(found.mean), drawn, interval_of(found)))
    print_table(out, ("by", "", ">problems", ">points", _scale(reach), "95 % interval"), rows)


def _print_changes(out: Console, comparison: Comparison, versus: Versus, wins: int) -> None:
    from thinksmith.cli.screen import one_line, print_table

    def row(name: str, change: Change) -> Sequence[str]:
        scores = " → ".join(f"{score:.2f}" for score in change.scores)
        numbers = " → ".join(map(str, change.attempts))
        said = " → ".join(one_line(answer)[:_SHORT] or "–" for answer in change.said)
        gold = one_line(change.problem.answer or "–")[:_SHORT]
        return name, one_line(change.problem.id), scores, numbers, said, gold, one_line(change.problem.text)

    rows = [row("won", change) for change in versus.won[:wins]]
    rows += [row("lost", change) for change in versus.lost[:wins]]
    if rows:
        heads = "score", "attempts", "answers"
        one, other = (comparison.sides[at].letter for at in (versus.one, versus.other))
        arrow = f"{one} → {other}"
        print_table(out, ("", f"problem ({arrow})", *heads, "gold", "text"), rows)


def bar(low: float, mean: float, high: float, left: float, right: float) -> str:
    """An interval as text, `├──●──┤`; where 0 is inside the scale it is marked."""

    def cell(value: float) -> int:
        return min(_BAR - 1, max(0, math.floor((value - left) / (right - left) * (_BAR - 1) + 0.5)))

    cells = [" "] * _BAR
    if left < 0 < right:
        cells[cell(0)] = "┊"
    for at in range(cell(low), cell(high) + 1):
        cells[at] = "─"
    cells[cell(low)], cells[cell(high)] = "├", "┤"
    cells[cell(mean)] = "●"
    return "".join(cells)


def _reach(bounds: Sequence[float]) -> float:
    most = max(map(abs, bounds), default=0.1)
    return next((reach for reach in _ROUND if most <= reach), 1.0)


def _scale(reach: float) -> str:
    half = _BAR // 2
    end = f"{100 * reach:g}"
    return f"−{end}".ljust(half) + "0" + f"+{end}".rjust(half)
