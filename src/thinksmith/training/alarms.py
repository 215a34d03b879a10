"""Alarms: what a training run's own numbers say is going wrong, each as a sentence that says what to try.

Every rule is a function of the rows of metrics.jsonl so far, and nothing is remembered: a resumed run tells the same as
one that was never stopped. A rule looks at the first steps and at the last few, by means and medians, so noise alone
does not set it off. For a number that a row does not have, it is as if the row were not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Row = Mapping[str, float]
History = Sequence[Row]
Rules = Mapping[str, Callable[[History], str | None]]

_QUIET = 20  # steps: what comes back within them was told already


@dataclass(frozen=True, slots=True)
class Alarm:
    """`kind` names it for programs, `text` is one sentence for people; `stop`: nothing good can come of going on."""

    kind: str
    text: str
    stop: bool = False


def begun(rules: Rules, history: History) -> list[Alarm]:
    """The alarms that begin with the last row of `history` (all rows so far, the oldest first).

    An alarm that holds on, or comes back within 20 steps, is told once. Costs a few microseconds a rule and row.
    """
    found = []
    for kind, rule in rules.items():
        text = rule(history)
        if text and not any(rule(history[:end]) for end in range(max(1, len(history) - _QUIET), len(history))):
            found.append(Alarm(kind, text, stop=kind == "not_finite"))
    return found


def not_finite(history: History) -> str | None:
    """The loss or the gradient is no number."""
    row = history[-1] if history else {}
    for key, name in (("loss", "loss"), ("grad_norm", "gradient norm")):
        if not math.isfinite(row.get(key, 0.0)):
            return (
                f"the {name} is {row[key]}: the run stops here and the last checkpoint stays; "
                "resume from it with a lower training.lr, and in float32 if it was in half precision"
            )
    return None


def gradient_spike(history: History) -> str | None:
    """More than ten times the usual, and far outside its own scatter (on a log scale, by the median deviation)."""
    norms = [math.log(norm) for norm in values(history[-51:], "grad_norm") if norm > 0]
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


def values(history: History, key: str) -> list[float]:
    """The finite values of one number."""
    return [row[key] for row in history if key in row and math.isfinite(row[key])]
