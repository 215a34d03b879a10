"""What a run of SFT or DPO tells of itself, and when it stops early: functions of its rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from thinksmith.training.alarms import Alarm, History, Row, Rules, begun, gradient_spike, not_finite, values

MEASURED = 3  # times that it must have got worse


def alarms(history: History) -> list[Alarm]:
    """The alarms that begin with the last row of `history` (all rows so far, the oldest first)."""
    return begun(_RULES, history)


def score(row: Row, by: str) -> float | None:
    """How good a measured row is, higher is better; None where nothing was measured."""
    if by == "accuracy":
        return row.get("held_out_accuracy")
    loss = row.get("held_out_loss")
    return None if loss is None else -loss


def given_up(history: Sequence[Row], patience: int, by: str) -> bool:
    """Were the last `patience` measurements all no better than the best before them?"""
    found = [value for row in history if (value := score(row, by)) is not None]
    return 0 < patience < len(found) and max(found[-patience:]) <= max(found[:-patience])


def _forgets(history: History) -> str | None:
    """The held-out loss rose three times on end, while the loss on what is learnt fell."""
    at = [index for index, row in enumerate(history) if "held_out_loss" in row]
    if len(at) <= MEASURED:
        return None
    last = [history[index]["held_out_loss"] for index in at[-MEASURED - 1 :]]
    if any(later <= earlier for earlier, later in pairwise(last)):
        return None
    before, since = history[: at[-MEASURED - 1] + 1], history[at[-MEASURED - 1] + 1 :]
    learnt, now = values(before[-len(since) :], "loss"), values(since, "loss")
    if not learnt or not now or fmean(now) >= fmean(learnt):
        return None
    return (
        f"the held-out loss rose from {last[0]:.3f} to {last[-1]:.3f} while the training loss fell to {fmean(now):.3f}"
        ": it learns its samples by heart; set evaluation.patience, take fewer epochs, or more samples"
    )


def _unlearns(history: History) -> str | None:
    """DPO: both completions of the pairs become much less likely, which it may do to widen the margin."""
    right = values(history, "reward_right")[-5:]
    if len(right) < 5 or max(right) > -2.0:
        return None
    return (
        f"the right traces have become less likely too (reward {right[-1]:.1f}): the margin grows because the wrong "
        "ones fall faster; lower training.lr, raise dpo.beta, or take fewer steps"
    )


_RULES: Rules = {
    "not_finite": not_finite,
    "by_heart": _forgets,
    "unlearns": _unlearns,
    "gradient_spike": gradient_spike,
}
