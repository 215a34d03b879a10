"""Teachers by name, how much each gets at once, and when one is set aside and tried again."""

from __future__ import annotations

import pytest
from collect_kit import SAMPLING, Paid, Sums

from thinksmith.distill.collect.teachers import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Teacher, named, open_teachers
from thinksmith.engines.remote.wire.faults import Denied, Unreachable
from thinksmith.errors import UserError

GONE = Unreachable("nothing answers")


@pytest.mark.parametrize(
    ("text", "name", "most"),
    [
        ("tiny", "tiny", 0),
        (" tiny*8 ", "tiny", 8),
        ("vllm/a/b@http://box:8000*16", "vllm/a/b@http://box:8000", 16),
        ("vllm/m@http://box:8000?think=on * 4", "vllm/m@http://box:8000?think=on", 4),
        ("a*b/c", "a*b/c", 0),
    ],
)
def test_teachers_as_they_are_written(text: str, name: str, most: int) -> None:
    assert named(text) == (name, most)


@pytest.mark.parametrize("text", ["tiny*", "tiny*0", "tiny*many", "tiny*-1", "tiny*9999999", "", "  "])
def test_teachers_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError):
        named(text)


def test_the_same_teacher_twice_none_and_an_unknown_one_are_refused_and_all_are_closed() -> None:
    engines: list[Sums] = []

    def open_one(name: str, most: int) -> Sums:
        if name == "unknown":
            raise UserError("no model unknown")
        engines.append(Sums(name.removesuffix("/")))
        return engines[-1]

    for names, said in (
        ([], "name a teacher"),
        (["a", "a*4"], "named 2 times"),
        (["a", "a/"], "named 2 times"),
        (["a", "unknown"], "unknown"),
    ):
        with pytest.raises(UserError, match=said), open_teachers(names, lambda info: SAMPLING, open_one):
            raise AssertionError("opened")
    with open_teachers(["a*3", "b"], lambda info: SAMPLING, open_one) as teachers:
        assert [(teacher.name, teacher.most) for teacher in teachers] == [("a", 3), ("b", 0)]
    assert len(engines) >= 5
    assert all(engine.closed for engine in engines)


def test_a_teacher_gets_what_its_engine_wants_and_no_more_than_was_said() -> None:
    engine = Sums(slots=10)
    free, bounded = Teacher(engine, SAMPLING), Teacher(engine, SAMPLING, 4)
    assert (free.room(0), bounded.room(0)) == (10, 4)
    bounded.running = 3
    assert bounded.room(0) == 1
    bounded.running = 5
    assert bounded.room(0) == 0
    engine.held = 10
    assert free.room(0) == 1  # with none of ours running it may always have one
    free.running = 1
    assert free.room(0) == 0


def test_one_that_fails_is_set_aside_longer_and_longer_and_comes_back() -> None:
    teacher, now, told = Teacher(Sums(), SAMPLING), 100.0, []
    for _ in range(FAILURES - 1):
        assert teacher.went_wrong(GONE, now) == ""
    assert teacher.went_well() == ""
    told = [teacher.went_wrong(GONE, now) for _ in range(FAILURES)]
    assert told[:-1] == [""] * (FAILURES - 1)
    assert "set aside" in told[-1]
    assert "nothing answers" in told[-1]
    assert teacher.went_wrong(GONE, now) == ""  # it was asked before
    pause = FIRST_PAUSE
    for _ in range(8):
        assert teacher.room(now + pause - 0.1) == 0
        now += pause
        assert teacher.room(now) == 1
        teacher.running = 1
        assert teacher.room(now) == 0
        teacher.running = 0
        assert teacher.went_wrong(GONE, now) == ""
        pause = min(2 * pause, LONGEST_PAUSE)
    assert pause == LONGEST_PAUSE
    assert teacher.went_well() == "sums answers again"
    assert teacher.room(now) == 16
    assert teacher.failed == 2 * FAILURES + 8
    assert not teacher.aside


def test_one_that_refuses_is_asked_no_more_and_a_request_of_its_own_fault_says_nothing() -> None:
    teacher = Teacher(Sums(), SAMPLING)
    for _ in range(9):
        assert teacher.went_wrong(UserError("no such problem is recorded"), 0) == ""
    assert not teacher.aside
    assert "asked no more" in teacher.went_wrong(Denied("wrong key"), 0)
    assert teacher.room(1e9) == 0


def test_the_price() -> None:
    assert Teacher(Sums(), SAMPLING).cost(10, 10) == 0
    assert Teacher(Paid(), SAMPLING).cost(10, 10) == pytest.approx(0.1)
    assert Teacher(Paid(price=None), SAMPLING).cost(10, 10) is None
