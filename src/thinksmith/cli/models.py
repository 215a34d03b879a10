"""`thinksmith models`: which models can be named here."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON, one a line.")] = False,
    endpoints: Annotated[
        bool, typer.Option("--endpoints/--no-endpoints", help="Ask the usual ports of this machine for model servers.")
    ] = True,
) -> None:
    """List models: embedded, in the local cache, and served on this machine. Each name goes into --model."""
    import sys
    from json import dumps

    from thinksmith.cli.screen import console, print_table, write
    from thinksmith.engines.remote.settings import default_model
    from thinksmith.health.models import models_here

    default = default_model(os.environ)
    found = models_here(os.environ, endpoints=endpoints)
    if as_json:
        for each in found:
            write(sys.stdout, dumps(each.to_json() | {"default": each.name == default}, ensure_ascii=False))
        return
    screen = console()
    rows = [(each.name, each.where, _size(each.size), each.detail) for each in found]
    print_table(screen, ("model", "where", ">size", ""), rows)
    screen.print(f"\ndefault: {default} (THINKSMITH_MODEL, or model = … in the configuration file, names another)")


def _size(size: int) -> str:
    if not size:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
