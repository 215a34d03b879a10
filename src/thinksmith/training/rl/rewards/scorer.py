"""A recipe's `[rewards]` as one function: each attempt's parts, and their sum by weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thinksmith.errors import UserError, one_line
from thinksmith.records import Attempt
from thinksmith.training.rl.rewards.binding import Option, bind, find
from thinksmith.training.rl.rewards.trl_functions import CONVERSATIONAL, from_trl

Reward = Callable[[Attempt], float | None]
"""A number for one attempt; None leaves it out of its group."""


@dataclass(frozen=True, slots=True)
class Part:
    """One reward of a recipe. `each`: it is called with one attempt after the other, else with all in a list."""

    name: str
    function: Callable[..., Any]
    each: bool
    weight: float = 1.0

    def scores(self, attempts: Sequence[Attempt]) -> list[float | None]:
        """A number or None for every attempt, in order. Attempts whose engine failed are not shown to it: None.

        Raises UserError, naming reward and problem, where the function raises or returns what is no finite number.
        """
        sound = [i for i, attempt in enumerate(attempts) if attempt.trace.finish != "error"]
        scores: list[float | None] = [None] * len(attempts)
        if self.each:
            for i in sound:
                scores[i] = self._number(self._called(attempts[i], attempts[i].problem.id), attempts[i])
        elif sound:
            shown = [attempts[i] for i in sound]
            found = self._called(shown, f"{shown[0].problem.id} and {len(shown) - 1} more")
            try:
                values = list(found)
            except TypeError:
                raise UserError(f"reward {self.name!r} returned {_told(found)}; it must return a list") from None
            if len(values) != len(shown):
                raise UserError(f"reward {self.name!r} returned {len(values)} numbers for {len(shown)} attempts")
            for i, value in zip(sound, values, strict=True):
                scores[i] = self._number(value, attempts[i])
        return scores

    def _called(self, shown: Attempt | Sequence[Attempt], problem: str) -> Any:
        try:
            return self.function(shown)
        except UserError as error:
            raise UserError(f"reward {self.name!r}: {one_line(error)}") from None
        except Exception as error:
            why = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(f"reward {self.name!r} failed on problem {problem}: {why}") from error

    def _number(self, value: Any, attempt: Attempt) -> float | None:
        if value is None:
            return None
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except Exception:  # whatever the value's own conversion raises
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"reward {self.name!r} returned {_told(value)} for problem {attempt.problem.id}; "
                "it must return a finite number, or None to leave the attempt out"
            )
        return number


@dataclass(frozen=True, slots=True)
class Scorer:
    """The weighted sum of several rewards."""

    parts: tuple[Part, ...]

    def __call__(
        self, attempts: Sequence[Attempt]
    ) -> tuple[tuple[float | None, ...], tuple[Mapping[str, float | None], ...]]:
        """(totals, parts): for each attempt the sum of weight * reward, and each reward by name, without its weight.

        A total is None where one of its parts is: what cannot be judged in one respect cannot be compared.
        """
        columns = [part.scores(attempts) for part in self.parts]
        rows = list(zip(*columns, strict=True)) or [()] * len(attempts)
        names = [part.name for part in self.parts]
        return tuple(map(self._total, rows)), tuple(dict(zip(names, row, strict=True)) for row in rows)

    def _total(self, row: Sequence[float | None]) -> float | None:
        total = 0.0
        for part, value in zip(self.parts, row, strict=True):
            if value is None:
                return None
            total += part.weight * value
        return total


def scorer(specs: Mapping[str, float | Mapping[str, Option]], *, max_tokens: int = 0) -> Scorer:
    """The rewards of a recipe: name to weight, or name to a table with `weight` and the reward's own options.

    A name is one of `REWARDS` or an import path `module:function`, looked up where Python does and in the current
    directory. `max_tokens`, the recipe's longest completion, is what rewards with an option of that name take it from.
    Raises UserError, before any attempt is there, for whatever cannot work; see `binding`.
    """
    if not specs:
        raise UserError("no rewards: name at least one under [rewards]")
    return Scorer(tuple(_part(name, spec, max_tokens) for name, spec in specs.items()))


def _part(name: str, spec: float | Mapping[str, Option], max_tokens: int) -> Part:
    options = dict(spec) if isinstance(spec, Mapping) else {"weight": spec}
    function = find(name)
    weight = options.pop("weight", None)
    if weight is None:
        raise UserError(f"reward {name!r} has no weight; write {{weight = 1.0, ...}}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise UserError(f"reward {name!r}: the weight must be a number, got {weight!r}")
    return part(name, function, options, max_tokens=max_tokens, weight=float(weight))


def part(
    name: str, function: Callable[..., Any], options: Mapping[str, Any], *, max_tokens: int = 0, weight: float = 1.0
) -> Part:
    """A reward with its options, of whatever sort it is. Raises UserError."""
    own = dict(options)
    conversational = own.pop(CONVERSATIONAL, True)
    bound = bind(name, function, own, max_tokens=max_tokens)
    if bound.how != "trl":
        if CONVERSATIONAL in options:
            bound = bind(name, function, options, max_tokens=max_tokens)
        return Part(name, bound.function, bound.how == "each", weight)
    if not isinstance(conversational, bool):
        raise UserError(f"reward {name!r}: option {CONVERSATIONAL!r} must be bool, got {conversational!r}")
    return Part(name, from_trl(bound.function, conversational=conversational), False, weight)


def _told(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:79] + "…"
