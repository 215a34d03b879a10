"""`thinksmith eval PROBLEMS`: how good is a model, with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinksmith.cli.unsafe import UnsafeCode

if TYPE_CHECKING:
    from rich.console import Console

    from thinksmith.evaluate.summary import Summary
    from thinksmith.records import Attempt
    from thinksmith.store.store import Store

_EXAMPLES = 5  # wrong attempts shown in the report


def evaluate(
    problems: Annotated[str, typer.Argument(help="A family, such as arithmetic:digits=2, a data set, or a file.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="As thinksmith models lists them, a folder or a hub id. [default: as it says there]"
        ),
    ] = "",
    n: Annotated[int, typer.Option("-n", min=1, metavar="N", help="How many problems.")] = 300,
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="Attempts at each problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, metavar="T", help="0 takes the likeliest token.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of a completion.")] = 512,
    think: Annotated[int | None, typer.Option(min=0, metavar="N", help="Most tokens of the thinking.")] = None,
    split: Annotated[str, typer.Option(help="Which split: test is held out from every training.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of the problems and of the sampling.")] = 0,
    judge: Annotated[
        str, typer.Option(metavar="NAME", help="The model that judges problems of kind judge.", show_default=False)
    ] = "",
    report: Annotated[Path | None, typer.Option(help="Also write a page, such as report.html.")] = None,
    unsafe_code: UnsafeCode = False,
) -> None:
    """Measure a model: accuracy with its interval. An interrupted run goes on where it stopped."""
    import asyncio
    import os

    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.cli.screen import console
    from thinksmith.engines import open_engine
    from thinksmith.engines.remote.settings import default_model
    from thinksmith.errors import UserError
    from thinksmith.evaluate.evaluate import evaluate as run
    from thinksmith.problems.load import load_checked
    from thinksmith.records import Sampling
    from thinksmith.store.store import Store

    if report and report.is_dir():  # told before an hour is spent on what could not be written
        raise UserError(f"the report {report} is a folder: name a file in it, such as {report / 'report.html'}")
    model = model or default_model(os.environ)
    loaded = load_checked(problems, n, split=split, seed=seed)
    if loaded.findings:
        unusable = f"{len(loaded.findings)} of {len(loaded.problems)} gold answers cannot be verified"
        typer.echo(f"thinksmith: {unusable}, the first: {loaded.findings[0]}", err=True)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, max_thinking_tokens=think, seed=seed)
    with Store.open() as store:
        engine = open_engine(model)
        judging = engine if judge == model else open_engine(judge) if judge else None
        live = _Live(store, len(loaded.problems) * samples)
        try:
            with live.bar:
                run_id, summary = run(
                    loaded.problems,
                    engine,
                    sampling=sampling,
                    samples=samples,
                    store=store,
                    name=problems,
                    judge=judging,
                    on_attempt=live.attempt,
                )
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {live.done} of {live.total} attempts are kept, and the same command goes on with them"
            ) from None
        finally:
            asyncio.run(engine.aclose())
            if judging and judging is not engine:
                asyncio.run(judging.aclose())
        _print_summary(console(), run_id, summary)
        if report:
            _write_report(report, store, run_id, summary)


class _Live:
    """A line that follows the run, on a terminal; elsewhere only the news that an interrupted run goes on."""

    def __init__(self, store: Store, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from thinksmith.cli.screen import console

        self.total, self.done = total, 0
        self._store, self._newest = store, store.runs(limit=1)
        self._counts: dict[str, int] = {}
        self._out = console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=self._out, disable=not self._out.is_terminal)
        self._task = self.bar.add_task("", total=total)

    def attempt(self, attempt: Attempt) -> None:
        if not self.done and [run.id for run in self._newest] == [run.id for run in self._store.runs(limit=1)]:
            self._out.print("going on with an interrupted run")  # for no run was started
        self.done += 1
        status = attempt.verdict.status
        self._counts[status] = self._counts.get(status, 0) + 1
        right, cut, silent = (self._counts.get(name, 0) for name in ("correct", "truncated", "no_answer"))
        news = f"{right / self.done:.1%} correct, {cut} truncated, {silent} no answer"
        self.bar.update(self._task, completed=self.done, description=news)


def _print_summary(out: Console, run_id: str, summary: Summary) -> None:
    from thinksmith.cli.screen import print_table

    out.print(f"accuracy  {summary.line}", style="bold")
    if len(summary.families) > 1:
        rows = [
            (name, f"{each.mean:.1%}", f"[{each.low:.1%}, {each.high:.1%}]", f"{each.problems:,}")
            for name, each in summary.families.items()
        ]
        print_table(out, ("family", ">accuracy", "95 % interval", ">problems"), rows)
    lengths = summary.thinking_tokens
    out.print(
        f"thinking  {lengths.mean:,.0f} tokens on average, median {lengths.median:,.0f}, 95 % within {lengths.p95:,.0f}"
    )
    habits = f"{summary.check_share:.1%} with a self-check, {summary.backtrack_share:.1%} with backtracking"
    out.print(f"traces    {habits}")
    if summary.true_share is not None:
        out.print(f"equations {summary.true_share:.1%} true")
    if summary.tokens_per_s:
        out.print(f"speed     {summary.tokens_per_s:,.0f} tokens/s")
    out.print(f"run       {run_id} (thinksmith traces {run_id} --wrong)")


def _write_report(path: Path, store: Store, run_id: str, summary: Summary) -> None:
    from thinksmith.evaluate.report import evaluation_report, render_report

    run = store.run(run_id)
    examples = [stored.attempt for stored in store.attempts(run_id, wrong=True, limit=_EXAMPLES)]
    page = evaluation_report(summary, title=run.name, model=run.model, config=run.config, examples=examples)
    render_report(path, page)
    typer.echo(f"report    {path}")
