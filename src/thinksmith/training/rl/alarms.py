"""Alarms: what a training run's own numbers say is going wrong, each as a sentence that says what to try.

Every rule is a function of the rows of metrics.jsonl so far, and nothing is remembered: a resumed run tells the same as
one that was never stopped. A rule looks at the first steps and at the last few, by means and medians, so noise alone
does not set it off. For a number that a row does not have, it is as if the row were not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev

Row = Mapping[str, float]
History = Sequence[Row]

_FIRST, _LAST = 5, 3  # steps that make the beginning, and the present
_QUIET = 20  # steps: what comes back within them was told already


@dataclass(frozen=True, slots=True)
class Alarm:
    """`kind` names it for programs, `text` is one sentence for people; `stop`: nothing good can come of going on."""

    kind: str
    text: str
    stop: bool = False


def alarms(history: History) -> list[Alarm]:
    """The alarms that begin with the last row of `history` (all rows so far, the oldest first).

    An alarm that holds on, or comes back within 20 steps, is told once. Costs a few microseconds a rule and row.
    """
    begun = []
    for kind, rule in _RULES.items():
        text = rule(history)
        if text and not any(rule(history[:end]) for end in range(max(1, len(history) - _QUIET), len(history))):
            begun.append(Alarm(kind, text, stop=kind == "not_finite"))
    return begun


def _not_finite(history: History) -> str | None:
    row = history[-1] if history else {}
    for key, name in (("loss", "loss"), ("grad_norm", "gradient norm")):
        if not math.isfinite(row.get(key, 0.0)):
            return (
                f"the {name} is {row[key]}: the run stops here and the last checkpoint stays; "
                "resume from it with a lower training.lr, and in float32 if it was in half precision"
            )
    return None


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
    accuracy = _values(history, "accuracy")[-_LAST:]
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
    dead = _values(history[-_FIRST:], "frac_reward_zero_std")
    if len(dead) < _FIRST or min(dead) < 0.9:
        return None
    accuracy = fmean(_values(history, "accuracy")[-_FIRST:] or [0.5])
    cut_off = fmean(_values(history, "truncated_share")[-_FIRST:] or [0.0])
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
    before, after = _values(history[: best + 1], "reward")[-_FIRST:], _values(history, "reward")[-_FIRST:]
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
    gaps = _values(history, "logprob_gap")[-_LAST:]
    if not gaps or median(gaps) <= 0.05:
        return None
    return (
        f"log-probabilities of rollout and training differ by {median(gaps):.2f} nats a token: the ratios are wrong by "
        'as much; set training.old_logprobs = "computed", or train in float32'
    )


def _gradient_spike(history: History) -> str | None:
    """More than ten times the usual, and far outside its own scatter (on a log scale, by the median deviation)."""
    norms = [math.log(norm) for norm in _values(history[-51:], "grad_norm") if norm > 0]
    if len(norms) < 11 or not history[-1].get("grad_norm"):
        return None
    *earlier, last = norms
    usual = median(earlier)
    sigma = 1.4826 * median(abs(norm - usual) for norm in earlier)  # of a normal distribution with that deviation
    if last - usual <= max(math.log(10), 6 * sigma):
        return None
    return (
        f"the gradient norm is {math.exp(last):.3g}, {math.exp(last - usual):.0f} times the usual: it was cut down to "
        "training.max_grad_norm, so once does no harm; if it comes again lower training.lr"
    )


_RULES: dict[str, Callable[[History], str | None]] = {
    "not_finite": _not_finite,
    "entropy": _entropy,
    "length": _length,
    "no_variance": _no_variance,
    "held_out": _held_out_falls,
    "logprob_gap": _logprob_gap,
    "gradient_spike": _gradient_spike,
}


def _values(history: History, key: str) -> list[float]:
    return [row[key] for row in history if key in row and math.isfinite(row[key])]


def _began_and_now(history: History, key: str) -> tuple[float | None, float | None]:
    """The mean of the first five values and the median of the last three; None before there are eight."""
    values = _values(history, key)
    if len(values) < _FIRST + _LAST:
        return None, None
    return fmean(values[:_FIRST]), median(values[-_LAST:])


def _error_of_difference(one: Sequence[float], other: Sequence[float]) -> float:
    return math.hypot(stdev(one) / math.sqrt(len(one)), stdev(other) / math.sqrt(len(other)))
