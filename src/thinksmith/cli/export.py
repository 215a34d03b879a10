"""`thinksmith export RUN FILE`: a run as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of one, or last.")],
    file: Annotated[Path, typer.Argument(help="Where to: a name that ends in .jsonl or .parquet.")],
) -> None:
    """Write a run's attempts to a JSON-lines or Parquet file."""
    from thinksmith.store.export import export as write
    from thinksmith.store.store import Store

    with Store.open() as store:
        run_id = store.run(run).id
        count = write(store, run_id, file)
    typer.echo(f"{count:,} attempt{'' if count == 1 else 's'} of {run_id} in {file}")
