"""`thinksmith problems [NAME]`: what there is to think about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from thinksmith.cli.unsafe import UnsafeCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from thinksmith.problems.family import Parameter
    from thinksmith.problems.load import Loaded
    from thinksmith.records import Problem


_SHOWN = 3


def problems(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A family, such as arithmetic:digits=2, a data set, or a file.")
    ] = "",
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many to show. [default: at most 3]")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split: test is held out from every training.")] = "test",
    seed: Annotated[int, typer.Option(help="Which draw of a family.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Verify the gold answer of every problem instead.")] = False,
    unsafe_code: UnsafeCode = False,
) -> None:
    """List families and data sets, or show problems of one."""
    from thinksmith.cli.screen import console
    from thinksmith.errors import UserError

    if check and not name.strip():
        raise UserError("name what to check, such as thinksmith problems my.jsonl --check")
    if not name:
        _list(console())
        return
    from thinksmith.problems.load import load_checked

    loaded = load_checked(name, None if check else sample, split=split, seed=seed)
    if not check:
        _show(console(), loaded.problems[: sample or _SHOWN])
    findings = [*loaded.findings, *(_thorough_findings(loaded) if check else ())]
    for finding in findings:
        typer.echo(f"thinksmith: gold that cannot be verified: {finding}", err=True)
    if check:
        typer.echo(f"{len(loaded.problems):,} problems, {len(findings):,} without a gold answer to verify by")
        if findings:
            raise typer.Exit(1)


def _thorough_findings(loaded: Loaded) -> list[str]:
    """What only shows when everything is run: reference solutions against their tests, gold against its schema."""
    from thinksmith.cli.progress import progress
    from thinksmith.cli.screen import one_line
    from thinksmith.verify import check_all

    known = {finding.id for finding in loaded.findings}
    unchecked = [problem for problem in loaded.problems if problem.id not in known]
    with progress(len(unchecked), "checking") as done:
        faults = check_all(unchecked, on_checked=done)
    return [f"{problem.id}: {one_line(fault)}" for problem, fault in zip(unchecked, faults, strict=True) if fault]


def _list(out: Console) -> None:
    from thinksmith.problems.datasets import DATASETS
    from thinksmith.problems.families import EVERY, FAMILIES
    from thinksmith.problems.gym_audit import SERVED
    from thinksmith.problems.load import MIXED
    from thinksmith.problems.office import NAME as OFFICE
    from thinksmith.problems.office import TASKS

    out.print("families: drawn by a seed; a tenth of all problems is held out as the test split", style="bold")
    for family in EVERY.values():
        out.print(f"  {family.name:<12} {family.about}")
        for name, parameter in family.parameters.items():
            out.print(f"    {f'{name}={parameter.default}':<16} {_range(parameter):<24} {parameter.about}", style="dim")
    out.print(f"  {MIXED:<12} {', '.join(FAMILIES)} in equal shares")
    out.print("tasks for an agent, each judged by the state in which it is left", style="bold")
    out.print(
        f"  {OFFICE:<12} {len(TASKS)} tasks of a seed, over files, SQLite and Python; options: level, task, variants"
    )
    out.print("data sets", style="bold")
    for data_set in DATASETS.values():
        out.print(f"  {data_set.name:<12} {data_set.about}; splits: {', '.join(data_set.splits)}")
    out.print("reasoning-gym: gym/NAME, with options such as gym/chain_sum:min_terms=4", style="bold")
    out.print("  " + ", ".join(SERVED), style="dim")
    out.print("your own", style="bold")
    out.print("  FILE         .jsonl or .parquet, columns by name: my.jsonl:prompt=question,answer=solution")
    out.print("  hub/OWNER/NAME   a data set of the hub, downloaded when it is named")


def _range(parameter: Parameter) -> str:
    return ", ".join(parameter.choices) or f"{parameter.low} to {parameter.high}"


def _show(out: Console, problems: Sequence[Problem]) -> None:
    from thinksmith.cli.screen import clean
    from thinksmith.verify.verdict import TASK

    for problem in problems:
        out.print(problem.id, style="bold")
        out.print(clean(problem.text))
        without = "a task, judged by the state in which it is left" if problem.kind == TASK else "no gold answer"
        out.print(f"→ {clean(problem.answer)}" if problem.answer is not None else without, style="green")
        out.print()
