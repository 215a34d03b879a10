"""Compare finished evaluations on the same problems, paired: how much better, could it be chance, where, at what price.

Most of what makes one accuracy uncertain is how hard the problems happen to be. Two runs over the same problems share
that, so problem by problem it cancels (Miller 2024, arXiv 2411.00640, section 4). Nothing is compared that is no pair:
other problems, other gold answers or other kinds of judge are refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from thinksmith.errors import UserError
from thinksmith.evaluate.comparing.labels import labels
from thinksmith.evaluate.statistics.power import Power, power_of
from thinksmith.evaluate.statistics.resample import bootstrap_difference
from thinksmith.evaluate.statistics.significance import holm, sign_flip_p
from thinksmith.evaluate.statistics.stats import Accuracy, Difference, Means, accuracy, differences_of, paired
from thinksmith.evaluate.summary import family_of
from thinksmith.records import Problem
from thinksmith.store.figures import STATUSES, Figures
from thinksmith.store.store import Run, Store, before_last

_KIND = "eval"
_RECENT = 200  # runs among which `last` is looked for
_KEYS = ("subject", "level", "type", "category", "difficulty", "topic")  # of a problem's meta
_MOST_GROUPS = 24  # of one key; with more it tells nothing
_LENGTHS_FROM = 30  # problems that are worth parting by length

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Side:
    """One run, over the problems that are compared. `tokens` (all that its strategy sampled), `thinking`, `seconds` and
    `cost` (US dollars, None: not known) are means an attempt; `counts` are attempts by verdict."""

    letter: str
    label: str
    run: Run
    accuracy: Accuracy
    counts: Mapping[str, int]
    tokens: float
    thinking: float
    seconds: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Amount:
    """A difference in tokens, seconds or dollars an attempt with its 95 % interval, and what it is from and to."""

    one: float
    other: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        return self.other - self.one

    @property
    def ratio(self) -> float | None:
        return self.other / self.one if self.one > 0 else None


@dataclass(frozen=True, slots=True)
class Gain:
    """The difference among the problems for which `key` (family, subject, level, length, …) is `value`."""

    key: str
    value: str
    difference: Difference


@dataclass(frozen=True, slots=True)
class Change:
    """A problem that one run solves more often than the other: the mean scores, and for each run the number in the
    store of an attempt that shows it (the best of the better one, the worst of the other) and what it answered."""

    problem: Problem
    scores: tuple[float, float]
    attempts: tuple[int, int]
    said: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Versus:
    """`sides[other]` against `sides[one]`; every difference is other - one.

    `bootstrap` is a second interval of the difference, resampled over problems. `difference.p` is the mid-p-value of
    `test`, `p_exact` the exact one, `p_holm` corrected for the number of comparisons. `won` and `lost` are all problems
    that changed, those that changed most first.
    """

    one: int
    other: int
    difference: Difference
    bootstrap: tuple[float, float]
    test: str
    p_exact: float
    p_holm: float
    power: Power
    tokens: Amount
    seconds: Amount
    cost: Amount | None
    gains: tuple[Gain, ...]
    won: tuple[Change, ...]
    lost: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs over the same `problems`. `dropped` problems only some of them have (0 unless that was asked for), for
    `unusable` ones some run has no verdict that counts. `notes` are sentences that a reader must not miss."""

    sides: tuple[Side, ...]
    versus: tuple[Versus, ...]
    problems: int
    dropped: int
    unusable: int
    notes: tuple[str, ...]


def compare(store: Store, names: Sequence[str], *, shared: bool = False, all_pairs: bool = False) -> Comparison:
    """Compare the first of the named runs with each other one, or each with each; `shared`: on the problems of all.

    UserError: fewer than two runs, one twice, one that is unknown, unfinished or no evaluation; problems that differ
    (unless `shared`), or differ in prompt, gold answer or kind under one id; verdicts of rules against a model's.
    """
    runs = [_find(store, name) for name in names]
    _check_runs(runs)
    figures = [store.figures(run.id) for run in runs]
    ids, dropped = _shared_problems(runs, figures, shared)
    _check_content(runs, figures, ids)
    _check_judges(store, runs, figures, ids)
    columns = [_Columns.of(each, ids) for each in figures]
    usable = np.all([each.n_P > 0 for each in columns], axis=0)
    if not usable.any():
        raise UserError("no problem has a verdict that counts in every run: there is nothing to compare")
    columns = [each.only(usable) for each in columns]
    problems = [figures[0].problems[at] for at in columns[0].places]
    named = labels(runs)
    sides = tuple(_side(at, run, named[at], each) for at, (run, each) in enumerate(zip(runs, columns, strict=True)))
    pairs = list(combinations(range(len(runs)), 2)) if all_pairs else [(0, at) for at in range(1, len(runs))]
    found = _corrected([_versus(pair, columns[pair[0]], columns[pair[1]], problems) for pair in pairs])
    notes = _notes(sides, found, columns)
    return Comparison(sides, found, len(problems), dropped, int((~usable).sum()), notes)


def _find(store: Store, name: str) -> Run:
    """The run of a name; `last` and `last-1` count evaluations alone."""
    before = before_last(name)
    if before is not None:
        recent = [run for run in store.runs(limit=_RECENT) if run.kind == _KIND]
        if before < len(recent):
            return recent[before]
    return store.run(name)


def _check_runs(runs: Sequence[Run]) -> None:
    if len(runs) < 2:
        raise UserError("a comparison needs at least two runs: thinksmith runs --kind eval lists them")
    twice, times = Counter(run.id for run in runs).most_common(1)[0]
    if times > 1:
        raise UserError(f"the run {twice} is named {times} times: name different runs")
    for run in runs:
        if run.kind != _KIND:
            raise UserError(f"{run.id} is no evaluation: thinksmith runs --kind eval lists those that can be compared")
        if run.finished is None:
            total = run.config.get("problems", 0) * run.config.get("samples", 1)
            done = f"{run.attempts:,} of {total:,} attempts" if total else f"{run.attempts:,} attempts"
            raise UserError(f"{run.id} is not finished ({done}): run its eval command again, which goes on with it")


def _shared_problems(runs: Sequence[Run], figures: Sequence[Figures], shared: bool) -> tuple[list[str], int]:
    """The ids of the problems that all runs have, and how many others there are."""
    sets = [{problem.id for problem in each.problems} for each in figures]
    common, everything = set.intersection(*sets), set.union(*sets)
    others = len(everything) - len(common)
    if not common:
        raise UserError(f"{runs[0].id} and the others share no problem: evaluate both on the same set")
    if others and not shared:
        counts = ", ".join(f"{len(own)} in {run.id}" for run, own in zip(runs, sets, strict=True))
        raise UserError(
            f"the runs' problems differ: {others} are not in every run, {len(common)} are ({counts}); "
            "--shared compares those"
        )
    return sorted(common), others


def _check_content(runs: Sequence[Run], figures: Sequence[Figures], ids: Sequence[str]) -> None:
    known = [{problem.id: problem for problem in each.problems} for each in figures]
    for run, own in zip(runs[1:], known[1:], strict=True):
        differing = [(name, what) for name in ids if (what := _differs(known[0][name], own[name]))]
        if differing:
            name, what = differing[0]
            more = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
            raise UserError(
                f"the problem {name} has another {what} in {run.id} than in {runs[0].id}{more}: "
                "evaluate both on the same problems"
            )


def _differs(one: Problem, other: Problem) -> str:
    if one.messages != other.messages:
        return "prompt"
    if one.answer != other.answer:
        return "gold answer"
    return "kind of answer" if one.kind != other.kind else ""


def _check_judges(store: Store, runs: Sequence[Run], figures: Sequence[Figures], ids: Sequence[str]) -> None:
    """A rule's verdict and a model's opinion are different measures, and so are those of two models."""
    by_rule, by_model = zip(*(_judged(each) for each in figures), strict=True)
    for run, ruled, opined in zip(runs[1:], by_rule[1:], by_model[1:], strict=True):
        mixed = ((by_model[0] & ruled) | (by_rule[0] & opined)) & set(ids)
        if mixed:
            first, second = (runs[0], run) if by_model[0] & ruled else (run, runs[0])
            raise UserError(
                f"{first.id} was judged by a model and {second.id} by rules ({len(mixed)} problems): "
                "judge both the same way"
            )
    judges = {run.id: store.judges(run.id) for run, opined in zip(runs, by_model, strict=True) if opined & set(ids)}
    if len(set(judges.values())) > 1:
        told = ", ".join(f"{run} by {' and '.join(names)}" for run, names in judges.items())
        raise UserError(f"the runs were judged by different models ({told}): judge all by the same")


def _judged(figures: Figures) -> tuple[set[str], set[str]]:
    """The problems with a verdict by rules, and those with one by a model."""
    decided = figures.of_status("correct") | figures.of_status("wrong")

    def having(mask: NDArray[np.bool_]) -> set[str]:
        return {figures.problems[at].id for at in np.unique(figures.problem_N[mask]).tolist()}

    return having(decided & ~figures.judged_N), having(figures.judged_N)


@dataclass(frozen=True, slots=True)
class _Columns:
    """A run's attempts that count, at P problems: `ids`, which are `places` in its figures; n attempts at each."""

    figures: Figures
    ids: tuple[str, ...]
    places: list[int]
    kept_N: NDArray[np.bool_]
    problem_N: Ints
    n_P: Ints

    @classmethod
    def of(cls, figures: Figures, ids: Sequence[str]) -> _Columns:
        place = {problem.id: at for at, problem in enumerate(figures.problems)}
        places = [place[name] for name in ids]
        new = np.full(len(figures.problems), -1)
        new[places] = np.arange(len(ids))
        problem_N = new[figures.problem_N]
        kept_N = figures.counted_N & (problem_N >= 0)
        return cls(figures, tuple(ids), places, kept_N, problem_N, np.bincount(problem_N[kept_N], minlength=len(ids)))

    def only(self, usable_P: NDArray[np.bool_]) -> _Columns:
        return _Columns.of(self.figures, [name for name, use in zip(self.ids, usable_P.tolist(), strict=True) if use])

    @property
    def means(self) -> Means:
        return Means.of(self.figures.score_N[self.kept_N], self.problem_N[self.kept_N], self.ids)

    def mean_of(self, value_N: Ints | Floats) -> Floats:
        """The mean of each problem's attempts: [P]."""
        sums = np.bincount(self.problem_N[self.kept_N], weights=value_N[self.kept_N], minlength=len(self.ids))
        return np.asarray(sums / self.n_P)

    def counts(self) -> dict[str, int]:
        shown = self.figures.status_N[self.problem_N >= 0]
        return {status: int((shown == at).sum()) for at, status in enumerate(STATUSES)}

    def example(self, problem: int, best: bool) -> tuple[int, str]:
        """The number and the answer of this problem's attempt with the highest or lowest score, the first of such."""
        place = self.places[problem]
        start, end = np.searchsorted(self.figures.problem_N, [place, place + 1])  # figures are in order of problems
        own = start + np.flatnonzero(self.kept_N[start:end])
        scores = self.figures.score_N[own]
        at = int(own[scores.argmax() if best else scores.argmin()])
        answer = int(self.figures.answer_N[at])
        return int(self.figures.ids_N[at]), self.figures.answers[answer] if answer >= 0 else ""


def _side(at: int, run: Run, label: str, columns: _Columns) -> Side:
    figures = columns.figures
    cost = float(columns.mean_of(figures.cost_N).mean())
    return Side(
        letter=_letter(at),
        label=label,
        run=run,
        accuracy=accuracy(columns.means),
        counts=columns.counts(),
        tokens=float(columns.mean_of(figures.spent_N).mean()),
        thinking=float(columns.mean_of(figures.thinking_N).mean()),
        seconds=float(columns.mean_of(figures.seconds_N).mean()),
        cost=cost if math.isfinite(cost) else None,
    )


def _letter(at: int) -> str:
    return chr(ord("A") + at) if at < 26 else f"R{at + 1}"


def _versus(pair: tuple[int, int], one: _Columns, other: _Columns, problems: Sequence[Problem]) -> Versus:
    before, after = one.means, other.means
    differences_P, _ = differences_of(before, after)
    found = paired(before, after)
    known = bool(np.isfinite([one.mean_of(one.figures.cost_N).sum(), other.mean_of(other.figures.cost_N).sum()]).all())
    changes = [_change(at, one, other, before, after, problems[at]) for at in _most_first(differences_P)]
    return Versus(
        *pair,
        difference=found,
        bootstrap=bootstrap_difference(differences_P, most=1.0),
        test="McNemar" if before.yes_no and after.yes_no else "sign flips",
        p_exact=sign_flip_p(differences_P, mid=False),
        p_holm=found.p,
        power=power_of(differences_P),
        tokens=_amount(one.mean_of(one.figures.spent_N), other.mean_of(other.figures.spent_N)),
        seconds=_amount(one.mean_of(one.figures.seconds_N), other.mean_of(other.figures.seconds_N)),
        cost=_amount(one.mean_of(one.figures.cost_N), other.mean_of(other.figures.cost_N)) if known else None,
        gains=_gains(problems, before, after),
        won=tuple(change for change in changes if change.scores[1] > change.scores[0]),
        lost=tuple(change for change in changes if change.scores[1] < change.scores[0]),
    )


def _corrected(found: Sequence[Versus]) -> tuple[Versus, ...]:
    corrected = holm([each.difference.p for each in found])
    return tuple(replace(each, p_holm=p) for each, p in zip(found, corrected, strict=True))


def _most_first(differences_P: Floats) -> list[int]:
    changed = np.flatnonzero(differences_P)
    order: list[int] = changed[np.argsort(-np.abs(differences_P[changed]), kind="stable")].tolist()
    return order


def _change(at: int, one: _Columns, other: _Columns, before: Means, after: Means, problem: Problem) -> Change:
    scores = float(before.mean_P[at]), float(after.mean_P[at])
    (first, said_first), (second, said_second) = (
        one.example(at, best=scores[0] > scores[1]),
        other.example(at, best=scores[1] > scores[0]),
    )
    return Change(problem, scores, (first, second), (said_first, said_second))


def _amount(one_P: Floats, other_P: Floats) -> Amount:
    return Amount(float(one_P.mean()), float(other_P.mean()), *bootstrap_difference(other_P - one_P))


def _gains(problems: Sequence[Problem], before: Means, after: Means) -> tuple[Gain, ...]:
    """The differences by whatever parts these problems: their family, keys of their meta, the length of the prompt."""
    gains = []
    for key, value_P in _parted(problems).items():
        for value in sorted(set(value_P), key=_natural):
            own = np.array([at for at, each in enumerate(value_P) if each == value])
            gains.append(Gain(key, value, paired(_some(before, own), _some(after, own))))
    return tuple(gains)


def _parted(problems: Sequence[Problem]) -> dict[str, list[str]]:
    found = {"family": [family_of(problem) for problem in problems]}
    for key in _KEYS:
        if all(problem.meta.get(key) not in (None, "") for problem in problems):
            found[key] = [str(problem.meta[key]) for problem in problems]
    if len(problems) >= _LENGTHS_FROM:
        lengths = np.array([len(problem.text) for problem in problems])
        short, long = (int(each) for each in np.quantile(lengths, (1 / 3, 2 / 3)))
        if lengths.min() <= short < long < lengths.max():
            names = (f"up to {short}", f"{short + 1} to {long}", f"over {long}")
            found["characters of the prompt"] = [names[(n > short) + (n > long)] for n in lengths.tolist()]
    return {key: values for key, values in found.items() if 2 <= len(set(values)) <= _MOST_GROUPS}


def _natural(text: str) -> tuple[int, str]:
    """`up to 80` before `81 to 120` before `over 120`, `level 9` before `level 10`."""
    first = next((int(word) for word in text.split() if word.isdecimal()), -1)
    return (first + 1 if text.startswith("over ") else first), text


def _some(means: Means, own: Ints) -> Means:
    return Means(tuple(means.ids[at] for at in own.tolist()), means.mean_P[own], means.attempts_P[own])


def _notes(sides: Sequence[Side], found: Sequence[Versus], columns: Sequence[_Columns]) -> tuple[str, ...]:
    notes = []
    sizes = {side.letter: side.accuracy.attempts / side.accuracy.problems for side in sides}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{letter} {size:g}" for letter, size in sizes.items())
        notes.append(f"attempts at each problem differ ({told}): a problem counts once all the same")
    for each in found:
        ahead, behind = sides[each.other], sides[each.one]
        if each.difference.mean < 0:
            ahead, behind = behind, ahead
        silent = behind.counts["truncated"] + behind.counts["no_answer"]
        share = silent / max(1, sum(behind.counts.values()))
        if share > 0 and share >= abs(each.difference.mean):
            notes.append(
                f"{share:.1%} of {behind.letter}'s attempts are truncated or without an answer: "
                f"were they solved, {behind.letter} could be ahead of {ahead.letter}"
            )
    return tuple(notes)
