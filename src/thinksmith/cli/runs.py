"""`thinksmith runs`: what is in the store."""

from __future__ import annotations

from typing import Annotated

import typer

_UNJUDGED = ("ask", "replay", "chat", "agent")  # kinds of runs whose attempts have no gold answer


def runs(
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="How many, latest first; 0 shows all.")] = 20,
    kind: Annotated[
        str, typer.Option(help="Only runs of this kind, such as eval or ask; draws are shown only if asked for.")
    ] = "",
) -> None:
    """List the runs in the store, latest first."""
    from itertools import islice

    from thinksmith.cli.screen import console, print_table
    from thinksmith.store.store import DRAWS, Store

    with Store.open() as store:
        found = [run for run in store.runs() if (run.kind == kind if kind else run.kind != DRAWS)]
        out, shown = console(), list(islice(found, limit or None))
        if not shown:
            out.print(f"no {kind + ' ' if kind else ''}run in {store.where} yet")
            return
        rows = []
        for run in shown:
            correct = f"{run.correct / run.attempts:.1%}" if run.attempts and run.kind not in _UNJUDGED else "–"
            rows.append((run.id, run.status, run.model, f"{run.attempts:,}", correct, run.name))
        print_table(out, ("run", "status", "model", ">attempts", ">correct", "name"), rows)
        if len(shown) < len(found):
            out.print(f"{len(shown)} of {len(found)} runs; --limit 0 shows all", style="dim")
