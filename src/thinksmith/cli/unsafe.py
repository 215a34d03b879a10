"""The option of commands that may run programs which models wrote."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def _allow(wanted: bool) -> bool:
    if wanted:
        os.environ["THINKSMITH_UNSAFE_CODE"] = "1"  # workers and threads see it too
    return wanted


UnsafeCode = Annotated[
    bool,
    typer.Option(
        "--unsafe-code", callback=_allow, help="Run programs of models even where nothing keeps them from your files."
    ),
]
