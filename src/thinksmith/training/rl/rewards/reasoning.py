"""Rewards for the thinking itself: are its equations true, does it say the same again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinksmith.audit.equations import find_equations
from thinksmith.audit.loops import find_loop, may_loop
from thinksmith.problems.wording import Wording
from thinksmith.records import Attempt
from thinksmith.training.rl.rewards.forms import told


def true_equations(attempt: Attempt) -> float | None:
    """The share (0..1) of the trace's equations that are true, each checked exactly (`audit.equations`); 0 where it has
    none, so that writing less does not pay. An engine that failed wrote nothing to be judged.

    Gamed by one trivial equation, `1 + 1 = 2`, so give it a small weight beside `correctness`, not alone.
    """
    if attempt.trace.finish == "error":
        return None
    equations = find_equations(told(attempt.trace))
    return sum(equation.true for equation in equations) / len(equations) if equations else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """max_penalty * (1 - distinct n-grams / all n-grams), over the sampled token ids; 0 with fewer than n tokens.

    Yeo et al. 2025, arXiv:2502.03373, appendix C.2, with TRL's names and values (`ngram_size` n). Words stand in for
    ids where an engine gives none. Range max_penalty..0. Honest work repeats itself too, the more the longer it is, so
    keep the weight small; gamed by variations of one sentence, and by writing little. An engine that failed: None.
    """

    ngram_size: int = 3
    max_penalty: float = -1.0

    def __post_init__(self) -> None:
        if self.ngram_size < 1 or self.max_penalty > 0:
            raise ValueError("needs ngram_size >= 1 and max_penalty <= 0")

    def __call__(self, attempt: Attempt) -> float | None:
        if attempt.trace.finish == "error":
            return None
        n = self.ngram_size
        units: Sequence[object] = attempt.trace.token_ids or attempt.trace.text.split()
        total = len(units) - n + 1
        again = total - _distinct(units, n)
        return self.max_penalty * again / total if again > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """1, or 0 where thinking or answer says one thing at least `repeats` times on end, over at least `min_words` words
    (`audit.loops`): the mark of a model that is stuck. What is shorter, or not word by word the same, is no loop.

    Gamed by a counter in the sentence that is repeated; `repetition` sees some of that. An engine that failed: None.
    """

    repeats: int = 4
    min_words: int = 64

    def __post_init__(self) -> None:
        if self.repeats < 2 or self.min_words < 1:
            raise ValueError("needs repeats >= 2 and min_words >= 1")

    def __call__(self, attempt: Attempt) -> float | None:
        trace = attempt.trace
        if trace.finish == "error":
            return None
        texts = (trace.thinking, trace.answer)
        return float(not any(self._loops(text) for text in texts))

    def _loops(self, text: str) -> bool:
        maybe = may_loop(Wording.of(text).hashes_W, self.repeats, self.min_words)
        return maybe and find_loop(text, self.repeats, self.min_words) is not None


def _distinct(units: Sequence[object], n: int) -> int:
    """How many different runs of n there are."""
    return len(set(zip(*(units[i:] for i in range(n)), strict=False)))
