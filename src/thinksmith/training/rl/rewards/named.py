"""The rewards that a recipe can name. A class is made once, with the recipe's options; see `binding`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thinksmith.training.rl.rewards.answers import code_tests, correctness
from thinksmith.training.rl.rewards.forms import Language, TagCount, think_format
from thinksmith.training.rl.rewards.lengths import Length, SoftOverlong
from thinksmith.training.rl.rewards.reasoning import Loop, Repetition, true_equations
from thinksmith.training.rl.rewards.tools import Calls

REWARDS: dict[str, Callable[..., Any]] = {
    "correctness": correctness,
    "think_format": think_format,
    "tag_count": TagCount,
    "true_equations": true_equations,
    "length": Length,
    "soft_overlong": SoftOverlong,
    "repetition": Repetition,
    "loop": Loop,
    "language": Language,
    "code_tests": code_tests,
    "calls": Calls,
}
ASK_VERDICT = frozenset({"correctness", "length", "code_tests"})
"""Those that ask whether the answer is right; for the others nothing need be verified."""
