"""What a set of attempts amounts to: an accuracy that never stands alone, and how the model thought."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from thinksmith.errors import UserError
from thinksmith.evaluate.stats import Accuracy, accuracy
from thinksmith.records import Attempt, Problem
from thinksmith.verify.verdict import JUDGED


@dataclass(frozen=True, slots=True)
class Lengths:
    """Thinking tokens per attempt."""

    mean: float
    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Summary:
    """An evaluation in figures.

    `counts` has the number of attempts per verdict status, `families` the accuracy per problem family. `check_share`
    and `backtrack_share` (0..1) are shares of the attempts with a self-check or a backtrack in their thinking,
    `true_share` is the mean share of true equations over the attempts that state any (None: none does). `tokens_per_s`
    counts sampled tokens over the wall time of the run (None: not measured).

    `judges` are the models that gave verdicts, `rule` and `judged` the accuracies by rules and by judges (None: by
    none). Opinions and rules are different measures: where there are both, `line` tells them apart.
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


def family_of(problem: Problem) -> str:
    """`meta["family"]` where it is given, else what stands before the first slash of the id."""
    return str(problem.meta.get("family") or problem.id.split("/", 1)[0])


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
    """The summary of attempts. UserError when none of them can be verified."""
    from thinksmith.audit.audit import audit  # heavy, and wanted only here

    attempts = list(attempts)
    scored = scores_by_problem(attempts)
    if not scored:
        raise UserError(f"nothing to sum up: no attempt could be verified{_first_reason(attempts)}")
    audits = [audit(attempt.trace, attempt.problem) for attempt in attempts]
    shares = [each.share_true for each in audits if each.share_true is not None]
    opinions, ruled = _parted(_is_opinion, attempts)
    tokens = np.array([attempt.trace.thinking_tokens for attempt in attempts], dtype=float)
    return Summary(
        accuracy=accuracy(scored),
        counts=dict(Counter(attempt.verdict.status for attempt in attempts).most_common()),
        families=_by(family_of, attempts),
        thinking_tokens=Lengths(float(tokens.mean()), float(np.median(tokens)), float(np.quantile(tokens, 0.95))),
        check_share=sum(each.has_check for each in audits) / len(audits),
        backtrack_share=sum(each.has_backtrack for each in audits) / len(audits),
        true_share=sum(shares) / len(shares) if shares else None,
        tokens_per_s=tokens_per_s,
        judges=tuple(sorted({attempt.verdict.judge for attempt in opinions} - {""})),
        rule=_accuracy(ruled),
        judged=_accuracy(opinions),
    )


def _is_opinion(attempt: Attempt) -> bool:
    """Also what no judge was asked about, such as a truncated attempt, where only a judge could have decided."""
    return bool(attempt.verdict.judge) or attempt.problem.kind == JUDGED


def _parted(of: Callable[[Attempt], bool], attempts: Iterable[Attempt]) -> tuple[list[Attempt], list[Attempt]]:
    """Those of which it is true, and the others."""
    parts: tuple[list[Attempt], list[Attempt]] = ([], [])
    for attempt in attempts:
        parts[not of(attempt)].append(attempt)
    return parts


def _accuracy(attempts: Iterable[Attempt]) -> Accuracy | None:
    scored = scores_by_problem(attempts)
    return accuracy(scored) if scored else None


def _first_reason(attempts: Iterable[Attempt]) -> str:
    reason = next((attempt.verdict.reason for attempt in attempts if attempt.verdict.reason), "")
    return f" (the first: {reason})" if reason else ""


def _by(key: Callable[[Problem], str], attempts: Iterable[Attempt]) -> dict[str, Accuracy]:
    groups: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        groups[key(attempt.problem)].append(attempt)
    scored = {name: scores_by_problem(group) for name, group in sorted(groups.items())}
    return {name: accuracy(scores) for name, scores in scored.items() if scores}
