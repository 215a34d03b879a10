"""When a model should look back, and when it goes round in circles.

A step is known by its calls, their arguments and what they gave. One that was there before brings nothing new, whether
it comes at once or after others (an oscillation of any period). The first leads to a look back; where others follow, it
ends.
"""

from __future__ import annotations

MOST = 3  # repetitions before the end


class LookingBack:
    """`every`: steps after which it looks back anyhow; 0: never, and the first repetition ends it."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._seen: set[str] = set()
        self.repeats = 0
        self._repeated = False  # since the last look back
        self._failed = ""
        self._since = 0

    def acted(self, sign: str, failed: str = "") -> None:
        """A step was made: what it is known by, and the call of it that failed, if one did."""
        self._since += 1
        self._failed = failed
        if sign in self._seen:
            self.repeats += 1
            self._repeated = True
        self._seen.add(sign)

    @property
    def circles(self) -> bool:
        """Has it been going round in circles?"""
        return self.repeats >= (MOST if self._every else 1)

    def due(self) -> str:
        """Why it should look back now, empty if it need not. Once told, it counts anew.

        A failure just after a look back tells by itself what to mend.
        """
        if not self._every:
            return ""
        why = ""
        if self._repeated:
            why = "this was done before, and nothing new came of it"
        elif self._failed and self._since > 1:
            why = f"a call of {self._failed} did not work"
        elif self._since >= self._every:
            why = f"{self._since} steps since the last look at the plan"
        if why:
            self._repeated, self._failed, self._since = False, "", 0
        return why
