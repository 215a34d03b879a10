"""The words, the search, and what to change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thinksmith.fit.plans.verdict import Step, changes, largest, verdict


def test_the_words() -> None:
    assert [verdict(need, 1000) for need in (0, 900, 901, 1000, 1001)] == ["yes", "yes", "tight", "tight", "no"]


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_the_largest_is_found_with_few_questions(limit: int, most: int) -> None:
    asked: list[int] = []

    def fits(number: int) -> bool:
        asked.append(number)
        return number <= limit

    assert largest(fits, most) == min(limit, most)
    assert len(asked) <= 25
    assert all(0 < number <= most for number in asked)


def halve(numbers: tuple[int, ...], at: int) -> tuple[int, ...] | None:
    return None if numbers[at] <= 1 else (*numbers[:at], numbers[at] // 2, *numbers[at + 1 :])


STEPS = tuple(Step(f"halve {at}", f"cost {at}", lambda numbers, at=at: halve(numbers, at)) for at in range(3))


def steps(limit: int) -> tuple[Step[tuple[int, ...]], ...]:
    return STEPS


def told(numbers: tuple[int, ...], usable: int) -> list[tuple[tuple[str, ...], int, str]]:
    return [(change.what, change.bytes, change.verdict) for change in changes(numbers, steps, sum, usable)]


def test_what_fits_comes_first_then_what_leaves_room_then_what_does_alone() -> None:
    assert told((40, 2, 60), 85) == [
        (("halve 0",), 82, "tight"),  # the cheapest
        (("halve 2",), 72, "yes"),  # halving the first one is not needed for that
    ]
    assert told((40, 10, 60), 80) == [
        (("halve 2",), 80, "tight"),
        (("halve 0", "halve 2"), 60, "yes"),
    ]


def test_where_none_does_alone_they_are_made_together_and_none_in_vain() -> None:
    assert told((40, 1, 60), 55) == [(("halve 0", "halve 2"), 51, "tight")]
    assert told((40, 1, 60), 50) == []


@given(st.lists(st.integers(1, 1000), min_size=3, max_size=3).map(tuple), st.integers(1, 3000))
def test_what_is_told_fits(numbers: tuple[int, ...], usable: int) -> None:
    for change in changes(numbers, steps, sum, usable):
        after = numbers
        for what in change.what:
            after = halve(after, int(what.split()[1])) or after
        assert change.setting == after
        assert change.bytes == sum(after) <= usable
        assert change.verdict == verdict(change.bytes, usable)


@given(st.lists(st.integers(1, 1000), min_size=3, max_size=3).map(tuple), st.integers(1, 3000))
def test_no_step_of_the_first_is_in_vain(numbers: tuple[int, ...], usable: int) -> None:
    for change in changes(numbers, steps, sum, usable)[:1]:
        for left_out in change.what:
            after = numbers
            for what in change.what:
                if what != left_out:
                    after = halve(after, int(what.split()[1])) or after
            assert sum(after) > usable or sum(numbers) <= usable
