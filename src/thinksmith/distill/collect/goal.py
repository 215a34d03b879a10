"""What is wanted of each problem: so many traces, the first correct one, or so many correct ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean

Kind = Literal["single", "first", "correct"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TRIES = 4
"""How many tries a wanted correct trace is given where nobody says."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`single`: `k` traces of each problem, right or wrong. `first`: draws until one is correct, at most `k`.
    `correct`: draws until `k` are correct, at most `most`.

    Draws are numbered from 0 (`strategies/draws.py`). How many are made of a problem depends on the verdicts alone, not
    on the order in which they come: the fewest draws, counted from 0, among which there are as many correct ones as
    wanted.
    """

    kind: Kind = "single"
    k: int = 4
    most: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"no strategy {self.kind!r} of collecting{did_you_mean(self.kind, KINDS)}; known: {', '.join(KINDS)}"
            )
        if self.k < 1:
            raise UserError(f"k must be 1 or more, not {self.k}: how many traces of each problem are wanted")
        if self.most and self.kind != "correct":
            raise UserError(f"most is for the strategy correct; of {self.kind} k says how many draws are made at most")
        if self.kind == "correct" and self.most and self.most < self.k:
            raise UserError(f"{self.k} correct traces cannot come of at most {self.most} draws: give a larger most")

    @property
    def spec(self) -> str:
        """As runs and reports call it: `single@4`, `first@8`, `correct@4:most=16`."""
        return f"{self.kind}@{self.k}" + (f":most={self.tries}" if self.kind == "correct" else "")

    @property
    def tries(self) -> int:
        """Draws of a problem at most."""
        return (self.most or TRIES * self.k) if self.kind == "correct" else self.k

    @property
    def wanted(self) -> int:
        """How many of a problem's draws must count (see `counts`) until it is done."""
        return 1 if self.kind == "first" else self.k

    @property
    def judges(self) -> bool:
        """Does a verdict decide how many draws are made? Then each problem needs a gold answer."""
        return self.kind != "single"

    @property
    def unconditional(self) -> int:
        """How many draws every problem gets, whatever comes: the numbers below this one. Pass rates are taken over
        these. Later draws are made of problems that were failed before, so they would make a model look worse, and
        the mean of a problem's draws up to its first correct one would make it look better (inverse sampling:
        Haldane 1945, Biometrika 33)."""
        return self.wanted

    def counts(self, status: str) -> bool:
        """Does a draw with this verdict count as one of the wanted ones?"""
        return status == "correct" or not self.judges

    def draws_expected(self, rate: float) -> float:
        """The mean number of draws of a problem that is solved at this rate (0..1) by independent draws.

        Until the `wanted`-th correct one, `tries` at most:
        E = sum over n < tries of P(fewer than `wanted` correct ones among n), which is 1 below n = `wanted`.
        """
        if not self.judges:
            return float(self.k)
        from scipy.special import bdtr

        return self.wanted + sum(float(bdtr(self.wanted - 1, n, rate)) for n in range(self.wanted, self.tries))
