"""The pen with which the symbolic solvers write their traces.

A solver computes through the writer: `writer.equation("7 * 6", 42)` writes `7 * 6 = 42` and returns 42. With
a slip rate the writer sometimes writes, and returns, something else; the solver goes on from there, so
an error flows through a trace as it does in a model's. The writer may notice a slip at once ("Wait, …").
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Style:
    """How traces are written; all are probabilities.

    direct: answer at once, without working. guess_right: such an answer is right all the same.
    slip: an equation is written with a wrong result. notice: a slip is noticed at once and mended.
    check: the result is checked at the end, and done again if the check fails.
    """

    direct: float = 0.0
    guess_right: float = 0.0
    slip: float = 0.0
    notice: float = 0.0
    check: float = 0.5


class Writer:
    """Collects the text of one trace and slips as its style says."""

    def __init__(self, rng: Random, style: Style) -> None:
        self.rng = rng
        self.style = style
        self.parts: list[str] = []
        self.slips = 0
        self._steady = False

    @property
    def text(self) -> str:
        return "".join(self.parts).strip()

    def say(self, text: str) -> None:
        self.parts.append(text)

    def equation(self, left: str, value: int) -> int:
        """Write `left = value` and return what was written on the right."""
        written = self._perhaps_slip(value)
        self.say(f"{left} = {written}")
        if written != value and self._notices():
            self.say(f". Wait, {left} = {value}")
            return value
        return written

    def signed(self, left: str, x: int, op: str, y: int) -> int:
        """Write `left = value` for x + y or x - y, by way of the magnitudes where the signs want thought."""
        return self.equation(by_magnitudes(left, x, op, y), x + y if op == "+" else x - y)

    def division(self, dividend: int, divisor: int) -> tuple[int, int]:
        """Write `dividend = divisor * quotient + remainder`; returns what was written for the two."""
        before = self.slips
        quotient, remainder = divmod(dividend, divisor)
        written = self._perhaps_slip(remainder) % divisor if remainder else 0
        if remainder and written == remainder:
            self.slips = before
        self.say(f"{dividend} = {divisor} * {quotient} + {written}")
        if written != remainder and self._notices():
            self.say(f". Wait, {dividend} = {divisor} * {quotient} + {remainder}")
            return quotient, remainder
        return quotient, written

    def wants_check(self) -> bool:
        return self.rng.random() < self.style.check

    def again(self) -> None:
        """Backtrack: what follows is done with care, without slips."""
        self.say(" That does not fit. Wait, let me do it again.\n")
        self._steady = True

    def _perhaps_slip(self, value: int) -> int:
        if self._steady or self.rng.random() >= self.style.slip:
            return value
        self.slips += 1
        return near_miss(value, self.rng)

    def _notices(self) -> bool:
        noticed = self.rng.random() < self.style.notice
        self.slips -= noticed
        return noticed


def by_magnitudes(left: str, x: int, op: str, y: int) -> str:
    """`left` (which is x + y or x - y as it was asked), followed by its form without signed operands if that differs.

    `14 - 15` becomes `14 - 15 = -(15 - 14)`, `-65 + 25` gets `-(65 - 25)`, `27 - (-26)` gets `27 + 26`: every sum that
    has to be known by heart is one of two magnitudes, and every difference takes the smaller from the larger.
    """
    if op == "-":
        y = -y
    if x >= 0 and y >= 0:
        plain = f"{x} + {y}"
    elif x < 0 and y < 0:
        plain = f"-({-x} + {-y})"
    else:
        difference = f"{max(abs(x), abs(y))} - {min(abs(x), abs(y))}"
        plain = f"-({difference})" if x + y < 0 else difference
    return left if plain == left else f"{left} = {plain}"


def near_miss(value: int, rng: Random) -> int:
    """A wrong value of the kind that people write: off by one or by ten, or with one digit changed."""
    step = rng.choice((1, 1, 2, 10)) if abs(value) >= 10 else rng.choice((1, 1, 2))
    wrong = value + rng.choice((-step, step))
    return value + step if value >= 0 > wrong else wrong
