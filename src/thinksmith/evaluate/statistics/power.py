"""How small a difference can a comparison tell, and how many problems would it need?

For paired differences with variance v, tested at 5 % two-sided. Under "no difference" the mean has the variance
(v + D²) / P, for then the signs are free and E d² is what remains; under a difference of D it has v / P. So P problems
reject with the chance 1 - β where

    D √P = z₀.₉₇₅ √(v + D²) + z₁₋β √v

which for yes/no attempts is Connor's formula for McNemar's test (Connor 1987, "Sample size for testing differences in
proportions for the paired-sample design", Biometrics 43, equation 3): v + D² is the share of changed problems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

POWER = 0.8
_SIGNIFICANT = float(ndtri(0.975))

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Power:
    """What a comparison of this many `problems` can tell.

    `detectable`: the smallest difference (0..1) that it finds with 80 % chance; None where there is none up to 1.
    `needed`: how many problems the difference that was seen would need for that; None where none was seen.
    """

    problems: int
    detectable: float | None
    needed: int | None

    def __str__(self) -> str:
        if self.detectable is None:
            return f"{self.problems:,} problems are too few to tell any difference with 80 % chance"
        told = f"with {self.problems:,} problems a difference of {100 * self.detectable:.1f} points is told"
        return f"{told} with 80 % chance" + (f"; this one would need {self.needed:,}" if self.needed else "")


def power_of(differences_P: Floats) -> Power:
    """What was and would be enough, by the variance of the differences that were seen.

    Half a win and half a loss are added (Agresti and Min 2005), so that a few equal problems do not promise certainty.
    """
    problems, mean = len(differences_P), float(differences_P.mean())
    variance = spread(differences_P)
    return Power(problems, detectable(problems, variance), needed(mean, variance) if mean else None)


def spread(differences_P: Floats) -> float:
    """The variance of the differences, with half a win and half a loss added to them."""
    observations = len(differences_P) + 2
    mean = float(differences_P.sum()) / observations
    return (float((differences_P**2).sum()) + 1) / observations - mean**2


def detectable(problems: int, variance: float, power: float = POWER) -> float | None:
    """The smallest true difference (0..1) that `problems` paired problems tell with this chance; None above 1."""
    z, wanted = _SIGNIFICANT, float(ndtri(power))
    if problems <= z**2:
        return None
    # The equation above, squared, is quadratic in D.
    a, b, c = problems - z**2, wanted * math.sqrt(problems * variance), (wanted**2 - z**2) * variance
    found = (b + math.sqrt(max(0.0, b**2 - a * c))) / a
    return found if found <= 1 else None


def needed(difference: float, variance: float, power: float = POWER) -> int:
    """How many problems tell a true difference with this chance. ValueError for a difference of 0."""
    if not difference:
        raise ValueError("no number of problems tells a difference of 0")
    z, wanted = _SIGNIFICANT, float(ndtri(power))
    return math.ceil(((z * math.sqrt(variance + difference**2) + wanted * math.sqrt(variance)) / difference) ** 2)


def chance_to_tell(problems: int, difference: float, variance: float) -> float:
    """The power: how likely `problems` problems tell this true difference, 0..1."""
    far = abs(difference) * math.sqrt(problems) - _SIGNIFICANT * math.sqrt(variance + difference**2)
    return float(ndtr(far / math.sqrt(variance))) if variance > 0 else float(far > 0)
