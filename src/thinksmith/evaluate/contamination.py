"""Did the model learn from the problems that it is measured on? The training runs of the store tell.

A problem is found again by its id or by the text of its prompt (but for capitals and white space). Which training
runs a model comes of is told by the hash of its weights: a training measures the model that it made, under the name of
its folder, and that measurement has the hash; what it started from has one too, so the ancestors are followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from thinksmith.evaluate.by import accuracy_among
from thinksmith.evaluate.statistics.stats import Accuracy
from thinksmith.problems.wording import spaced
from thinksmith.store.attempts import prompt_from_json
from thinksmith.store.figures import Figures
from thinksmith.store.schema import attempts as attempts_table
from thinksmith.store.schema import problems as problems_table
from thinksmith.store.schema import runs as runs_table
from thinksmith.store.store import Store

TRAINING = ("grpo", "sft")
"""Kinds of runs whose attempts a model was trained on."""


@dataclass(frozen=True, slots=True)
class Contamination:
    """`problems` (ids) of an evaluation that occur in the training `runs`; `without` is the accuracy of the others
    (None: there are none). `known`: the model comes of these runs; else nobody can say."""

    problems: tuple[str, ...]
    of: int
    runs: tuple[str, ...]
    known: bool
    without: Accuracy | None

    def __str__(self) -> str:
        named = ", ".join(self.runs[:3]) + (", …" if len(self.runs) > 3 else "")
        where = (
            f"occur in the training that this model comes of ({named})"
            if self.known
            else f"occur in training runs of this store ({named}); whether this model learnt from those is not known"
        )
        rest = f"without them the accuracy is {self.without}" if self.without else "there are no others"
        return f"{len(self.problems):,} of {self.of:,} problems {where}: {rest}"


def contamination(store: Store, figures: Figures, weights_hash: str) -> Contamination | None:
    """Which problems occur in training runs; None where none does.

    Where the store knows which training runs the weights come of, those are looked through alone; else all but those
    that started from these very weights.
    """
    runs = _runs(store)
    trained = [run for run in runs if run.kind in TRAINING]
    ancestors = _ancestors(runs, weights_hash)
    asked = ancestors or {run.id for run in trained if not weights_hash or run.weights_hash != weights_hash}
    found: set[str] = set()
    guilty = []
    for run_id in sorted(asked):
        ids, texts = _trained_on(store, run_id)
        shared = {each.id for each in figures.problems if each.id in ids or spaced(each.text) in texts}
        found |= shared
        guilty += [run_id] if shared else []
    if not found:
        return None
    clean_P = np.array([problem.id not in found for problem in figures.problems], dtype=np.bool_)
    without = accuracy_among(figures, clean_P[figures.problem_N])
    return Contamination(tuple(sorted(found)), len(figures.problems), tuple(guilty), bool(ancestors), without)


@dataclass(frozen=True, slots=True)
class _Run:
    id: str
    kind: str
    name: str
    weights_hash: str
    folder: str


def _runs(store: Store) -> list[_Run]:
    column = runs_table.c
    query = select(column.id, column.kind, column.name, column.weights_hash, column.config)
    with store.reading() as connection:
        rows = connection.execute(query.where(column.kind.in_([*TRAINING, "eval"]))).all()
    return [
        _Run(row.id, row.kind, row.name, row.weights_hash, str(json.loads(row.config).get("folder", "")))
        for row in rows
    ]


def _ancestors(runs: Collection[_Run], weights_hash: str) -> set[str]:
    """The training runs that weights come of, directly or through others."""
    found: set[str] = set()
    asked = [weights_hash] if weights_hash else []
    while asked:
        made_in = {_folder(run.name) for run in runs if run.kind == "eval" and run.weights_hash == asked[-1]} - {""}
        started = asked.pop()
        for run in runs:
            new = run.kind in TRAINING and run.folder in made_in and run.id not in found
            if new and run.weights_hash != started:
                found.add(run.id)
                asked.append(run.weights_hash)
    return found


def _folder(name: str) -> str:
    """The folder of the training whose model an evaluation of this name measured; "" for any other."""
    match = re.search(r" (?:after|step \d+) (\S.*)$", name)
    return match[1] if match else ""


def _trained_on(store: Store, run_id: str) -> tuple[set[str], set[str]]:
    """Ids and texts of a run's problems."""
    column, problem = attempts_table.c, problems_table.c
    hashes = select(column.problem_hash).where(column.run_id == run_id).distinct()
    with store.reading() as connection:
        rows = connection.execute(select(problem.problem_id, problem.prompt).where(problem.hash.in_(hashes))).all()
    texts = (prompt_from_json(json.loads(row.prompt)) for row in rows)
    return (
        {row.problem_id for row in rows},
        {spaced(text if isinstance(text, str) else "\n\n".join(each["content"] for each in text)) for text in texts},
    )
