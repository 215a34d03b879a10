"""Does it fit? Three words for the answer, a search for the largest that does, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Verdict = Literal["yes", "tight", "no"]

SURE = 0.9  # of the usable memory: what an estimate may take to be sure of it, as it may be 10 % off (bench/fit.py)

Setting = TypeVar("Setting")


def verdict(need: int, usable: int) -> Verdict:
    """`yes` leaves a tenth of the usable bytes free, which is how far the estimate may be off; `tight` leaves less."""
    if need <= SURE * usable:
        return "yes"
    return "tight" if need <= usable else "no"


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number in 0..most that fits, where all smaller ones fit too; 0 if not even 1 does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class Step(Generic[Setting]):
    """Something that could be changed: in words (`{0.batch}` is what the setting then has), what it costs, and the
    setting after it (None: it does not apply)."""

    what: str
    cost: str
    apply: Callable[[Setting], Setting | None]


@dataclass(frozen=True, slots=True)
class Change(Generic[Setting]):
    """Changes that, made together, bring the need down to `bytes`, and the setting after them."""

    what: tuple[str, ...]
    cost: tuple[str, ...]
    bytes: int
    verdict: Verdict
    setting: Setting


def changes(
    setting: Setting,
    steps: Callable[[int], Sequence[Step[Setting]]],
    need: Callable[[Setting], int],
    usable: int,
) -> tuple[Change[Setting], ...]:
    """What to change so that the setting fits into `usable` bytes, the cheapest first.

    `steps(limit)` gives the steps ordered by what they cost; one that goes as far as it must goes as far as `limit`
    bytes ask. First come the steps that fit it when they are made one after the other, less those that are not needed;
    the same for a fit that leaves room; then every single step that does alone. Empty where all of them do not do.
    """
    sure = int(SURE * usable)
    found = [_together(setting, steps(limit), need, limit, usable) for limit in (usable, sure)]
    for step in steps(sure):
        after = step.apply(setting)
        if after is not None and need(after) <= usable:
            found.append(_change(setting, [step], need, usable))
    different = {change.what: change for change in reversed(found) if change}  # the first of its kind stays
    return tuple(change for change in found if change and different.pop(change.what, None))


def _together(
    setting: Setting, steps: Sequence[Step[Setting]], need: Callable[[Setting], int], limit: int, usable: int
) -> Change[Setting] | None:
    made: list[Step[Setting]] = []
    for step in steps:
        if step.apply(_after(setting, made)) is None:
            continue
        made.append(step)
        if need(_after(setting, made)) <= limit:
            break
    else:
        return None
    for step in reversed(made[:-1]):
        fewer = [each for each in made if each is not step]
        if need(_after(setting, fewer)) <= limit:
            made = fewer
    return _change(setting, made, need, usable)


def _change(
    setting: Setting, made: Sequence[Step[Setting]], need: Callable[[Setting], int], usable: int
) -> Change[Setting]:
    after = _after(setting, made)
    what, cost = tuple(step.what.format(after) for step in made), tuple(dict.fromkeys(step.cost for step in made))
    total = need(after)
    return Change(what, cost, total, verdict(total, usable), after)


def _after(setting: Setting, steps: Sequence[Step[Setting]]) -> Setting:
    """The setting after these steps; one that does not apply any more changes nothing."""
    for step in steps:
        after = step.apply(setting)
        setting = setting if after is None else after
    return setting
