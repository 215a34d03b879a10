"""What a set of attempts amounts to: an accuracy that never stands alone, what it took, and how the model thought.

Everything is made from columns of numbers (`store/figures.py`), so a million attempts are summed up in seconds; only
the habits of thought need the traces, and are told of some of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from thinksmith.errors import UserError
from thinksmith.evaluate.acted import Acted, acted, deeds_in, deeds_of, notes_of
from thinksmith.evaluate.by import (
    Groups,
    Mask,
    accuracy_among,
    at_k,
    by_family,
    by_length,
    by_meta,
    family_of,
    means_of,
)
from thinksmith.evaluate.statistics.measures import AtK
from thinksmith.evaluate.statistics.power import detectable
from thinksmith.evaluate.statistics.stats import Accuracy
from thinksmith.records import Attempt
from thinksmith.store.figures import STATUSES, Figures, Floats, Ints, figures_of
from thinksmith.store.store import Store
from thinksmith.verify.verdict import JUDGED

__all__ = [
    "MOST_AUDITED",
    "Habits",
    "Lengths",
    "Summary",
    "family_of",
    "habits_of",
    "scores_by_problem",
    "summarise",
    "summarise_figures",
    "summarise_run",
]

MOST_AUDITED = 2000  # attempts whose traces are read for the habits
TOKENS_AUDITED = 60_000


@dataclass(frozen=True, slots=True)
class Lengths:
    """Something per attempt: tokens, or seconds."""

    mean: float
    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Habits:
    """How the model thought, by the audit of `audited` attempts. Shares are 0..1 of them; `true_share` is the mean
    share of true equations over the attempts that state any (None: none does)."""

    audited: int
    check_share: float
    backtrack_share: float
    loop_share: float
    true_share: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """An evaluation in figures.

    `counts` has the number of attempts per verdict status, `families` the accuracy per problem family, `by` that by
    what else parts the problems (subject, level, …) and by length. `check_share`, `backtrack_share` and `loop_share`
    (0..1) are shares of the `audited` attempts with a self-check, a backtrack or a repetition in their thinking,
    `true_share` is the mean share of true equations over those that state any (None: none does). `tokens_per_s`
    counts sampled tokens over the wall time of the run (None: not measured).

    Per attempt: `thinking_tokens` and `answer_tokens` of the trace that was judged, `spent_tokens` of all that a
    strategy sampled for it, `seconds` of the trace that was judged. `cost` is in US dollars, of all attempts whose cost
    is known, `priced` how many those are.

    `at_k` are pass@k, pass^k and maj@k over `at_k_problems` problems. `detectable` is the smallest difference (0..1)
    from another run on the same problems that is told with 80 % chance, were the two runs no more alike than chance
    (None: none is); a paired comparison tells smaller ones.

    `judges` are the models that gave verdicts, `rule` and `judged` the accuracies by rules and by judges (None: by
    none). Opinions and rules are different measures: where there are both, `line` tells them apart. `acted` is what
    agents did (None: it is no evaluation of agents).
    """

    accuracy: Accuracy
    counts: Mapping[str, int]
    families: Mapping[str, Accuracy]
    thinking_tokens: Lengths
    check_share: float
    backtrack_share: float
    true_share: float | None
    tokens_per_s: float | None = None
    judges: tuple[str, ...] = ()
    rule: Accuracy | None = None
    judged: Accuracy | None = None
    by: Groups = field(default_factory=dict)
    answer_tokens: Lengths = Lengths(0, 0, 0)
    spent_tokens: Lengths = Lengths(0, 0, 0)
    seconds: Lengths | None = None
    cost: float | None = None
    priced: int = 0
    traces: float = 1.0
    loop_share: float = 0.0
    audited: int = 0
    at_k: tuple[AtK, ...] = ()
    at_k_problems: int = 0
    detectable: float | None = None
    acted: Acted | None = None

    @property
    def line(self) -> str:
        """One line for people: the accuracy, beside it what was not answered, and whose opinion it is."""
        beside = [f"{self.counts.get(key, 0)} {key.replace('_', ' ')}" for key in ("truncated", "no_answer")]
        rest = [f"{count} {key.replace('_', ' ')}" for key, count in self.counts.items() if key in _BROKEN and count]
        return f"{self.accuracy}; " + ", ".join(beside + rest) + self._sources

    @property
    def judged_by(self) -> str:
        """For people: "judged by NAME", or "" where rules alone decided."""
        return f"judged by {', '.join(self.judges) or 'a model'}" if self.judged else ""

    @property
    def _sources(self) -> str:
        if not self.judged:
            return ""
        return f"; {self.judged_by}" if not self.rule else f"; by rules {self.rule}, {self.judged_by} {self.judged}"


_BROKEN = ("timeout", "bad_gold", "error")


def scores_by_problem(attempts: Iterable[Attempt]) -> dict[str, list[float]]:
    """Problem id → scores of its attempts, for `accuracy` and `paired`.

    An attempt without a usable gold answer (`bad_gold`), or at which a verifier or a judge of ours failed, says nothing
    about the model and is left out. All others count: truncated and unanswered ones, and those of an engine that
    failed, with their score, which is 0.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for attempt in attempts:
        if not _says_nothing(attempt):
            scores[attempt.problem.id].append(attempt.verdict.score)
    return dict(scores)


def _says_nothing(attempt: Attempt) -> bool:
    status = attempt.verdict.status
    return status == "bad_gold" or (status == "error" and attempt.trace.finish != "error")


def summarise(attempts: Iterable[Attempt], *, tokens_per_s: float | None = None) -> Summary:
    """The summary of attempts in memory. UserError when none of them can be verified."""
    made = sorted(attempts, key=lambda each: (each.problem.id, each.sample))  # the order of their figures
    figures = figures_of(made)
    if not figures.counted_N.any():
        raise UserError(f"nothing to sum up: no attempt could be verified{_first_reason(made)}")
    return summarise_figures(
        figures,
        habits_of(made[at] for at in drawn(figures)),
        judges=tuple(sorted({attempt.verdict.judge for attempt in made} - {""})),
        tokens_per_s=tokens_per_s,
        acted=acted(figures, deeds_of(notes_of(made))),
    )


def summarise_run(store: Store, run_id: str, figures: Figures | None = None) -> Summary:
    """The summary of a run in the store, of a million attempts in seconds. UserError when none can be verified."""
    run = store.run(run_id)
    figures = store.figures(run.id) if figures is None else figures
    some = figures.ids_N[drawn(figures)].tolist()
    return summarise_figures(
        figures,
        habits_of(stored.attempt for stored in store.read(some)),
        judges=store.judges(run.id) if figures.judged_N.any() else (),
        tokens_per_s=run.summary.get("tokens_per_s"),
        acted=acted(figures, deeds_in(store, figures)),
    )


def drawn(figures: Figures) -> Ints:
    """Which attempts are looked at: all of a small run; of others some drawn with a fixed seed, for an audit reads
    about 100,000 characters a second. At most `MOST_AUDITED`, with about `TOKENS_AUDITED` tokens, and at least 50."""
    count = len(figures)
    some = np.random.default_rng(0).permutation(count)[:MOST_AUDITED]
    fit = int(np.searchsorted(np.cumsum(figures.tokens_N[some]), TOKENS_AUDITED, side="right"))
    return np.sort(some[: max(50, fit)])


def habits_of(attempts: Iterable[Attempt]) -> Habits:
    """The habits of thought of these attempts."""
    from thinksmith.audit.audit import audit  # heavy, and wanted only here

    audits = [audit(attempt.trace, attempt.problem) for attempt in attempts]
    shares = [each.share_true for each in audits if each.share_true is not None]

    def share_of(has: Iterable[bool]) -> float:
        return sum(has) / len(audits) if audits else 0.0

    return Habits(
        audited=len(audits),
        check_share=share_of(each.has_check for each in audits),
        backtrack_share=share_of(each.has_backtrack for each in audits),
        loop_share=share_of(each.loop is not None for each in audits),
        true_share=sum(shares) / len(shares) if shares else None,
    )


def summarise_figures(
    figures: Figures,
    habits: Habits,
    *,
    judges: Sequence[str] = (),
    tokens_per_s: float | None = None,
    acted: Acted | None = None,
) -> Summary:
    """The summary of a run's columns. UserError when no attempt can be verified."""
    means = means_of(figures)
    if means is None:
        raise UserError("nothing to sum up: no attempt could be verified")
    opinion_N = _is_opinion(figures)
    present, first, counts = np.unique(figures.status_N, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts)).tolist()  # the most frequent first
    measured, of = at_k(figures)
    known = ~np.isnan(figures.cost_N)
    overall = accuracy_among(figures)
    assert overall is not None
    return Summary(
        accuracy=overall,
        counts={STATUSES[present[at]]: int(counts[at]) for at in order},
        families=by_family(figures),
        thinking_tokens=_lengths(figures.thinking_N),
        check_share=habits.check_share,
        backtrack_share=habits.backtrack_share,
        true_share=habits.true_share,
        tokens_per_s=tokens_per_s,
        judges=tuple(judges),
        rule=accuracy_among(figures, ~opinion_N),
        judged=accuracy_among(figures, opinion_N),
        by={**by_meta(figures), "length": by_length(figures)},
        answer_tokens=_lengths(figures.reply_N),
        spent_tokens=_lengths(figures.spent_N),
        seconds=_seconds(figures.seconds_N),
        cost=float(figures.cost_N[known].sum()) if known.any() else None,
        priced=int(known.sum()),
        traces=float(figures.traces_N.mean()),
        loop_share=habits.loop_share,
        audited=habits.audited,
        at_k=measured,
        at_k_problems=of,
        detectable=_detectable(means.mean_P),
        acted=acted,
    )


def _is_opinion(figures: Figures) -> Mask:
    """Also what no judge was asked about, such as a truncated attempt, where only a judge could have decided."""
    for_judges_P = np.array([problem.kind == JUDGED for problem in figures.problems], dtype=np.bool_)
    mask: Mask = figures.judged_N | for_judges_P[figures.problem_N]
    return mask


def _lengths(values: Ints | Floats) -> Lengths:
    middle, high = np.quantile(values, (0.5, 0.95))
    return Lengths(float(values.mean()), float(middle), float(high))


def _seconds(seconds_N: Floats) -> Lengths | None:
    """None where no attempt tells how long it took: recorded ones need not."""
    told = seconds_N[np.isfinite(seconds_N) & (seconds_N > 0)]
    return _lengths(told) if len(told) else None


def _detectable(mean_P: Floats) -> float | None:
    """Two runs whose problem means do not depend on each other differ with twice the variance of one; half a win and
    half a loss are added, as in `power.spread`."""
    problems = len(mean_P)
    return detectable(problems, (2 * float(mean_P.var()) * problems + 1) / (problems + 2))


def _first_reason(attempts: Iterable[Attempt]) -> str:
    reason = next((attempt.verdict.reason for attempt in attempts if attempt.verdict.reason), "")
    return f" (the first: {reason})" if reason else ""
