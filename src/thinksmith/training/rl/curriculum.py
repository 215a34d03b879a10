"""Which problems are worth asking, by pass rates that the rollouts themselves measure.

A problem that is always or never solved gives groups without variance, so nothing is learnt from it. DAPO throws such
groups away after they were sampled (Yu et al. 2025, arXiv:2503.14476, section 3.2); here the problem is put aside, and
its groups are not sampled at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from thinksmith.training.rl.recipe import CurriculumTable

Standing = Literal["unmeasured", "inside", "never", "always", "outside"]


@dataclass(frozen=True, slots=True)
class _Measured:
    """The last groups of a problem, oldest first, as (correct, judged), and the step of the newest."""

    groups: tuple[tuple[int, int], ...]
    step: int

    @property
    def rate(self) -> float:
        return sum(correct for correct, _ in self.groups) / sum(of for _, of in self.groups)


class Curriculum:
    """Notes how often each problem was solved, and says which are asked.

    A problem is judged on its last `table.measure` groups, and not before it has so many. Older ones are forgotten: the
    policy that they measured is gone. With G completions a group the standard error of the rate is at most
    0.5 / sqrt(measure * G), so a narrow band wants a larger `measure`. Problems with rate 0 or 1 are always put aside,
    and so are those outside `lowest`..`highest`. One that is put aside is asked once more `again` steps after its last
    group; that group takes the place of the oldest, and the problem is judged anew.

    With `measure` 0 nothing is noted and every problem is asked.
    """

    def __init__(self, table: CurriculumTable) -> None:
        self._table = table
        self._measured: dict[str, _Measured] = {}

    @property
    def on(self) -> bool:
        return self._table.measure > 0

    def note(self, problem_id: str, correct: int, of: int, step: int) -> None:
        """`correct` of the `of` completions of a group that could be judged were right, at `step` (from 0).

        A group of which none could be judged measures nothing, but counts as asked.
        """
        if not 0 <= correct <= of:
            raise ValueError(f"{correct} of {of} is no pass rate")
        if not self.on:
            return
        before = self._measured.get(problem_id, _Measured((), step))
        groups = (*before.groups, (correct, of)) if of else before.groups
        self._measured[problem_id] = _Measured(groups[-self._table.measure :], step)

    def standing(self, problem_id: str) -> Standing:
        """What is known of a problem, whatever the step."""
        measured = self._measured.get(problem_id)
        if measured is None or len(measured.groups) < max(1, self._table.measure):
            return "unmeasured"
        rate = measured.rate
        if rate in (0.0, 1.0):
            return "always" if rate else "never"
        return "inside" if self._table.lowest <= rate <= self._table.highest else "outside"

    def asked(self, problem_id: str, step: int) -> bool:
        """Is it asked at `step`, or put aside?"""
        if not self.on or self.standing(problem_id) in ("unmeasured", "inside"):
            return True
        return bool(self._table.again) and step >= self._measured[problem_id].step + self._table.again

    def distance(self, problem_id: str) -> tuple[float, int]:
        """How far a problem that was put aside is from being asked: that of its rate from the band, then the step of
        its last group. The least comes back first where nothing else is left."""
        measured = self._measured[problem_id]
        rate = measured.rate
        return max(self._table.lowest - rate, rate - self._table.highest, 0.0), measured.step

    def metrics(self, problem_ids: Iterable[str], step: int) -> dict[str, float]:
        """How many of these problems are asked at `step` (`curriculum/pool`), are not judged yet, and are put aside
        because they were never or always solved, or lie outside the band. Empty where the curriculum is off."""
        if not self.on:
            return {}
        counts = {"pool": 0, "unmeasured": 0, "aside_never": 0, "aside_always": 0, "aside_band": 0}
        for problem_id in problem_ids:
            standing = self.standing(problem_id)
            counts["unmeasured"] += standing == "unmeasured"
            if self.asked(problem_id, step):
                counts["pool"] += 1
            else:
                counts[f"aside_{'band' if standing == 'outside' else standing}"] += 1
        return {f"curriculum/{name}": float(count) for name, count in counts.items()}

    def state(self) -> dict[str, list[int]]:
        """Plain data, a short list for each problem that was measured: its step, then correct and judged by group."""
        return {
            problem_id: [measured.step, *(number for group in measured.groups for number in group)]
            for problem_id, measured in self._measured.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as if `state` had been noted here."""
        self._measured = {
            problem_id: _Measured(tuple(zip(numbers[::2], numbers[1::2], strict=True)), step)
            for problem_id, (step, *numbers) in state.items()
        }
