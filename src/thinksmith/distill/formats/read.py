"""Samples of a set, a file or a run, for whoever learns from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from thinksmith.distill.formats.parts import open_source, read
from thinksmith.distill.sample import Sample
from thinksmith.errors import UserError


def samples(source: str | Path, store: str | None = None) -> Iterator[Sample]:
    """The samples of a set folder, of a file of any known format, or of a run, one at a time and in order.

    Raises UserError where there is no such source or its format is not known; and at the end, when all others were
    given, for rows that are none: the first, and how many there are.
    """
    first, faults = "", 0
    for part in open_source(str(source), store).parts:
        for entry in read(part):
            if entry.sample is None:
                first = first or f"{entry.where}: {entry.fault}"
                faults += 1
            else:
                yield entry.sample
    if faults:
        more = f" (and {faults - 1} more bad row{'s' if faults > 2 else ''})" if faults > 1 else ""
        raise UserError(first + more + "; mend them, or leave them out with `thinksmith curate`")


def read_set(source: str | Path, store: str | None = None) -> list[Sample]:
    """All samples of a set folder, a file or a run. Raises UserError as `samples` does, and where there is none."""
    found = list(samples(source, store))
    if not found:
        raise UserError(f"{source} holds no samples")
    return found
