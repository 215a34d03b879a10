"""What every kind's `judge(problem, answer) -> str | None` may say besides None (right) and a reason (wrong)."""

from __future__ import annotations


class BadGold(ValueError):
    """The problem's gold answer cannot be used; the message says why."""


class Unreadable(ValueError):
    """The answer is not of the form that this kind reads.

    Wrong if it was given as the answer (boxed, after "answer is"), no answer if it merely was all there was.
    """
