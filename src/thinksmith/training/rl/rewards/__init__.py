"""Rewards: functions of an attempt, added by weight. None leaves the attempt out of its group.

`scorer(specs)` makes one function out of a recipe's `[rewards]`; `trl.as_trl` and `trl.from_trl` go to TRL and back.
"""

from thinksmith.training.rl.rewards.answers import code_tests, correctness
from thinksmith.training.rl.rewards.forms import Language, TagCount, think_format
from thinksmith.training.rl.rewards.lengths import Length, SoftOverlong
from thinksmith.training.rl.rewards.named import REWARDS
from thinksmith.training.rl.rewards.reasoning import Loop, Repetition, true_equations
from thinksmith.training.rl.rewards.scorer import Reward, Scorer, scorer
from thinksmith.training.rl.rewards.tools import Calls

__all__ = [
    "REWARDS",
    "Calls",
    "Language",
    "Length",
    "Loop",
    "Repetition",
    "Reward",
    "Scorer",
    "SoftOverlong",
    "TagCount",
    "code_tests",
    "correctness",
    "scorer",
    "think_format",
    "true_equations",
]
