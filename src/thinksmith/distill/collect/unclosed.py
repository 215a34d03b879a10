"""A teacher whose thinking never comes to its end teaches nothing, and mostly a setting is at fault: tell it early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from thinksmith.distill.collect.ledger import EARLY, Entry, Ledger

FEWEST = 5
"""Attempts of which something may be said when there are no more."""

_Fault = Literal["", "long", "open", "none"]
_HELP = {
    "long": "ran into the bound of {max_tokens:,} tokens: give more with --max-tokens, or bound the thinking with"
    " --think",
    "open": "ended without an end of its thinking: its chat template, or its server's reasoning parser, loses the end"
    " tag",
    "none": "has any thinking: is it a reasoning model, and is its thinking switched on (?think=on behind the name)?",
}


class Unclosed:
    """Looks at the first attempts of each model once, when there are `EARLY`, or at the end at fewer."""

    def __init__(self, max_tokens: Mapping[str, int]) -> None:
        """`max_tokens` of each teacher by its name; of a model that is none of them (a recorded one) the largest."""
        self._max_tokens = max_tokens
        self._seen: set[str] = set()
        self.warnings: list[str] = []

    def look(self, ledger: Ledger, *, last: bool = False) -> list[str]:
        """What is to be said now; `last`: no more attempts come."""
        said = []
        for model, account in ledger.accounts.items():
            if model not in self._seen and (last or len(account.early) >= EARLY):
                self._seen.add(model)
                most = self._max_tokens.get(model, max(self._max_tokens.values()))
                if text := warning(model, account.early, most):
                    said.append(text)
        self.warnings += said
        return said


def warning(model: str, early: Sequence[Entry], max_tokens: int) -> str:
    """A line for people if none of a teacher's first attempts (at least `FEWEST`) has a thinking that ends; else ""."""
    faults = [_fault(entry) for entry in early]
    if len(faults) < FEWEST or not all(faults):
        return ""
    common = Counter(faults).most_common(1)[0][0]
    count = f"{'the first' if len(faults) >= EARLY else 'all'} {len(faults)} attempts"
    who = (
        f"none of {count}" if common == "none" else f"each of {count}" if len(set(faults)) == 1 else f"most of {count}"
    )
    return f"{model}: {who} {_HELP[common].format(max_tokens=max_tokens)}; what came is kept"


def _fault(entry: Entry) -> _Fault:
    if entry.finish in ("length", "budget"):
        return "long"
    return {"closed": "", "truncated": "open", "none": "none"}[entry.thinking]  # type: ignore[return-value]
