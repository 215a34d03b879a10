"""`thinksmith traces RUN`: a run's attempts, to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from thinksmith.store.store import StoredAttempt

_SHORT = 24  # characters of an answer in the table
_COLUMNS = (">attempt", "status", ">tokens", "answer", "gold", "problem")
_STEP_COLUMNS = (">attempt", ">step", "part", ">tokens", "calls", "said")  # of an agent's run


def traces(
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of one, or last.")],
    wrong: Annotated[bool, typer.Option("--wrong", help="Only what is not correct.")] = False,
    status: Annotated[str, typer.Option(help="Only one status, such as truncated or no_answer.")] = "",
    longest: Annotated[
        bool, typer.Option("--longest", help="Most tokens first, instead of in order of storing.")
    ] = False,
    problem: Annotated[str, typer.Option(metavar="TEXT", help="Only problems of this id, or with this text.")] = "",
    after: Annotated[
        int | None, typer.Option(min=1, metavar="ATTEMPT", help="Go on after this attempt, in the same order.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="How many; 0 shows all.")] = 20,
    full: Annotated[bool, typer.Option("--full", help="The whole traces instead of a line for each.")] = False,
) -> None:
    """List a run's attempts, or read them whole with --full."""
    from itertools import islice

    from thinksmith.cli.screen import console, print_table
    from thinksmith.store.store import Store

    out = console()
    with Store.open() as store:
        found = store.attempts(
            run,
            wrong=wrong,
            status=status or None,
            problem=problem or None,
            after=after,
            order="longest" if longest else "made",
            limit=limit + 1 if limit else None,
        )
        shown, last = islice(found, limit or None), 0
        if full:
            for stored in shown:
                last = stored.id
                _print_whole(out, stored)
        else:
            rows, columns = [], _COLUMNS
            for stored in shown:
                last = stored.id
                if "part" in stored.attempt.notes:
                    columns = _STEP_COLUMNS
                rows.append(_step(stored) if columns is _STEP_COLUMNS else _judged(stored))
            if not rows:
                out.print("no such attempt in this run")
                return
            print_table(out, columns, rows)
        if limit and next(found, None):
            more = f"there are more: --after {last} shows the next, --limit 0 all"
            out.print(f"{more}; thinksmith audit ATTEMPT looks at one", style="dim")


def _judged(stored: StoredAttempt) -> tuple[str | Text, ...]:
    """An attempt's row."""
    from thinksmith.cli.screen import one_line, status

    attempt = stored.attempt
    said, gold = attempt.verdict.extracted or attempt.trace.answer, attempt.problem.answer or "–"
    judged = status(attempt.verdict.status)
    if attempt.verdict.judge:
        judged.append(f" by {one_line(attempt.verdict.judge)[:_SHORT]}")
    texts = (one_line(said)[:_SHORT], one_line(gold)[:_SHORT], one_line(attempt.problem.text))
    return (str(stored.id), judged, f"{attempt.trace.tokens:,}", *texts)


def _step(stored: StoredAttempt) -> tuple[str | Text, ...]:
    """The row of an agent's step, which nobody judges: its calls, or what it said."""
    from thinksmith.cli.screen import one_line

    notes, trace = stored.attempt.notes, stored.attempt.trace
    names = [f"{call['call']['name']}{'' if call['ok'] else ' ✗'}" for call in notes["calls"]]
    said = "" if names else one_line(trace.answer)
    return (
        str(stored.id), str(notes["step"]), notes["part"], f"{trace.tokens:,}", one_line(", ".join(names)) or "–", said
    )  # fmt: skip


def _print_whole(out: Console, stored: StoredAttempt) -> None:
    from json import dumps

    from rich.text import Text

    from thinksmith.cli.screen import clean, one_line, status

    attempt = stored.attempt
    trace, verdict = attempt.trace, attempt.verdict
    step = attempt.notes if "part" in attempt.notes else None
    judged = Text(f"step {step['step']}, {step['part']}", "bold") if step else status(verdict.status)
    out.print(f"attempt {stored.id} ", judged, f" {attempt.problem.id}, {trace.tokens:,} tokens", sep="")
    if not step or not step["step"]:
        out.print(clean(attempt.problem.text), style="bold")
    if trace.thinking:
        out.print(clean(trace.thinking), style="dim")
    out.print(clean(trace.answer) or "(no answer)")
    for call in step["calls"] if step else ():
        out.print(f"→ {one_line(call['call']['name'])} {one_line(dumps(call['call']['arguments']))}", style="bold")
        out.print(clean(call["text"]), style="" if call["ok"] else "red")
    if verdict.reason and not step:
        out.print(f"→ {clean(verdict.reason)}", style="italic")
    out.print()
