"""`thinksmith scale PROBLEMS`: accuracy against tokens, for strategies and budgets, of one model or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thinksmith.cli.unsafe import UnsafeCode

if TYPE_CHECKING:
    from rich.console import Console

    from thinksmith.evaluate.scaling.curve import Point
    from thinksmith.evaluate.scaling.pool import Pool
    from thinksmith.evaluate.scaling.scale import Scale, Setting
    from thinksmith.records import Attempt, Problem
    from thinksmith.store.store import Store

_CHART = 76, 18  # cells


def scale(
    problems: Annotated[
        str, typer.Argument(help="A family, such as arithmetic:digits=2, a data set, or a file.", show_default=False)
    ] = "",
    models: Annotated[
        str, typer.Option(metavar="A,B,…", help="Models, as thinksmith models lists them.", show_default=False)
    ] = "",
    budgets: Annotated[
        str, typer.Option(metavar="N,…", help="Most tokens of thinking; 0 answers at once, none has no bound.")
    ] = "none",
    least: Annotated[
        str, typer.Option(metavar="N,…", help="Also forced: at least so many tokens of thinking.", show_default=False)
    ] = "",
    waits: Annotated[
        str, typer.Option(metavar="N,…", help="Also forced: so many times a Wait for an end.", show_default=False)
    ] = "",
    strategies: Annotated[
        str, typer.Option(metavar="A,B,…", help="single, vote, adaptive, best_of, confident, pass; with options.")
    ] = "single,vote,adaptive,pass",
    sizes: Annotated[
        str, typer.Option(metavar="K,…", help="Samples that a strategy may use. [default: 1, 2, 4, …]")
    ] = "",
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="Samples of each problem.")] = 16,
    n: Annotated[int, typer.Option("-n", min=1, metavar="N", help="How many problems.")] = 100,
    reach: Annotated[
        str, typer.Option(metavar="X,…", help="Find the cheapest way to this accuracy, 0..1.", show_default=False)
    ] = "",
    x: Annotated[
        Literal["tokens", "flops", "seconds"], typer.Option(help="What a problem costs, along the axis.")
    ] = "tokens",
    temperature: Annotated[
        float | None, typer.Option(min=0, metavar="T", help="[default: each model's own]", show_default=False)
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of a completion.")] = 512,
    split: Annotated[str, typer.Option(help="Which split: test is held out from every training.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of the problems and of the sampling.")] = 0,
    runs: Annotated[
        str, typer.Option(metavar="RUN,…", help="Runs of the store instead of problems.", show_default=False)
    ] = "",
    recorded: Annotated[
        str, typer.Option(metavar="FILE", help="Recorded responses instead of problems.", show_default=False)
    ] = "",
    score: Annotated[
        str, typer.Option(metavar="NAME", help="The column of the samples' scores.", show_default=False)
    ] = "",
    report: Annotated[
        Path | None, typer.Option(help="Also write a report: page.html, .md, .json or .svg.", show_default=False)
    ] = None,
    unsafe_code: UnsafeCode = False,
) -> None:
    """Draw accuracy against tokens: what thinking longer, voting, stopping early and a bigger model are worth.

    For each model and budget one run of single samples is made, or taken from the store; all strategies are worked out
    from it. An interrupted one goes on where it stopped.
    """
    from thinksmith.cli.screen import console
    from thinksmith.errors import UserError
    from thinksmith.evaluate.scaling.policies import parse_policies
    from thinksmith.evaluate.scaling.scale import parse_settings, work_out
    from thinksmith.evaluate.scaling.scale_report import renderer, write_report
    from thinksmith.store.store import Store

    if sum(map(bool, (problems, runs, recorded))) != 1:
        raise UserError("name one thing to draw: problems, --runs RUN,RUN or --recorded FILE")
    policies = parse_policies(strategies)
    goals = [_share(text) for text in _list(reach)]
    wanted = [_size(text) for text in _list(sizes)]
    largest = max((size for policy in policies for size in policy.sizes or wanted), default=1)
    if problems and largest > samples:
        raise UserError(f"k = {largest} is larger than --samples {samples}: lower it, or make more samples")
    settings = parse_settings(budgets, least, waits)
    if report:
        renderer(report)  # told before an hour is spent on what could not be written
    own: list[Point] = []
    if recorded:
        from thinksmith.evaluate.scaling.pool import pool_of_file

        pools, title = [pool_of_file(recorded, score=score)], Path(recorded.partition(":")[0]).stem
    else:
        with Store.open() as store:
            if runs:
                pools, own = _from_store(store, _list(runs), score)
                title = " and ".join(dict.fromkeys(store.run(name).name for name in _list(runs)))
            else:
                title = problems
                grid = _Grid(store, _problems(problems, n, split, seed), problems, settings, samples)
                pools = grid.make(_models(models), temperature, max_tokens, seed)
    found = work_out(pools, policies, title=title, axis=x, reach=goals, sizes=wanted, own=own)
    _show(console(), found)
    if report:
        write_report(report, found)
        typer.echo(f"report  {report}")


def _list(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(",") if piece.strip()]


def _models(names: str) -> list[str]:
    import os

    from thinksmith.engines.remote.settings import default_model

    return list(dict.fromkeys(_list(names))) or [default_model(os.environ)]


def _share(text: str) -> float:
    from thinksmith.errors import UserError

    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise UserError(f"--reach takes accuracies such as 0.9 or 90%, not {text!r}")
    return value


def _size(text: str) -> int:
    from thinksmith.errors import UserError

    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**6):
        raise UserError(f"--sizes takes numbers of samples such as 1,4,16, not {text!r}")
    return int(text)


def _problems(spec: str, n: int, split: str, seed: int) -> Sequence[Problem]:
    from thinksmith.errors import UserError
    from thinksmith.problems.load import load_checked

    loaded = load_checked(spec, n, split=split, seed=seed)
    if not any(problem.answer for problem in loaded.problems):
        raise UserError(f"{spec} has no gold answers: nothing can be said to be right")
    if loaded.findings:
        unusable = f"{len(loaded.findings)} of {len(loaded.problems)} gold answers cannot be verified"
        typer.echo(f"thinksmith: {unusable}, the first: {loaded.findings[0]}", err=True)
    return loaded.problems


def _from_store(store: Store, names: Sequence[str], score: str) -> tuple[list[Pool], list[Point]]:
    """The runs of single samples as pools, all others as points."""
    from thinksmith.evaluate.scaling.pool import pool_of_run
    from thinksmith.evaluate.scaling.scale import is_pool, known_shape, point_of_run

    pools, own = [], []
    for name in names:
        run = store.run(name)
        if is_pool(store, run.id):
            pools.append(pool_of_run(store, run.id, shape=known_shape(run.model), score=score))
        else:
            own.append(point_of_run(store, run.id))
    return pools, own


class _Grid:
    """One run for each model and setting, made one after the other, with a bar over them all."""

    def __init__(
        self, store: Store, problems: Sequence[Problem], name: str, settings: Sequence[Setting], samples: int
    ) -> None:
        self._store, self._problems, self._name = store, problems, name
        self._settings, self._samples = settings, samples
        self._done = self._right = 0

    def make(self, models: Sequence[str], temperature: float | None, max_tokens: int, seed: int) -> list[Pool]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from thinksmith.cli.interrupt import Interrupted
        from thinksmith.cli.screen import console

        out = console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        total = len(models) * len(self._settings) * len(self._problems) * self._samples
        try:
            with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as self._bar:
                self._task = self._bar.add_task("", total=total)
                pools = []
                for model in models:
                    pools += self._of_model(model, temperature, max_tokens, seed)
                return pools
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {self._done} of {total} attempts are kept, and the same command goes on with them"
            ) from None

    def _of_model(self, model: str, temperature: float | None, max_tokens: int, seed: int) -> list[Pool]:
        import asyncio
        from dataclasses import replace

        from thinksmith.engines import open_engine
        from thinksmith.evaluate.scaling.scale import known_shape, make_pool

        engine = open_engine(model)
        sampling = replace(engine.info.sampling, max_tokens=max_tokens, seed=seed)
        if temperature is not None:
            sampling = replace(sampling, temperature=temperature)
        pools = []
        try:
            for setting in self._settings:
                self._say = f"{model}, {setting.name}"
                pool = make_pool(
                    self._problems,
                    engine,
                    setting,
                    sampling=sampling,
                    store=self._store,
                    name=self._name,
                    samples=self._samples,
                    shape=known_shape(model),
                    on_attempt=self._attempt,
                )
                pools.append(replace(pool, model=model, budget=setting.name))
        finally:
            asyncio.run(engine.aclose())
        return pools

    def _attempt(self, attempt: Attempt) -> None:
        self._done += 1
        self._bar.update(self._task, completed=self._done, description=self._say)


def _show(out: Console, found: Scale) -> None:
    from thinksmith.cli.screen import print_table
    from thinksmith.evaluate.scaling.curve import AXES
    from thinksmith.evaluate.scaling.scale_report import equal_table, headings, reach_lines, rows, shown_series
    from thinksmith.evaluate.terminal_chart import Line, chart

    points, values = found.curves.points, found.curves.accuracies
    series, shown = found.curves.series, shown_series(found)
    lines = [Line(name, tuple((points[at].x(found.axis), values[at].mean) for at in series[name])) for name in shown]
    width = min(_CHART[0], out.width)
    if width >= 30:
        unicode = (out.encoding or "").lower().startswith("utf")
        for row in chart(
            lines, width=width, height=_CHART[1], x_name=f"accuracy over {AXES[found.axis]}", unicode=unicode
        ):
            out.print(row)
    if len(series) > len(shown):
        out.print(f"{len(series) - len(shown)} more series are in the table only")
    out.print()
    names = [
        name if name in ("", "strategy", "model", "budget", "95 % interval") else f">{name}" for name in headings(found)
    ]
    print_table(out, [*names, "run"], [[*(text for text, _ in row.cells), row.run] for row in rows(found)])
    if found.equal:
        out.print()
        columns, cells = equal_table(found)
        print_table(out, [columns[0], *(f">{name}" for name in columns[1:])], cells)
        out.print("★ the best at that spend, ≈ not told apart from it", style="dim")
    if found.reach:
        out.print()
        for line in reach_lines(found):
            out.print(line, style="bold")
    out.print()
    for note in found.notes:
        out.print(note, style="dim")
