"""The lists of a report: its problems, and its attempts by number, so that figures lead to what they are made of."""

from __future__ import annotations

import numpy as np

from thinksmith.evaluate.acted import Deeds, by_task
from thinksmith.evaluate.report import Link, Table
from thinksmith.store.figures import STATUSES, Figures, Ints

MOST_PROBLEMS = 1000
MOST_ATTEMPTS = 2000
_MARKS = 24  # attempts of a problem that its row shows
_SHORT = 80  # characters of a problem or an answer
_SIGNS = {"correct": "✓", "wrong": "✗", "truncated": "…", "no_answer": "–"}


def shown_attempts(figures: Figures) -> Ints:
    """Which attempts a page lists: all, or equally many of each verdict as far as there are, in the order of verdicts,
    then of problems."""
    present = [np.flatnonzero(figures.status_N == at) for at in range(len(STATUSES))]
    left, share = MOST_ATTEMPTS, {}
    smallest_first = sorted((len(some), at) for at, some in enumerate(present) if len(some))
    for waiting, (size, at) in enumerate(smallest_first):
        share[at] = min(size, left // (len(smallest_first) - waiting))
        left -= share[at]
    return np.concatenate([present[at][: share[at]] for at in sorted(share)] or [np.zeros(0, dtype=np.int64)])


def problem_table(figures: Figures, shown: Ints) -> Table:
    """The problems, the least solved first: how often each was solved, its tokens, and a mark for each attempt."""
    counts_P = np.bincount(figures.problem_N, minlength=len(figures.problems))
    right_P = np.bincount(figures.problem_N, weights=figures.of_status("correct"), minlength=len(figures.problems))
    with np.errstate(invalid="ignore"):
        share_P = right_P / counts_P
        tokens_P = np.bincount(figures.problem_N, weights=figures.spent_N, minlength=len(figures.problems)) / counts_P
    first_P = np.concatenate([[0], np.cumsum(counts_P)])  # figures stand in the order of problems
    order = [at for at in np.argsort(share_P, kind="stable").tolist() if counts_P[at]]
    listed = set(shown.tolist())
    rows = []
    for at in order[:MOST_PROBLEMS]:
        problem = figures.problems[at]
        own = range(first_P[at], first_P[at + 1])
        marks = tuple(_mark(figures, place, place in listed) for place in own[:_MARKS])
        rows.append(
            (
                Link(problem.id, value=problem.id),
                Link(_short(problem.text), value=problem.text[:_SHORT]),
                Link(_short(problem.answer or "–"), value=problem.answer or ""),
                Link(f"{right_P[at]:.0f} of {counts_P[at]}", value=f"{share_P[at]:.6f}"),
                Link(f"{tokens_P[at]:,.0f}", value=f"{tokens_P[at]:.2f}"),
                marks + ((Link(f"+{len(own) - _MARKS}"),) if len(own) > _MARKS else ()),
            )
        )
    cut = (
        f"{MOST_PROBLEMS:,} of {len(order):,} problems, the least solved first. " if len(order) > MOST_PROBLEMS else ""
    )
    columns = ("problem", "text", "gold", "solved", "tokens, mean", "attempts")
    return Table("Problems", columns, tuple(rows), f"{cut}A click on a heading sorts.", sortable=True)


def task_table(figures: Figures, deeds: Deeds) -> Table:
    """The tasks of agents, the least solved first: how often each was solved, and what it took in the mean."""
    counts_P = np.bincount(figures.problem_N, minlength=len(figures.problems))
    right_P = np.bincount(figures.problem_N, weights=figures.of_status("correct"), minlength=len(figures.problems))
    share_P = by_task(figures, figures.of_status("correct").astype(np.float64))
    means = {name: by_task(figures, deeds.counts_N[name]) for name in ("steps", "calls", "failed")}
    means["tokens"] = by_task(figures, figures.spent_N.astype(np.float64))
    rows = []
    for at in [at for at in np.argsort(share_P, kind="stable").tolist() if counts_P[at]][:MOST_PROBLEMS]:
        problem = figures.problems[at]
        name, level = str(problem.meta.get("task") or problem.id), str(problem.meta.get("level", "–"))
        rows.append(
            (
                Link(_short(name), value=name),
                Link(_short(level), value=level),
                Link(f"{right_P[at]:.0f} of {counts_P[at]}", value=f"{share_P[at]:.6f}"),
                *(
                    Link(f"{each[at]:,.0f}" if key == "tokens" else f"{each[at]:,.1f}", value=f"{each[at]:.2f}")
                    for key, each in means.items()
                ),
            )
        )
    columns = ("task", "level", "solved", "steps", "calls", "failed calls", "tokens")
    return Table("Tasks", columns, tuple(rows), "Means over the attempts at each task.", sortable=True)


def attempt_table(figures: Figures, shown: Ints, traces: set[int], run: str) -> Table:
    """The attempts by number, those of a verdict together."""
    rows, anchors = [], []
    for place in shown.tolist():
        number, problem = int(figures.ids_N[place]), figures.problems[figures.problem_N[place]]
        status, answer = STATUSES[figures.status_N[place]], int(figures.answer_N[place])
        said = figures.answers[answer] if answer >= 0 else "–"
        seconds = figures.seconds_N[place]
        rows.append(
            (
                Link(str(number), f"#trace-{number}" if number in traces else "", value=str(number)),
                Link(status.replace("_", " "), mark=status, value=status),
                Link(problem.id, value=problem.id),
                Link(_short(said), value=said[:_SHORT]),
                Link(_short(problem.answer or "–"), value=(problem.answer or "")[:_SHORT]),
                Link(f"{figures.spent_N[place]:,}", value=str(figures.spent_N[place])),
                Link(f"{seconds:.2f}" if np.isfinite(seconds) else "–", value=f"{seconds:.4f}"),
            )
        )
        anchors.append(f"attempt-{number}")
    cut = f"{len(shown):,} of {len(figures):,} attempts, some of each verdict. " if len(shown) < len(figures) else ""
    note = f"{cut}A trace is read with thinksmith traces {run} --problem ID --full."
    columns = ("attempt", "verdict", "problem", "answer", "gold", "tokens", "seconds")
    return Table("Attempts", columns, tuple(rows), note, sortable=True, anchors=tuple(anchors))


def _mark(figures: Figures, place: int, listed: bool) -> Link:
    status = STATUSES[figures.status_N[place]]
    return Link(_SIGNS.get(status, "!"), f"#attempt-{figures.ids_N[place]}" if listed else "", status)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "…"
