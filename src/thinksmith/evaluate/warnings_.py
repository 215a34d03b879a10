"""What a reader of an evaluation must know before believing it: plain sentences, none where all is well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from thinksmith.evaluate.by import Mask, means_of
from thinksmith.evaluate.cards import greedy_forbidden
from thinksmith.evaluate.contamination import Contamination
from thinksmith.evaluate.summary import Summary
from thinksmith.records import Sampling
from thinksmith.store.figures import Figures

COARSE = 0.1  # a difference that small should be told, 0..1
MANY_LOOPS = 0.05  # share of the audited attempts
_UNFINISHED = ("truncated", "no_answer")


def warnings_of(
    figures: Figures,
    summary: Summary,
    *,
    model: str = "",
    sampling: Mapping[str, Any] | None = None,
    advised: Sampling | None = None,
    contaminated: Contamination | None = None,
) -> tuple[str, ...]:
    """The warnings of an evaluation. `sampling` are the settings of the run, as its configuration has them; `advised`
    what the model's makers advise, where its engine is at hand."""
    found = [
        _ranking(figures, summary),
        _coarse(summary),
        _greedy(model, sampling or {}, advised),
        _loops(summary),
        _failures(figures),
        _left_out(figures),
        f"{contaminated}." if contaminated else "",
    ]
    return tuple(sentence for sentence in found if sentence)


def _ranking(figures: Figures, summary: Summary) -> str:
    """What was cut off or not understood might all have been right: does that reach beyond the interval?"""
    unknown = figures.of_status("truncated") | figures.of_status("no_answer")
    means = means_of(figures)
    best = means_of(_with_scores(figures, unknown, 1.0))
    if means is None or best is None:
        return ""
    low, high = float(means.mean_P.mean()), float(best.mean_P.mean())
    if high - low <= summary.accuracy.high - summary.accuracy.low:
        return ""
    shares = [f"{summary.counts.get(name, 0) / len(figures):.1%} {_WORDS[name]}" for name in _UNFINISHED]
    return (
        f"Of the attempts {shares[0]} and {shares[1]}: were all of those right, the accuracy would be {high:.1%} and "
        f"not {low:.1%}, which is more than the interval is wide. Against another model that could change which is "
        "better: allow more tokens (--max-tokens), and look at what was not understood."
    )


_WORDS = {"truncated": "were cut off", "no_answer": "gave no answer that could be read"}


def _with_scores(figures: Figures, among_N: Mask, score: float) -> Figures:
    return replace(figures, score_N=np.where(among_N, score, figures.score_N))


def _coarse(summary: Summary) -> str:
    problems = summary.accuracy.problems
    if summary.detectable is None:
        return f"{problems:,} problems are too few to tell any difference from another run; take more (-n)."
    if summary.detectable <= COARSE:
        return ""
    return (
        f"With {problems:,} problems a difference of {100 * summary.detectable:.0f} points from another run is the "
        "smallest that would be told with 80 % chance: take more problems (-n) before you claim a smaller one."
    )


def _greedy(model: str, sampling: Mapping[str, Any], advised: Sampling | None) -> str:
    against = greedy_forbidden(model, advised)
    if sampling.get("temperature") != 0 or not against:
        return ""
    return (
        f"Temperature 0 was used, and {against} advises against it: thinking without chance runs into endless "
        "repetition. Leave --temperature out to sample as its makers do."
    )


def _loops(summary: Summary) -> str:
    if summary.loop_share < MANY_LOOPS:
        return ""
    return (
        f"{summary.loop_share:.0%} of {summary.audited:,} traces that were read repeat themselves over and over: the "
        "temperature may be too low, or the model broken by training or quantisation."
    )


def _failures(figures: Figures) -> str:
    failed = int(figures.failed_N.sum())
    if not failed:
        return ""
    return f"{failed:,} attempts ({failed / len(figures):.1%}) failed in the engine and count as not solved."


def _left_out(figures: Figures) -> str:
    left_out = int((~figures.counted_N).sum())
    if not left_out:
        return ""
    bad = int(figures.of_status("bad_gold").sum())
    rest = f", {left_out - bad:,} because the verifier or the judge failed" if left_out - bad else ""
    return f"{left_out:,} attempts are left out: {bad:,} because the gold answer cannot be used{rest}."
