"""`thinksmith curate SOURCE… --out FOLDER`: many traces → the set that a student learns from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from thinksmith.distill.curate.curate import Curated
    from thinksmith.distill.curate.options import Curation

_BAR = 24  # cells


def curate(
    sources: Annotated[
        list[str], typer.Argument(help="Runs of the store (an id, its beginning, last, or a name), files, or sets.")
    ],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the set goes.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the funnel, and write nothing.")] = False,
    choose: Annotated[
        Literal["shortest", "diverse", "all"], typer.Option(help="Which traces of a problem are taken.")
    ] = "shortest",
    per_problem: Annotated[int, typer.Option(min=1, metavar="N", help="So many of each problem.")] = 1,
    most: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="So many in all, drawn by the seed.", show_default=False)
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="PROBLEMS", help="An evaluation whose problems must not be learnt; may be repeated."),
    ] = None,
    unjudged: Annotated[
        Literal["judge", "keep", "drop"],
        typer.Option(help="Traces without a verdict: judge those with a gold answer, keep, or drop."),
    ] = "judge",
    need_thinking: Annotated[
        bool, typer.Option("--need-thinking/--allow-no-thinking", help="Drop traces without thinking.")
    ] = True,
    min_tokens: Annotated[int, typer.Option(min=0, metavar="N", help="Drop shorter traces.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Drop longer traces.")] = 32_768,
    language: Annotated[
        str, typer.Option(metavar="CODE", help="Drop others: question (its own), any, or a code such as en.")
    ] = "question",
    language_share: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="Least share of letters in that language's script.")
    ] = 0.9,
    answer_in_thinking: Annotated[
        bool, typer.Option("--answer-in-thinking/--answer-anywhere", help="Drop answers that no thinking led to.")
    ] = True,
    loops: Annotated[
        bool, typer.Option("--drop-loops/--keep-loops", help="Drop traces that repeat themselves.")
    ] = True,
    gram: Annotated[int, typer.Option(min=3, max=50, metavar="N", help="So many shared words on end are a copy.")] = 8,
    trace_share: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="A trace holds a problem with this share of its n-grams.")
    ] = 0.5,
    duplicates: Annotated[
        bool, typer.Option("--drop-duplicates/--keep-duplicates", help="Drop what is there already.")
    ] = True,
    similarity: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="Drop what is this similar to an earlier one; 1 keeps it.")
    ] = 0.8,
    easiest: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="Drop problems that are solved more often.")
    ] = 0.9,
    hardest: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="Drop problems that are solved less often.")
    ] = 0.1,
    min_attempts: Annotated[
        int, typer.Option(min=1, metavar="N", help="Attempts without which that is not known.")
    ] = 4,
    false_equations: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="Drop a larger share of false equations; 1 keeps all.")
    ] = 0.1,
    form: Annotated[
        Literal["messages", "reasoning_content", "openr1"],
        typer.Option(help="Thinking in tags, beside the content, or the columns of OpenR1-Math-220k."),
    ] = "messages",
    parquet: Annotated[bool, typer.Option("--parquet", help="A Parquet file instead of JSON lines.")] = False,
    seed: Annotated[int, typer.Option(help="Decides between what is equally good, and draws.")] = 0,
    push: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="Also upload the set to the hub, privately.", show_default=False)
    ] = "",
) -> None:
    """Drop what is wrong, cut off, repeated, copied or contaminated, and choose what a student learns from."""
    from thinksmith.cli.progress import stages
    from thinksmith.cli.screen import console
    from thinksmith.distill.curate.curate import curate as run
    from thinksmith.distill.curate.options import curation
    from thinksmith.distill.curate.writing import Output
    from thinksmith.errors import UserError

    if out is None and not dry_run:
        raise UserError("name a folder for the set with --out, or look at the funnel alone with --dry-run")
    if push and dry_run:
        raise UserError("--dry-run writes nothing, so there is nothing to --push")
    options = curation(
        {
            "unjudged": unjudged, "need_thinking": need_thinking, "min_tokens": min_tokens, "max_tokens": max_tokens,
            "language": language, "language_share": language_share, "answer_in_thinking": answer_in_thinking,
            "loops": loops, "against": tuple(against or ()), "gram": gram, "trace_share": trace_share,
            "duplicates": duplicates, "similarity": similarity, "easiest": easiest, "hardest": hardest,
            "min_attempts": min_attempts, "false_equations": false_equations, "choose": choose,
            "per_problem": per_problem, "most": most, "seed": seed,
        }
    )  # fmt: skip
    output = Output(out, form, "parquet" if parquet else "jsonl") if out and not dry_run else None
    with stages() as told:
        done = run(sources, options, output, on_progress=told)
    show(console(), done, options)
    if push:
        from thinksmith.distill.formats.push import push_set

        assert out is not None
        typer.echo(f"pushed    {push_set(out, push)}")


def show(out: Console, done: Curated, options: Curation) -> None:
    """The funnel as a table with bars, and what is worth knowing beside."""
    from thinksmith.cli.screen import print_table
    from thinksmith.distill.curate.card import contamination, difficulty, verdicts

    funnel = done.funnel
    rows = [("read", "", f"{funnel.read:,}", _bar(funnel.read, funnel.read))]
    rows += [
        (each.reason, f"{each.dropped:,}", f"{each.left:,}", _bar(each.left, funnel.read)) for each in funnel.shown
    ]
    print_table(out, ("", ">dropped", ">left", ""), rows)
    for fault in funnel.faults[:1]:
        out.print(f"bad row   {fault}", style="yellow")
    out.print(f"kept      {funnel.kept:,} traces of {funnel.kept_problems:,} problems", style="bold")
    tokens = funnel.tokens
    out.print(
        f"tokens    {tokens['mean']:,.0f} on average, median {tokens['median']:,.0f}, 95 % within {tokens['p95']:,.0f}"
    )
    out.print(f"verdicts  {verdicts(funnel)}")
    out.print(f"rates     {difficulty(funnel, options)}")
    out.print(f"overlap   {contamination(funnel, options).replace('`', '')}")
    if done.folder:
        out.print(f"set       {done.folder} ({done.hash[:16]})")


def _bar(count: int, of: int) -> str:
    eighths = round(8 * _BAR * count / of) if of else 0
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
