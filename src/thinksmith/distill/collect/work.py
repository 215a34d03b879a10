"""The work of a collection: draws go to teachers that have room, and come back as attempts in the store, or as failures
that are asked again.

One loop gives out draws; each is a task that asks, verifies and stores. Room is free again when the answer is there, so
the next draw is asked while the verdict is found; but with many verdicts outstanding nothing more is asked, since what
is not stored yet would be lost by a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from thinksmith.distill.collect.agenda import Agenda, Draw
from thinksmith.distill.collect.budget import Budget
from thinksmith.distill.collect.early import Early
from thinksmith.distill.collect.ledger import Ledger, entry_of
from thinksmith.distill.collect.teachers import Teacher
from thinksmith.distill.collect.unclosed import Unclosed
from thinksmith.engines.remote.wire.faults import Busy, Fault, TimedOut, Unreachable
from thinksmith.errors import UserError, one_line
from thinksmith.records import Attempt, Trace, Verdict
from thinksmith.store.keeper import Keeper
from thinksmith.store.store import Store
from thinksmith.strategies.draws import request_for
from thinksmith.verify import judged, judged_beside
from thinksmith.verify.batch import THREADS

Stopped = Literal["", "budget", "first"]

ASKED_AGAIN = 3
"""Failures of its own after which a draw is given up; that a teacher is not there is no fault of a draw's."""
WAIT, LONGEST_WAIT = 5.0, 60.0
"""Seconds until a draw is asked again of a teacher that failed at it; twice as long each time. Others may at once."""
SILENCE = 600.0
"""Seconds for which all teachers may fail, where one has answered before, until the collection stops."""
OVERDUE, OVERDUE_TIMES = 60.0, 4.0
"""A draw is taken away from its teacher when another one has nothing to do, and it takes longer than so many seconds
and than so many times the longest that any other took."""
UNJUDGED = 64
"""Answers that may wait for their verdicts."""
HOPELESS = 8
"""Draws that may be given up before any teacher has answered."""

_LOOK_AGAIN_S = 0.05  # an engine may find room, and a pause may end, without any of our draws ending


class Watcher(Protocol):
    """Who looks on: the command line draws, a script may ignore it all."""

    def begin(self, ledger: Ledger, teachers: Sequence[Teacher], agenda: Agenda) -> None:
        """What is counted, and goes on being counted."""

    def attempt(self, attempt: Attempt) -> None:
        """One that is stored now."""

    def note(self, text: str) -> None:
        """A line for people: an estimate, a teacher that is set aside, a warning."""


@dataclass(slots=True)
class _Asked:
    """A draw that is under way, or waits to be asked again: `failed_at` are teachers that failed at it, `never` those
    that always would."""

    draw: Draw
    failures: int = 0
    waits: int = 0
    not_before: float = 0.0
    failed_at: set[str] = field(default_factory=set)
    never: set[str] = field(default_factory=set)
    began: float = 0.0
    taken_away: bool = False
    task: asyncio.Task[None] | None = None


class Work:
    """`drive` does all that there is to do; then `made` are the attempts of this call."""

    def __init__(
        self,
        teachers: Sequence[Teacher],
        agenda: Agenda,
        ledger: Ledger,
        store: Store,
        run: str,
        watcher: Watcher,
        early: Early,
        *,
        budget: Budget | None = None,
        prompt_tokens: int = 0,
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._teachers, self._agenda, self._ledger = teachers, agenda, ledger
        self._store, self._run, self._watcher, self._early, self._clock = store, run, watcher, early, clock
        self._keeper = Keeper(store, run, self._kept)
        self._budget, self._limit = budget, limit
        self._most = {each.name: budget.most(each, prompt_tokens) if budget else 0.0 for each in teachers}
        self._reserved = 0.0  # of the budget, for what is under way
        self._unclosed = Unclosed({each.name: each.sampling.max_tokens for each in teachers})
        self._again: list[_Asked] = []
        self._asking: dict[tuple[str, int], tuple[_Asked, Teacher]] = {}
        self._unjudged: dict[tuple[str, int], tuple[Draw, Trace]] = {}
        self._tasks = self._started = 0
        self._longest, self._last_answer = 0.0, clock()
        self._moved = asyncio.Event()
        self._judges = ThreadPoolExecutor(THREADS, "verify")
        self._broken: Exception | None = None
        self.made = 0
        self.failures: list[tuple[Draw, Exception]] = []
        """Draws that were given up, with what they failed with last."""

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._unclosed.warnings)

    def drive(self) -> Stopped:
        """Until there is nothing to do, the budget does not do for more, all new draws that the limit allows are made,
        or no teacher answers (UserError). Whatever happens, what has come is verified and stored."""
        try:
            self._warn()
            return asyncio.run(self._drive())
        finally:
            self._settle()

    async def _drive(self) -> Stopped:
        stopped: Stopped | None = None
        try:
            async with asyncio.TaskGroup() as group:
                while stopped is None:
                    self._check()
                    if self._start(group):
                        for _ in range(2):  # lets what was started reach the engines, so that their room counts it
                            await asyncio.sleep(0)
                        continue
                    if not self._tasks:
                        stopped = self._over()
                    else:
                        self._take_away()
                    if stopped is None:
                        await self._movement()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        assert stopped is not None
        return stopped

    def _check(self) -> None:
        """Raises what the store, or who looks on, failed with; or that there is no hope of any answer."""
        self._keeper.check()
        if self._broken:
            raise self._broken
        if len(self.failures) >= HOPELESS and not any(teacher.answered for teacher in self._teachers):
            raise self._nobody()

    async def _movement(self) -> None:
        """Wait until a draw ends, or for a moment."""
        # Not asyncio.wait_for: in Python 3.11 it swallows a cancellation that comes as the event is set.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await self._moved.wait()
        self._moved.clear()

    # Giving out

    def _start(self, group: asyncio.TaskGroup) -> int:
        """Give draws to teachers that have room, one each in turn; how many were given."""
        now, started = self._clock(), 0
        rooms = {teacher.name: teacher.room(now) for teacher in self._teachers}
        while any(rooms.values()) and len(self._unjudged) < UNJUDGED:
            for teacher in self._teachers:
                asked = self._next(teacher, now) if rooms[teacher.name] > 0 else None
                if asked is None:
                    rooms[teacher.name] = 0
                    continue
                rooms[teacher.name] -= 1
                started += 1
                self._begin(group, teacher, asked, now)
        return started

    def _next(self, teacher: Teacher, now: float) -> _Asked | None:
        """What this teacher is asked next: what failed before goes before what is new. To one that is tried again after
        failures goes what is new, so that a long absence is not counted against the same few draws."""
        if not self._affords(teacher):
            return None
        if teacher.aside and (new := self._new()):
            return new
        for at, asked in enumerate(self._again):
            fresh = teacher.name not in asked.failed_at
            if teacher.name not in asked.never and (fresh or now >= asked.not_before):
                return self._again.pop(at)
        return self._new()

    def _new(self) -> _Asked | None:
        """A draw that was not asked before, up to the limit of those."""
        if self._started == self._limit or (draw := self._agenda.next()) is None:
            return None
        self._started += 1
        return _Asked(draw)

    def _begin(self, group: asyncio.TaskGroup, teacher: Teacher, asked: _Asked, now: float) -> None:
        teacher.running += 1
        self._tasks += 1
        self._reserved += self._most[teacher.name]
        asked.began, asked.taken_away = now, False
        self._asking[asked.draw.key] = asked, teacher
        asked.task = group.create_task(self._one(teacher, asked))

    def _affords(self, teacher: Teacher) -> bool:
        """Is there enough of the budget for one more, should all that is under way take as much as it may?"""
        if self._budget is None:
            return True
        return self._budget.spent(self._ledger) + self._reserved + self._most[teacher.name] <= self._budget.amount

    def _take_away(self) -> None:
        """From teachers that hang, what another one could have done long ago. It is called when nothing was given."""
        now = self._clock()
        if len(self._unjudged) >= UNJUDGED:
            return
        idle = [teacher for teacher in self._teachers if not teacher.aside and teacher.room(now)]
        for asked, teacher in list(self._asking.values()):
            late = now - asked.began
            tried = asked.failed_at | asked.never | {teacher.name}
            if late > max(OVERDUE, OVERDUE_TIMES * self._longest) and any(each.name not in tried for each in idle):
                assert asked.task is not None
                asked.taken_away = True
                asked.task.cancel()

    def _over(self) -> Stopped | None:
        """Nothing is under way and nothing was given out: why? None: a teacher is set aside, and tried again later.

        Raises UserError when there is no hope of that.
        """
        there = [teacher for teacher in self._teachers if not teacher.out]
        hopeless = [each for each in self._again if there and all(teacher.name in each.never for teacher in there)]
        for asked in hopeless:  # those that could have been asked for it have gone
            self._again.remove(asked)
            self._give_up(asked, UserError("no teacher is left that could be asked for it"))
        if self._agenda.done:
            return ""
        if self._started == self._limit and not self._again:
            return "first"
        if there and not any(map(self._affords, there)):
            return "budget"
        answered = any(teacher.answered for teacher in self._teachers)
        silent = all(teacher.aside for teacher in there) and (
            not answered or self._clock() - self._last_answer > SILENCE
        )
        if not there or silent:
            raise self._nobody()
        return None

    def _nobody(self) -> UserError:
        why = next((teacher.why for teacher in self._teachers if teacher.why), "no teacher answers")
        kept = self._ledger.attempts
        return UserError(f"{why}; {kept:,} attempts are kept, and the same command goes on with them" if kept else why)

    # One draw

    async def _one(self, teacher: Teacher, asked: _Asked) -> None:
        """Ask, verify, store."""
        draw = asked.draw
        try:
            found = await self._answer(teacher, asked)
            if isinstance(found, Exception):
                self._failed(teacher, asked, found)
                return
            self._unjudged[draw.key] = draw, found
            attempt = self._attempt(draw, found, await judged_beside(draw.problem, found, self._judges))
            del self._unjudged[draw.key]  # from here on it is the keeper's, who loses nothing
            await self._keeper.keep([attempt])
            self._agenda.came(draw, attempt.verdict.status)
        finally:
            self._tasks -= 1
            self._reserved -= self._most[teacher.name]
            self._moved.set()

    async def _answer(self, teacher: Teacher, asked: _Asked) -> Trace | Exception:
        """The trace, or why there is none."""
        draw = asked.draw
        try:
            (trace,) = await teacher.engine.sample(request_for(draw.problem, teacher.sampling, draw.number))
        except Exception as error:
            return error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if asked.taken_away and task and task.uncancel() == 0:
                return TimedOut(f"{teacher.name} gave no answer for {self._clock() - asked.began:.0f} s")
            if task is None or task.cancelling():
                raise
            return RuntimeError("the engine cancelled the request")
        finally:
            teacher.running -= 1
            del self._asking[draw.key]
            self._moved.set()
        self._last_answer = self._clock()
        self._note(teacher.went_well())
        if trace.finish == "error" and self._another(teacher, asked):
            return UserError(trace.error or "the model failed")
        self._longest = max(self._longest, self._last_answer - asked.began)
        return trace

    def _another(self, teacher: Teacher, asked: _Asked) -> bool:
        """Is there another teacher who may do better at it?"""
        tried = asked.failed_at | asked.never | {teacher.name}
        return any(other.name not in tried and not other.out for other in self._teachers)

    def _failed(self, teacher: Teacher, asked: _Asked, error: Exception) -> None:
        """It is asked again, of another teacher at once or of this one later; or it is given up."""
        now = self._clock()
        self._note(teacher.went_wrong(error, now))
        if isinstance(error, UserError) and not isinstance(error, Fault):
            asked.never.add(teacher.name)
        elif not teacher.out and not isinstance(error, (Unreachable, Busy)):
            asked.failures += 1
        asked.failed_at.add(teacher.name)
        asked.not_before = now + min(WAIT * 2**asked.waits, LONGEST_WAIT)
        asked.waits += 1
        if asked.failures < ASKED_AGAIN and any(each.name not in asked.never for each in self._teachers):
            self._again.append(asked)
        else:
            self._give_up(asked, error)

    def _give_up(self, asked: _Asked, error: Exception) -> None:
        self.failures.append((asked.draw, error))
        self._agenda.gave_up(asked.draw)
        if self._early.gave_up(asked.draw.key):
            self._tell()

    def _attempt(self, draw: Draw, trace: Trace, verdict: Verdict) -> Attempt:
        lost = trace.usage.lost_tokens if trace.usage else 0
        notes = {"spent": trace.tokens + lost} if lost else {}
        return Attempt(draw.problem, trace, verdict, draw.number, self._agenda.goal.spec, notes)

    # What has come

    def _kept(self, attempt: Attempt) -> None:
        """It is on the disk. What who looks on fails with is raised where it stops the work."""
        entry = entry_of(attempt)
        self.made += 1
        self._ledger.add(entry)
        try:
            self._watcher.attempt(attempt)
            if self._early.came(entry):
                self._tell()
            self._warn()
        except Exception as error:
            self._broken = error

    def _tell(self) -> None:
        found = self._early.estimate
        assert found is not None
        ends = self._budget and found.takes_more(self._budget)
        self._note(f"estimate: {found}{f'; the budget of {self._budget} ends it before' if ends else ''}")

    def _warn(self, *, last: bool = False) -> None:
        for text in self._unclosed.look(self._ledger, last=last):
            self._note(f"warning: {text}")

    def _note(self, text: str) -> None:
        if text:
            self._watcher.note(text)

    def _settle(self) -> None:
        """Store what waits, then what was answered and not judged yet: it is paid for."""
        self._judges.shutdown(wait=False, cancel_futures=True)
        self._keeper.flush()
        left, self._unjudged = list(self._unjudged.values()), {}
        with ThreadPoolExecutor(THREADS, "verify") as judges:
            verdicts = list(judges.map(lambda each: judged(each[0].problem, each[1]), left))
        attempts = [self._attempt(draw, trace, verdict) for (draw, trace), verdict in zip(left, verdicts, strict=True)]
        self._store.add(self._run, attempts)
        for attempt in attempts:
            self._kept(attempt)
        self._early.finish()
        self._warn(last=True)


def why(failures: Sequence[tuple[Draw, Exception]]) -> str:
    """What the draws that were given up failed with, for people: the first, for all."""
    return one_line(failures[0][1]) if failures else ""
