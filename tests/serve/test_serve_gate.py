"""Admission: never more than there is room for, first come first served, and nobody who left holds a place."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thinksmith.serve.asked import Refusal
from thinksmith.serve.gate import Gate

EVENTS = st.lists(
    st.tuples(st.sampled_from(["come", "leave", "vanish"]), st.integers(1, 5), st.integers(0, 20)), max_size=60
)


@example(places=2, queue=5, events=[("come", 1, 0), ("come", 2, 0), ("come", 1, 0), ("vanish", 1, 1)])
@given(places=st.integers(1, 6), queue=st.integers(0, 5), events=EVENTS)
def test_places_are_never_oversold_and_all_come_back(
    places: int, queue: int, events: list[tuple[str, int, int]]
) -> None:
    async def play() -> None:
        gate, order, entered = Gate(places, queue), [], []
        tasks: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        numbered: dict[int, tuple[asyncio.Task[None], asyncio.Event]] = {}

        async def visit(number: int, weight: int, end: asyncio.Event) -> None:
            async with gate.enter(weight):
                entered.append(number)
                assert gate.running <= gate.places
                await end.wait()

        for number, (what, weight, which) in enumerate(events):
            alive = [each for each in tasks if not each[0].done()]
            if what == "come":
                end = asyncio.Event()
                task = asyncio.create_task(visit(number, weight, end))
                await asyncio.sleep(0)
                refused = task.done() and isinstance(task.exception(), Refusal)
                if refused:
                    assert gate.waiting == gate.queue, "refused although there was room to wait"
                else:
                    order.append(number)
                tasks.append((task, end))
                numbered[number] = task, end
            elif alive:
                task, end = alive[which % len(alive)]
                end.set() if what == "leave" else task.cancel()
                for _ in range(5):
                    await asyncio.sleep(0)
            assert 0 <= gate.running <= places
            assert gate.waiting <= queue
            waits = [number for number, (task, _) in numbered.items() if not task.done() and number not in entered]
            assert len(waits) == gate.waiting
            if waits:
                first = min(events[waits[0]][1], places)
                assert gate.running + first > places, "there is a place for the first who waits"
        for _, end in tasks:
            end.set()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert (gate.running, gate.waiting) == (0, 0)
        assert entered == sorted(entered), "somebody was overtaken"

    asyncio.run(play())


def test_who_is_refused_is_told_when_to_come_again() -> None:
    async def play() -> None:
        gate = Gate(1, 0)
        async with gate.enter(1):
            with pytest.raises(Refusal) as caught:
                async with gate.enter(1):
                    raise AssertionError("there was no place")
        assert caught.value.status == 429
        assert 1 <= (caught.value.retry_after or 0) <= 60

    asyncio.run(play())


def test_a_closed_gate_sends_those_away_that_wait_and_lets_the_others_finish() -> None:
    async def play() -> None:
        gate, end = Gate(1, 5), asyncio.Event()

        async def visit() -> str:
            async with gate.enter(1):
                await end.wait()
            return "done"

        first, second = asyncio.create_task(visit()), asyncio.create_task(visit())
        await asyncio.sleep(0)
        gate.close()
        with pytest.raises(Refusal) as caught:
            await second
        assert caught.value.status == 503
        end.set()
        assert await first == "done"
        assert gate.running == 0

    asyncio.run(play())
