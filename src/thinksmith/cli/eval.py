"""`thinksmith eval PROBLEMS`: how good is a model, with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinksmith.cli.unsafe import UnsafeCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from thinksmith.engines.contract import Engine
    from thinksmith.evaluate.cards import Advice
    from thinksmith.evaluate.report import Report
    from thinksmith.evaluate.summary import Summary
    from thinksmith.records import Sampling

_STRATEGY = (
    "How the model is asked: single, budget=512, vote@8, adaptive, best_of@4, confident, beam, dvts, refine, race, "
    "cascade or agent; with settings, such as vote@16:weigh=confidence or agent:tools=calculator+python. "
    "[default: single; agent for tasks]"
)

_MOST_TASKS = 48  # that are listed on a terminal; the report has all


def evaluate(
    problems: Annotated[str, typer.Argument(help="A family, such as arithmetic:digits=2, a data set, or a file.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="As thinksmith models lists them, a folder or a hub id. [default: as it says there]"
        ),
    ] = "",
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, metavar="N", help="How many problems. [default: 300; of tasks all]"),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="Attempts at each problem.")] = 1,
    strategy: Annotated[str, typer.Option(metavar="SPEC", help=_STRATEGY)] = "",
    temperature: Annotated[
        float | None,
        typer.Option(min=0, metavar="T", help="0 takes the likeliest token. [default: the model's own, else 1]"),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="P", help="Share of the likeliest tokens. [default: the model's own]"),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=0, metavar="K", help="That many likeliest tokens; 0: all. [default: the model's own]"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of a completion.")] = 512,
    think: Annotated[int | None, typer.Option(min=0, metavar="N", help="Most tokens of the thinking.")] = None,
    split: Annotated[str, typer.Option(help="Which split: test is held out from every training.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of the problems and of the sampling.")] = 0,
    seeds: Annotated[
        str,
        typer.Option(metavar="N,N,…", help="Several seeds of the sampling: a run each, summed up together."),
    ] = "",
    judge: Annotated[
        str, typer.Option(metavar="NAME", help="The model that judges problems of kind judge.", show_default=False)
    ] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Sample again what is in the store already.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write a page: report.html, .md or .json.")] = None,
    unsafe_code: UnsafeCode = False,
) -> None:
    """Measure a model: accuracy with its interval. An interrupted run goes on where it stopped."""
    import asyncio
    import os

    from thinksmith.cli.evaluating import Live
    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.cli.screen import console
    from thinksmith.engines import open_engine
    from thinksmith.engines.remote.settings import default_model
    from thinksmith.evaluate.cards import advice
    from thinksmith.evaluate.evaluate import evaluate as run
    from thinksmith.evaluate.report import check_report, render_report, stored_report
    from thinksmith.problems.load import brings_tasks, load_checked
    from thinksmith.store.store import Store
    from thinksmith.strategies.names import strategy as named

    if report:  # told before an hour is spent on what could not be written
        check_report(report)
    asked = _seeds(seeds) or [seed]
    tasks = brings_tasks(problems)
    plan = named(strategy or ("agent" if tasks else "single"))
    model = model or default_model(os.environ)
    loaded = load_checked(problems, n or (None if tasks else 300), split=split, seed=seed)
    if loaded.findings:
        unusable = f"{len(loaded.findings)} of {len(loaded.problems)} gold answers cannot be verified"
        typer.echo(f"thinksmith: {unusable}, the first: {loaded.findings[0]}", err=True)
    with Store.open() as store:
        engine = open_engine(model)
        judging: Engine | None = None
        try:
            judging = engine if judge == model else open_engine(judge) if judge else None
            advised = advice(engine.info)
            own = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
            given = {name: value for name, value in own.items() if value is not None}
            sampling = _sampling(advised, given, max_tokens, think)
            live = Live(store, len(loaded.problems) * samples * len(asked), _sampled_by(sampling, advised, given))
            run_ids = []
            with live:
                for each in asked:
                    run_id, _ = run(
                        loaded.problems,
                        engine,
                        sampling=_seeded(sampling, each),
                        samples=samples,
                        strategy=plan.spec,
                        store=store,
                        name=problems,
                        judge=judging,
                        fresh=fresh,
                        on_attempt=live.attempt,
                    )
                    run_ids.append(run_id)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {live.done} of {live.total} attempts are kept, and the same command goes on with them"
            ) from None
        finally:
            asyncio.run(engine.aclose())
            if judging and judging is not engine:
                asyncio.run(judging.aclose())
        page = stored_report(store, run_ids, advised=engine.info.sampling)
        _print(console(), page, run_ids, _sampled_by(sampling, advised, given))
        if report:
            render_report(report, page)
            typer.echo(f"report    {report}")


def _seeds(text: str) -> list[int]:
    """The seeds of `0,1,2`. UserError for anything else, and for one seed twice."""
    from thinksmith.errors import UserError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise UserError(f"seeds are whole numbers with commas between them, such as 0,1,2, not {text!r}")
    if len(set(map(int, parts))) < len(parts):
        raise UserError(f"{text!r} names a seed twice: it would give the same attempts twice")
    return [int(part) for part in parts]


def _sampling(advised: Advice, given: Mapping[str, Any], max_tokens: int, think: int | None) -> Sampling:
    from thinksmith.records import Sampling

    settings = {"temperature": 1.0} | dict(advised.settings) | dict(given)
    return Sampling(**settings, max_tokens=max_tokens, max_thinking_tokens=think)


def _seeded(sampling: Sampling, seed: int) -> Sampling:
    from dataclasses import replace

    return replace(sampling, seed=seed)


def _sampled_by(sampling: Sampling, advised: Advice, given: Mapping[str, Any]) -> str:
    """Such as "temperature 0.6, top_p 0.95 (the model's own)"."""
    names = ["temperature", *(name for name in {**advised.settings, **given} if name != "temperature")]
    shown = ", ".join(f"{name} {getattr(sampling, name):g}" for name in names)
    rest = [name for name in advised.settings if name not in given]
    source = f" ({advised.source}" + (f", but for {', '.join(given)})" if given else ")") if rest else ""
    return shown + source


def _print(out: Console, page: Report, run_ids: Sequence[str], sampled_by: str) -> None:
    from thinksmith.cli.screen import print_table

    summary = page.summary
    assert summary is not None
    out.print(f"accuracy  {summary.line}", style="bold")
    for name, groups in {"family": summary.families, **summary.by}.items():
        if len(groups) > 1:
            rows = [
                (label, f"{each.mean:.1%}", f"[{each.low:.1%}, {each.high:.1%}]", f"{each.problems:,}")
                for label, each in groups.items()
            ]
            print_table(out, (name, ">accuracy", "95 % interval", ">problems"), rows)
    for each in page.lists:
        if each.title != "Tasks":
            continue
        shown = [tuple(cell.text for cell in row) for row in each.rows[:_MOST_TASKS]]  # type: ignore[union-attr]
        if all(row[1] != "–" for row in shown):  # tasks with a name; other problems stand in the report
            print_table(out, (each.columns[0], *(f">{name}" for name in each.columns[1:])), shown)
    for table in page.tables:
        if table.title in ("Over k attempts", "By seed"):
            print_table(out, (table.columns[0], *(f">{name.split(':')[0]}" for name in table.columns[1:])), table.rows)  # type: ignore[arg-type]
            out.print(table.note, style="dim")
    _print_effort(out, summary)
    for warning in page.warnings:
        out.print(f"warning   {warning}", style="yellow")
    out.print(f"sampling  {sampled_by}")
    for run_id in run_ids:
        out.print(f"run       {run_id} (thinksmith traces {run_id} --wrong)")


def _print_effort(out: Console, summary: Summary) -> None:
    lengths, spent = summary.thinking_tokens, summary.spent_tokens
    out.print(
        f"thinking  {lengths.mean:,.0f} tokens on average, median {lengths.median:,.0f}, 95 % within {lengths.p95:,.0f}"
    )
    if summary.traces > 1:
        traces = f"{summary.traces:,.1f} traces for each attempt"
        out.print(f"spent     {spent.mean:,.0f} tokens on average, 95 % within {spent.p95:,.0f}, in {traces}")
    if done := summary.acted:
        beside = f"{done.failed.mean:,.1f} of them did not work, {done.refused.mean:,.1f} were not allowed"
        out.print(f"steps     {done.steps} for each task (95 %), with {done.calls} calls: {beside}")
    habits = f"{summary.check_share:.1%} with a self-check, {summary.backtrack_share:.1%} with backtracking"
    of = f" (of {summary.audited:,} that were read)" if summary.audited < sum(summary.counts.values()) else ""
    out.print(f"traces    {habits}{of}")
    if summary.true_share is not None:
        out.print(f"equations {summary.true_share:.1%} true")
    if summary.cost is not None:
        out.print(f"cost      ${summary.cost:,.4g}")
    if summary.tokens_per_s:
        out.print(f"speed     {summary.tokens_per_s:,.0f} tokens/s")
