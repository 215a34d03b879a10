"""What a GRPO run's own numbers say is going wrong: the rules beside those of every trainer (`training/alarms.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median, stdev

from thinksmith.training.alarms import Alarm, History, Rules, begun, gradient_spike, not_finite, values

_FIRST, _LAST = 5, 3  # steps that make the beginning, and the present


def alarms(history: History) -> list[Alarm]:
    """The alarms that begin with the last row of `history` (all rows so far, the oldest first)."""
    return begun(_RULES, history)


def _entropy(history: History) -> str | None:
    """Below a tenth of its beginning and below 0.05 nats a token, while there is still something to solve.

    Entropy falls in every healthy run (Cui et al. 2025, arXiv:2505.22617, follow it through many), so a fall alone says
    little: on the quickstart's problems it goes from 0.16 to 0.06 nats while accuracy more than doubles. Hence both
    bounds: a model that begins sure of itself is not blamed for that, nor one that comes down from a random start. A
    model that solves nearly all its problems may be as sure as it likes.
    """
    began, now = _began_and_now(history, "entropy")
    if now is None or began is None or now >= 0.05 or now >= began / 10:
        return None
    accuracy = values(history, "accuracy")[-_LAST:]
    if accuracy and fmean(accuracy) >= 0.9:
        return None
    return (
        f"entropy fell to {now:.3f} nats a token, from {began:.3f}: the model tries next to nothing new, so soon it "
        "will learn nothing new; raise training.epsilon_high or rollout.temperature, or lower training.lr"
    )


def _length(history: History) -> str | None:
    """More than half are cut off and it was not so at the beginning, or length doubled and more are cut off with it.

    Length alone is no fault: it grows where thinking longer pays (DeepSeek-AI 2025, arXiv:2501.12948, section 2.2.4).
    """
    began, now = _began_and_now(history, "truncated_share")
    if began is None or now is None or now < began + 0.2:
        return None
    short, long = _began_and_now(history, "completion_tokens")
    doubled = bool(short and long) and (long or 0.0) >= 2 * (short or 0.0)
    if now <= 0.5 and not doubled:
        return None
    return (
        f"{now:.0%} of the completions are cut off at the token limit, {began:.0%} were at the beginning: they grow "
        "without an end; set rollout.mask_truncated_completions, reward brevity (rewards.length), or raise "
        "rollout.max_tokens"
    )


def _no_variance(history: History) -> str | None:
    """Nine of ten groups with equal rewards, in each of the last five steps: those groups have no gradient."""
    dead = values(history[-_FIRST:], "frac_reward_zero_std")
    if len(dead) < _FIRST or min(dead) < 0.9:
        return None
    accuracy = fmean(values(history, "accuracy")[-_FIRST:] or [0.5])
    cut_off = fmean(values(history, "truncated_share")[-_FIRST:] or [0.0])
    if cut_off > 0.5:
        why, cure = f"{cut_off:.0%} are cut off", "raise rollout.max_tokens"
    elif accuracy > 0.5:
        why, cure = f"the problems are too easy (accuracy {accuracy:.0%})", "take harder ones"
    else:
        why, cure = f"the problems are too hard (accuracy {accuracy:.0%})", "take easier ones"
    return (
        f"for {_FIRST} steps at least {min(dead):.0%} of the groups had equal rewards, so next to nothing is learnt: "
        f"{why}; {cure}, or use rollout.dynamic_sampling and a curriculum"
    )


def _held_out_falls(history: History) -> str | None:
    """The last two measurements lie under two that followed each other, interval under interval; the reward went up.

    Two against two, because the best of many is best by luck too: with the best alone, 3 of 1,000 simulated healthy
    runs raised this alarm.
    """
    at = [
        index for index, row in enumerate(history) if {"held_out_accuracy", "held_out_low", "held_out_high"} <= {*row}
    ]
    if len(at) < 4:
        return None
    lows = {later: min(history[index]["held_out_low"] for index in (earlier, later)) for earlier, later in pairwise(at)}
    best = max(at[1:-2], key=lambda index: lows[index])
    if max(history[index]["held_out_high"] for index in at[-2:]) >= lows[best]:
        return None
    before, after = values(history[: best + 1], "reward")[-_FIRST:], values(history, "reward")[-_FIRST:]
    if len(before) < 2 or len(after) < 2 or fmean(after) - fmean(before) <= 2 * _error_of_difference(before, after):
        return None
    then, now = history[best]["held_out_accuracy"], history[at[-1]]["held_out_accuracy"]
    return (
        f"the reward rose from {fmean(before):.2f} to {fmean(after):.2f} while held-out accuracy fell from {then:.0%} "
        f"to {now:.0%}: the model learns to please the reward; read its traces, take away what can be cheated, raise "
        "training.beta, or go back to an earlier checkpoint"
    )


def _logprob_gap(history: History) -> str | None:
    """More than 0.05 nats a token on average: ratios are then wrong by 5 %, a quarter of the usual clip range, 0.2."""
    gaps = values(history, "logprob_gap")[-_LAST:]
    if not gaps or median(gaps) <= 0.05:
        return None
    return (
        f"log-probabilities of rollout and training differ by {median(gaps):.2f} nats a token: the ratios are wrong by "
        'as much; set training.old_logprobs = "computed", or train in float32'
    )


_RULES: Rules = {
    "not_finite": not_finite,
    "entropy": _entropy,
    "length": _length,
    "no_variance": _no_variance,
    "held_out": _held_out_falls,
    "logprob_gap": _logprob_gap,
    "gradient_spike": gradient_spike,
}


def _began_and_now(history: History, key: str) -> tuple[float | None, float | None]:
    """The mean of the first five values and the median of the last three; None before there are eight."""
    found = values(history, key)
    if len(found) < _FIRST + _LAST:
        return None, None
    return fmean(found[:_FIRST]), median(found[-_LAST:])


def _error_of_difference(one: Sequence[float], other: Sequence[float]) -> float:
    return math.hypot(stdev(one) / math.sqrt(len(one)), stdev(other) / math.sqrt(len(other)))
