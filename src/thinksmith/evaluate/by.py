"""Accuracies of parts of a run: by family, subject, level and length of thinking; and the measures over k attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinksmith.evaluate.statistics.measures import AtK, answer_classes, measures
from thinksmith.evaluate.statistics.stats import Accuracy, Means, accuracy, share
from thinksmith.records import Problem
from thinksmith.store.figures import Figures, Ints
from thinksmith.verify.verdict import TASK

META = ("subject", "level", "difficulty", "topic", "category", "type")
"""What of a problem's `meta` is looked at, where it is given."""

MOST_GROUPS = 40  # of one kind: what has more different values is no classification
MOST_ATTEMPTS = 50_000  # that measures over k attempts are resampled from
MOST_PAIRS = 10_000  # of different answers to a problem, which a verifier may have to compare for maj@k

Mask = NDArray[np.bool_]


def family_of(problem: Problem) -> str:
    """`meta["family"]` where it is given, else what stands before the first slash of the id."""
    return str(problem.meta.get("family") or problem.id.split("/", 1)[0])


def means_of(figures: Figures, among_N: Mask | None = None) -> Means | None:
    """The mean score of each problem over its attempts that count, of `among_N` only; None when there is none."""
    kept = figures.counted_N if among_N is None else figures.counted_N & among_N
    if not kept.any():
        return None
    ids = [problem.id for problem in figures.problems]
    return Means.of(figures.score_N[kept], figures.problem_N[kept], ids)


def accuracy_among(figures: Figures, among_N: Mask | None = None) -> Accuracy | None:
    """The accuracy of the attempts that count, of `among_N` only; None when there is none."""
    means = means_of(figures, among_N)
    return None if means is None else accuracy(means)


def by_family(figures: Figures) -> dict[str, Accuracy]:
    return _by(figures, family_of)


def by_meta(figures: Figures) -> dict[str, dict[str, Accuracy]]:
    """By each of `META` that the problems have: more than one value, and not too many. Problems without it are left
    out."""
    found = {}
    for key in META:
        given = {problem.meta.get(key) for problem in figures.problems if _plain(problem.meta.get(key))}
        if 1 < len(given) <= MOST_GROUPS:
            groups = _by(figures, lambda problem, key=key: _label(problem.meta.get(key)))  # type: ignore[misc]
            if len(groups) > 1:
                found[key] = groups
    return found


def by_length(figures: Figures) -> dict[str, Accuracy]:
    """By the quarters of the attempts, from the least to the most thinking tokens; fewer where many think equally
    long."""
    if not len(figures):
        return {}
    edges = np.unique(np.quantile(figures.thinking_N, (0.25, 0.5, 0.75), method="lower").astype(np.int64))
    part_N = np.searchsorted(edges, figures.thinking_N)  # part i holds edges[i-1] < length <= edges[i]
    found = {}
    for part in np.unique(part_N).tolist():
        among = part_N == part
        lengths, value = figures.thinking_N[among], accuracy_among(figures, among)
        if value:
            found[f"{lengths.min():,} to {lengths.max():,} tokens"] = value
    return found


def at_k(figures: Figures) -> tuple[tuple[AtK, ...], int]:
    """pass@k, pass^k and maj@k for k = 1, 2, 4, … up to the attempts that half of the problems have, and how many
    problems they are of.

    Comparing the answers with each other takes longest, so of a big run some problems are drawn, with a fixed seed.
    Empty where problems have one attempt; without maj@k of tasks.
    """
    counts_P = np.bincount(figures.problem_N[figures.counted_N], minlength=len(figures.problems))
    has = np.flatnonzero(counts_P)
    most = int(np.median(counts_P[has])) if len(has) else 0
    if most < 2:
        return (), 0
    some = np.random.default_rng(0).permutation(has)
    attempts, pairs = np.cumsum(counts_P[some]), np.cumsum(_different(figures)[some] ** 2)
    fit = np.count_nonzero((attempts <= MOST_ATTEMPTS) & (pairs <= MOST_PAIRS))
    has = np.sort(some[: max(2, fit)])
    part = of_problems(figures, has)
    ks = sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})
    found = measures(part, ks, class_N=answer_classes(part))
    # Tasks of agents are judged by what was done: there is nothing to vote on.
    without = ("avg", "maj") if all(problem.kind == TASK for problem in part.problems) else ("avg",)
    return tuple(each for each in found if not each.name.startswith(without)), len(has)


def _different(figures: Figures) -> Ints:
    """How many different answers each problem has, as texts."""
    keys = np.unique(figures.problem_N * (len(figures.answers) + 1) + figures.answer_N + 1)
    return np.bincount(keys // (len(figures.answers) + 1), minlength=len(figures.problems))


def of_problems(figures: Figures, chosen: Ints) -> Figures:
    """The attempts at these problems (indices, ascending) alone."""
    place = np.full(len(figures.problems), -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    among = place[figures.problem_N] >= 0
    columns: dict[str, Any] = {
        field.name: getattr(figures, field.name)[among] for field in fields(Figures) if field.name.endswith("_N")
    }
    columns["problem_N"] = place[columns["problem_N"]]
    return replace(figures, problems=tuple(figures.problems[at] for at in chosen), **columns)


def _by(figures: Figures, label_of: Callable[[Problem], str]) -> dict[str, Accuracy]:
    means = means_of(figures)
    if means is None:
        return {}
    known = {problem.id: problem for problem in figures.problems}
    labels = np.array([label_of(known[name]) for name in means.ids], dtype=object)
    found = {}
    for label in sorted(set(labels) - {""}, key=_in_order):
        among = labels == label
        found[str(label)] = share(means.mean_P[among], int(means.attempts_P[among].sum()))
    return found


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _label(value: Any) -> str:
    return str(value) if _plain(value) else ""


def _in_order(label: str) -> tuple[float, str]:
    """Numbers by size, then texts."""
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label


Groups = Mapping[str, Mapping[str, Accuracy]]
"""What attempts were parted by → the accuracy of each part."""
