"""metrics.jsonl: a row for each finished step, and what it says of the memory."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from thinksmith.errors import UserError
from thinksmith.training.run_folder import write_whole

Metrics = dict[str, float]
"""One row: the name of a number → the number."""


def add_row(path: Path, metrics: Metrics) -> None:
    """Raises UserError where it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some space and resume") from None


def keep_rows(path: Path, steps: int) -> list[Metrics]:
    """The rows of finished steps. Rows of steps that no checkpoint has are dropped; they will be done again."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            if row["step"] <= steps:
                rows.append(row)
        except (ValueError, KeyError):
            continue  # a line cut off by a kill
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def memory_gb(device: torch.device) -> float:
    """The most memory that was taken so far: on a GPU by torch, else by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9
