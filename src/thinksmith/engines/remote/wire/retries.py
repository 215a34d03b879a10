"""When to ask again:

exponential waits with full jitter (Brooker 2015, "Exponential backoff and jitter"), and what the server says.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

ATTEMPTS = 5
LONGEST_ASKED = 120.0
"""Seconds that a server may make us wait; one that asks for more is told to the user instead."""
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to `attempts` calls, waits between `base` x 2^k at most `cap` seconds, all within `budget` seconds of
    waiting.
    """

    attempts: int = ATTEMPTS
    base: float = 0.5
    cap: float = 30.0
    budget: float = 300.0

    def wait(self, failed: int, after: float | None, waited: float, random: Random) -> float | None:
        """Seconds before the next call, after `failed` that failed; None: give up."""
        if failed >= self.attempts:
            return None
        jittered = random.uniform(0, min(self.cap, self.base * 2 ** (failed - 1)))
        wait = jittered if after is None else after + jittered
        if (after is not None and after > LONGEST_ASKED) or waited + wait > self.budget:
            return None
        return wait


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to wait: `Retry-After` (RFC 9110, 10.2.3: seconds or a date), or what OpenAI's say."""
    text = headers.get("retry-after-ms", "")
    if _is_number(text):
        return float(text) / 1000
    text = headers.get("retry-after", "").strip()
    if _is_number(text):
        return float(text)
    if text:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None
    resets = [headers.get(f"x-ratelimit-reset-{what}", "") for what in ("requests", "tokens")]
    found = [sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(text)) for text in resets if _PART.search(text)]
    return max(found) if found else None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        return False
