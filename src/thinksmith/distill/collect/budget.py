"""Where a collection stops: so many sampled tokens, or so many US dollars."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thinksmith.distill.collect.ledger import Ledger, short
from thinksmith.distill.collect.teachers import Teacher
from thinksmith.errors import UserError
from thinksmith.records import Problem

_WRITTEN = re.compile(r"\$?\s*(?P<number>[0-9][0-9,_]*\.?[0-9]*|\.[0-9]+)\s*(?P<unit>[a-z$ ]*)", re.IGNORECASE)
_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}


@dataclass(frozen=True, slots=True)
class Budget:
    """Of the whole run, whatever part of it an earlier call has made."""

    amount: float
    unit: Literal["tokens", "usd"]

    @classmethod
    def parse(cls, text: str) -> Budget:
        """`5usd`, `2.50$`, `300k tokens`, `2Mtokens`. Raises UserError for anything else, and for nothing."""
        match = _WRITTEN.fullmatch(text.strip())
        unit = match["unit"].replace(" ", "").lower() if match else ""
        amount = float(match["number"].replace(",", "").replace("_", "")) if match else 0.0
        if match and (unit in ("usd", "$", "dollars") or (not unit and "$" in text)):
            found = cls(amount, "usd")
        elif match and (tokens := re.fullmatch(r"([kmgb]?)tokens?", unit)):
            found = cls(amount * _SCALES[tokens[1]], "tokens")
        else:
            raise UserError(f"budget {text!r}: write dollars or tokens, such as 5usd or 2Mtokens")
        if not found.amount > 0:
            raise UserError(f"budget {text!r} is nothing: give more")
        return found

    def __str__(self) -> str:
        return self.told(self.amount)

    def told(self, amount: float) -> str:
        """So much of it, for people."""
        if self.unit == "tokens":
            return f"{short(amount)} tokens"
        return f"${amount:,.2f}" if amount >= 0.01 or not amount else f"${amount:.2g}"

    def spent(self, ledger: Ledger) -> float:
        """What the ledger has of it. Teachers whose cost is not known are refused before (`check`)."""
        return float(ledger.tokens) if self.unit == "tokens" else ledger.cost or 0.0

    def most(self, teacher: Teacher, prompt_tokens: int) -> float:
        """What one attempt of this teacher's may take: every token that it may sample. `prompt_tokens` of its prompt
        are paid too."""
        most = teacher.sampling.max_tokens
        return float(most) if self.unit == "tokens" else teacher.cost(prompt_tokens, most) or 0.0

    def check(self, teachers: Sequence[Teacher], prompt_tokens: int) -> None:
        """UserError for a budget that cannot be kept to, or does not do for one attempt of any teacher."""
        if self.unit == "usd":
            unknown = [teacher.name for teacher in teachers if teacher.cost(prompt_tokens, 1) is None]
            if unknown:
                raise UserError(
                    f"{unknown[0]} has no price, so a budget in dollars cannot be kept: give it one (prices in the"
                    " configuration file), or give the budget in tokens"
                )
            if not any(self.most(teacher, prompt_tokens) for teacher in teachers):
                raise UserError("these teachers cost nothing: give the budget in tokens, such as 2Mtokens")
        least = min(self.most(teacher, prompt_tokens) for teacher in teachers)
        if least > self.amount:
            raise UserError(
                f"the budget of {self} does not do for one attempt, which may take {self.told(least)}: give more, or"
                " lower --max-tokens"
            )


def prompt_bound(problems: Sequence[Problem]) -> int:
    """More tokens than the longest prompt is likely to have: a token for every two bytes, and a template."""
    return max(len(problem.text.encode("utf-8", "replace")) for problem in problems) // 2 + 64
