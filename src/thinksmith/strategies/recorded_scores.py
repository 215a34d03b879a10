"""Scores that were recorded beside traces: a reward model's, say, looked up when the traces are replayed.

A file of responses (as `replay/FILE` takes it) with a column of scores, one for each response of the row; or an export
of attempts whose notes have a score. A trace is found by its problem's text and its own text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinksmith.errors import UserError
from thinksmith.records import Problem, Trace

if TYPE_CHECKING:
    from thinksmith.strategies.scorers import Scorer

COLUMNS = ("reward_model_scores", "reward_model_score", "rewards", "reward", "scores", "score")
"""Columns, and keys of an attempt's notes, that are taken for the score, in this order."""

Key = tuple[str, str, str]


def recorded_scores(file: str) -> Scorer:
    """The scorer of a file. It raises UserError if there are no scores in it, or none of a trace that is asked for."""

    async def score(problem: Problem, traces: Sequence[Trace]) -> list[float]:
        path = Path(file.partition(":")[0]).expanduser()
        known = _read(file, path.stat().st_mtime_ns if path.exists() else 0)
        try:
            return [known[_key(problem, trace)] for trace in traces]
        except KeyError:
            about = " ".join(problem.text.split())[:60]
            raise UserError(
                f"{file} has no score of this trace of {about!r}: replay the attempts that were scored"
            ) from None

    return score


@lru_cache(maxsize=4)
def _read(file: str, changed: int) -> Mapping[Key, float]:
    """The scores by problem and text; `changed` makes a file that was written anew another one."""
    from thinksmith.problems.recorded import read_recorded
    from thinksmith.problems.rows import read_rows
    from thinksmith.problems.spec import parse_spec

    source = parse_spec(file).source
    rows = {row.number: row.values for row in read_rows(Path(source).expanduser(), source)}
    scores = {number: list(_scores(values)) for number, values in rows.items()}
    if not any(scores.values()):
        raise UserError(f"{source} has no column of scores: it needs one of {', '.join(COLUMNS)}")
    found: dict[Key, float] = {}
    for each in read_recorded(file):
        of_row = scores[int(each.where.rpartition(":")[2])]
        at = each.sample if len(of_row) > 1 else 0  # an export has one attempt a row, whatever its number
        if at < len(of_row):
            found.setdefault(_key(each.problem, each.trace), of_row[at])
    return found


def _scores(values: Mapping[str, Any]) -> Iterator[float]:
    notes = values.get("notes") or {}
    if isinstance(notes, str):
        notes = json.loads(notes)
    said = next((place[name] for place in (values, notes) for name in COLUMNS if name in place), ())
    for each in said if isinstance(said, list) else [said] if said != () else ():
        if isinstance(each, int | float):
            yield float(each)


def _key(problem: Problem, trace: Trace) -> Key:
    return problem.text.strip(), trace.thinking, trace.answer
