"""Rewards for the length of a completion, in sampled tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinksmith.records import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Among right answers the shorter, among wrong ones the longer has more, along half a cosine wave:

        r(n) = long + (short - long) * (1 + cos(pi * t)) / 2,   t = (n - shortest) / (max_tokens - shortest) in 0..1

    n is the number of sampled tokens; short and long are `max_value_correct` and `min_value_correct` for a right
    answer, `min_value_wrong` and `max_value_wrong` for a wrong one. Yeo et al. 2025, arXiv:2502.03373, appendix C.1,
    with TRL's names and values. t is clamped: the wave would pay again beyond `max_tokens`; and below `shortest` to be
    still shorter pays nothing (0: it always does). Their third value, for what exceeds the limit, is left out; see
    `SoftOverlong`. `max_tokens` is the recipe's `rollout.max_tokens` unless it is given.

    Range -1..1 with the default values. Gamed by wrong answers that are stretched, which is meant as room to explore,
    and by right ones that are guessed without thinking: raise `shortest`, or give it a small weight. What could not be
    judged: None.
    """

    max_tokens: int = 0
    shortest: int = 0
    min_value_wrong: float = -1.0
    max_value_wrong: float = -0.5
    min_value_correct: float = 0.5
    max_value_correct: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.shortest < self.max_tokens:
            raise ValueError(f"needs 0 <= shortest < max_tokens, got {self.shortest} and {self.max_tokens}")

    def __call__(self, attempt: Attempt) -> float | None:
        if attempt.verdict.status in ("error", "bad_gold"):
            return None
        if attempt.verdict.correct:
            short, long = self.max_value_correct, self.min_value_correct
        else:
            short, long = self.min_value_wrong, self.max_value_wrong
        t = (attempt.trace.tokens - self.shortest) / (self.max_tokens - self.shortest)
        return long + (short - long) * (1.0 + math.cos(math.pi * min(max(t, 0.0), 1.0))) / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftOverlong:
    """0 up to max_tokens - cache sampled tokens, from there on a straight line down to -1 at max_tokens:

        r(n) = clamp((max_tokens - cache - n) / cache, -1, 0)

    DAPO's soft overlong punishment (Yu et al. 2025, arXiv:2503.14476, equation 13). cache is `soft_punish_cache`
    tokens; 0 stands for a fifth of max_tokens, their share (4,096 of 20,480). `max_tokens` is the recipe's
    `rollout.max_tokens` unless it is given. Range -1..0. It is added to `correctness`, so with a weight near 1 a right
    answer at the very end is worth as much as a wrong one. An engine that failed: None.
    """

    max_tokens: int = 0
    soft_punish_cache: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or not 0 <= self.soft_punish_cache <= self.max_tokens:
            raise ValueError(
                f"needs 0 <= soft_punish_cache <= max_tokens, got {self.soft_punish_cache} and {self.max_tokens}"
            )

    def __call__(self, attempt: Attempt) -> float | None:
        if attempt.trace.finish == "error":
            return None
        cache = self.soft_punish_cache or self.max_tokens / 5
        return min(max((self.max_tokens - cache - attempt.trace.tokens) / cache, -1.0), 0.0)
