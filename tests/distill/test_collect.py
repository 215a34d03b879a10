"""Collecting over small engines: what is kept, what is asked again and of whom, where it stops, how it goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from collect_kit import SAMPLING, Notes, Paid, Sums, answered, problems, staff

from thinksmith.distill.collect import work
from thinksmith.distill.collect.budget import Budget
from thinksmith.distill.collect.collect import Collected, collect
from thinksmith.distill.collect.goal import Goal
from thinksmith.distill.collect.teachers import open_teachers
from thinksmith.engines.remote.wire.faults import Broken, Denied, Failed, Unreachable
from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem, Request, Trace, Verdict
from thinksmith.store.store import Store
from thinksmith.strategies.draws import request_for
from thinksmith.verify import batch, verify

GONE = Unreachable("nothing answers there")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


def gather(store: Store, *engines: Sums, goal: Goal = Goal("single", 3), **more: object) -> Collected:  # noqa: B008
    given = {"name": "sums", "goal": goal, "store": store, **more}
    asked = given.pop("problems", problems())
    teachers = given.pop("teachers", None) or staff(*engines)
    return collect(asked, teachers, **given)  # type: ignore[arg-type]


def kept(store: Store, run: str = "last") -> dict[tuple[str, int], Attempt]:
    return {(each.attempt.problem.id, each.attempt.sample): each.attempt for each in store.attempts(run)}


def seeds(engine: Sums) -> list[int]:
    return [request.sampling.seed for request in engine.asked]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are made for networks are too long for tests."""
    monkeypatch.setattr(work, "WAIT", 0.02)
    monkeypatch.setattr("thinksmith.distill.collect.teachers.FIRST_PAUSE", 0.05)


@pytest.mark.parametrize("goal", [Goal("single", 3), Goal("first", 5), Goal("correct", 2, 6)])
def test_every_draw_is_verified_and_kept_before_it_is_told_of(store: Store, goal: Goal) -> None:
    engine, notes = Sums(), Notes()

    def is_there(attempt: Attempt) -> None:
        assert (attempt.problem.id, attempt.sample) in store.done("last")

    notes.on_attempt = is_there
    done = gather(store, engine, goal=goal, watcher=notes)
    expected = {}
    for problem in problems():
        right = 0
        for number in range(goal.tries):
            trace = answered(request_for(problem, SAMPLING, number))
            verdict = verify(problem, trace)
            expected[problem.id, number] = Attempt(problem, trace, verdict, number, goal.spec)
            right += verdict.correct
            if goal.judges and right == goal.wanted:
                break
    assert kept(store) == expected
    assert {(each.problem.id, each.sample) for each in notes.attempts} == expected.keys()
    assert sorted(seeds(engine)) == sorted(attempt.trace.sampling.seed for attempt in expected.values())
    assert done.complete
    assert done.ledger.attempts == len(expected)
    assert done.ledger.tokens == sum(attempt.trace.tokens for attempt in expected.values())
    run = store.run("last")
    assert (run.kind, run.status, run.model, run.summary["attempts"]) == ("collect", "done", "sums", len(expected))


def test_a_complete_run_is_told_again_and_nothing_is_asked(store: Store) -> None:
    first = gather(store, Sums())
    engine = Sums()
    second = gather(store, engine, problems=problems()[::-1])
    assert engine.asked == []
    assert (second.run_id, second.complete, second.reached) == (first.run_id, True, 12)
    assert second.ledger.accounts == first.ledger.accounts


@pytest.mark.parametrize("change", [{"goal": Goal("single", 4)}, {"name": "x"}, {"problems": problems(11)}])
def test_only_the_same_is_gone_on_with(store: Store, change: dict[str, object]) -> None:
    first = gather(store, Sums())
    assert gather(store, Sums(), **change).run_id != first.run_id
    assert gather(store, teachers=staff(Sums(), sampling=replace(SAMPLING, seed=4))).run_id != first.run_id
    assert gather(store, Sums("other")).run_id != first.run_id


def test_with_into_other_teachers_and_more_draws_go_on_with_a_run(store: Store) -> None:
    first = gather(store, Sums(), goal=Goal("single", 2))
    engine = Sums("other")
    second = gather(store, engine, goal=Goal("single", 4), into=first.run_id)
    assert second.run_id == first.run_id
    assert len(engine.asked) == 24
    assert Counter(each.trace.model for each in kept(store).values()) == {"sums": 24, "other": 24}
    with pytest.raises(UserError, match="other problems"):
        gather(store, Sums(), into=first.run_id, problems=problems(3))
    run = store.start_run("eval", "x", "m")
    with pytest.raises(UserError, match="kind eval"):
        gather(store, Sums(), into=run)


def test_teachers_share_the_work_by_their_room_and_a_slow_one_does_not_hold_the_rest(store: Store) -> None:
    fast, slow = Sums("fast", script=lambda request: 0.001), Sums("slow", script=lambda request: 0.5)
    began = time.monotonic()
    done = gather(store, problems=problems(100), goal=Goal("single", 2), teachers=staff(fast, slow, most=(8, 4)))
    seconds = time.monotonic() - began
    assert done.complete
    assert (fast.most_held, slow.most_held) == (8, 4)
    assert len(slow.asked) <= 4 * (seconds / 0.5 + 1)
    assert len(fast.asked) > len(slow.asked)
    assert {each.trace.model for each in kept(store).values()} == {"fast", "slow"}


def test_a_dead_teachers_draws_go_to_the_other_and_it_is_set_aside_in_one_line(store: Store) -> None:
    notes, dead = Notes(), Sums("dead", script=lambda request: GONE)
    done = gather(store, Sums("alive", script=lambda request: 0.002), dead, problems=problems(60), watcher=notes)
    assert done.complete
    assert done.failed == {"alive": 0, "dead": len(dead.asked)}
    assert len(dead.asked) <= 16 + 2
    assert [note for note in notes.notes if "dead" in note] == [
        "dead is set aside after 3 failures in a row and tried again in 15 s: nothing answers there"
    ]
    assert len(kept(store)) == 180


def test_one_that_was_away_for_a_while_comes_back(store: Store, hurried: None) -> None:
    notes, calls = Notes(), []

    def script(request: Request) -> Trace | Exception | float | None:
        calls.append(request)
        return Failed("HTTP 500") if 20 <= len(calls) < 30 else 0.001

    done = gather(store, Sums(script=script, slots=4), watcher=notes)
    assert done.complete
    assert done.failed["sums"] == 10
    assert any("set aside" in note for note in notes.notes)
    assert notes.notes[-1].endswith("sums answers again") or "sums answers again" in notes.notes
    assert len(kept(store)) == 36


def test_a_wrong_key_ends_it_at_once_and_elsewhere_is_gone_on_with(store: Store) -> None:
    notes = Notes()
    done = gather(store, Sums("good"), Sums("closed", script=lambda request: Denied("no key")), watcher=notes)
    assert done.complete
    assert "closed is asked no more: no key" in notes.notes
    with pytest.raises(UserError, match="no key"):
        gather(store, Sums("closed", script=lambda request: Denied("no key")))


def test_an_endpoint_that_was_never_there_is_told_at_once(store: Store) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="nothing answers there"):
        gather(store, Sums(script=lambda request: GONE))
    assert time.monotonic() - began < 12  # and not the pause of one that is set aside


def test_when_nobody_answers_any_more_it_stops_and_keeps_what_came(
    store: Store, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "SILENCE", 0.3)
    engine = Sums(slots=2)
    engine.script = lambda request: GONE if len(engine.asked) > 10 else None
    with pytest.raises(UserError, match="10 attempts are kept, and the same command goes on") as told:
        gather(store, engine)
    assert "nothing answers there" in str(told.value)
    assert len(kept(store)) == 10
    again = Sums()
    assert gather(store, again).complete
    assert len(again.asked) == 26
    assert len(store.runs()) == 1


def test_a_draw_that_fails_again_and_again_is_given_up_and_made_by_the_next_call(store: Store, hurried: None) -> None:
    bad = request_for(problems()[5], SAMPLING, 1).sampling.seed

    def script(request: Request) -> Exception | None:
        return Broken("cut in the middle") if request.sampling.seed == bad else None

    engine = Sums(script=script)
    done = gather(store, engine)
    assert (done.complete, done.given_up, done.why) == (False, 1, "cut in the middle")
    assert seeds(engine).count(bad) == work.ASKED_AGAIN
    assert store.run("last").status == "running"
    other = Sums()
    assert gather(store, other).complete
    assert seeds(other) == [bad]


def test_what_fails_at_one_teacher_goes_to_another_also_where_the_model_refuses(store: Store) -> None:
    def refuses(request: Request) -> Trace:
        return Trace("", "", "none", finish="error", error="the prompt is too long", model="short")

    done = gather(store, Sums("short", script=refuses, slots=2), Sums("long", script=lambda request: 0.002))
    assert done.complete
    assert {each.trace.model for each in kept(store).values()} == {"long"}
    alone = gather(store, Sums("short", script=refuses), name="alone")
    assert alone.ledger.accounts["short"].statuses == {"error": 36}
    assert alone.complete


def test_what_a_teacher_can_never_do_is_asked_of_it_once(store: Store) -> None:
    lacking = Sums("lacking", script=lambda request: UserError("it is not recorded"))
    done = gather(store, lacking, Sums("whole", script=lambda request: 0.001))
    assert done.complete
    assert max(Counter(seeds(lacking)).values()) == 1
    with pytest.raises(UserError, match="it is not recorded"):
        gather(store, Sums("lacking", script=lambda request: UserError("it is not recorded")))


def test_a_fault_of_ours_keeps_its_traceback_and_what_came(store: Store, hurried: None) -> None:
    engine = Sums()
    engine.script = lambda request: ZeroDivisionError("ours") if request.messages[0]["content"] == "5 + 6" else None
    with pytest.raises(RuntimeError, match="ZeroDivisionError: ours") as told:
        gather(store, engine)
    assert isinstance(told.value.__cause__, ZeroDivisionError)
    assert len(kept(store)) == 33


def test_what_hangs_at_the_end_is_taken_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "OVERDUE", 0.2)
    hanging = Sums("hanging", slots=3, script=lambda request: 600.0)
    began = time.monotonic()
    done = gather(store, hanging, Sums("quick", script=lambda request: 0.001))
    assert time.monotonic() - began < 20
    assert done.complete
    assert hanging.cancelled == len(hanging.asked) == 3
    assert {each.trace.model for each in kept(store).values()} == {"quick"}


def test_nothing_is_taken_from_the_only_teacher(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "OVERDUE", 0.05)
    monkeypatch.setattr(work, "OVERDUE_TIMES", 0.0)
    engine = Sums(slots=2, script=lambda request: 0.15)
    assert gather(store, engine, problems=problems(3), goal=Goal("single", 1)).complete
    assert engine.cancelled == 0


@pytest.mark.parametrize("amount", [40, 100, 333])
def test_a_budget_of_tokens_is_never_overdrawn_and_a_larger_one_goes_on(store: Store, amount: int) -> None:
    engine = Sums(script=lambda request: 0.001)
    done = gather(store, engine, budget=Budget(amount, "tokens"))
    assert (done.stopped, done.complete) == ("budget", False)
    assert amount - SAMPLING.max_tokens < done.ledger.tokens <= amount
    before = kept(store)
    assert len(before) == len(engine.asked)
    other = Sums()
    more = gather(store, other, budget=Budget(10_000, "tokens"))
    assert more.complete
    assert more.run_id == done.run_id
    assert not set(seeds(engine)) & set(seeds(other))
    assert before.items() <= kept(store).items()
    assert gather(store, Sums(), name="whole").ledger.tokens == more.ledger.tokens


def test_a_budget_of_money_is_never_overdrawn(store: Store) -> None:
    done = gather(store, Paid(price=0.01), budget=Budget(1.0, "usd"))
    assert done.stopped == "budget"
    assert done.ledger.cost is not None
    assert 0.6 < done.ledger.cost <= 1.0
    with pytest.raises(UserError, match="does not do for one attempt"):
        gather(store, Paid(price=0.01), budget=Budget(0.3, "usd"))


def test_the_cheaper_teacher_goes_on_where_the_dearer_would_overdraw(store: Store) -> None:
    done = gather(store, Paid("dear", price=0.1), Paid("cheap", price=0.001), budget=Budget(8.0, "usd"))
    assert done.complete
    assert done.ledger.cost is not None
    assert done.ledger.cost <= 8
    assert done.ledger.accounts["dear"].attempts >= 1


def test_the_first_few_tell_what_all_would_take(store: Store) -> None:
    many, notes = problems(100), Notes()
    done = gather(store, Paid(), problems=many, first_only=True)
    assert (done.stopped, done.ledger.attempts) == ("first", 16)
    assert done.estimate is not None
    assert done.estimate.attempts == 300
    assert done.estimate.tokens == pytest.approx(300 * done.ledger.tokens / 16)
    assert done.estimate.cost == pytest.approx(0.01 * done.estimate.tokens)
    again = Paid()
    assert gather(store, again, problems=many, first_only=True).estimate == done.estimate
    assert again.asked == []
    whole = gather(store, Paid(), problems=many, watcher=notes)
    assert whole.complete
    assert whole.run_id == done.run_id
    assert whole.estimate == done.estimate
    assert whole.ledger.tokens == pytest.approx(done.estimate.tokens, rel=0.35)


def test_an_estimate_beyond_the_budget_is_said(store: Store) -> None:
    notes = Notes()
    gather(store, Sums(), problems=problems(100), watcher=notes, budget=Budget(700, "tokens"))
    (told,) = (note for note in notes.notes if note.startswith("estimate"))
    assert "the budget of 700 tokens ends it before" in told


def test_a_teacher_that_never_closes_its_thinking_is_warned_of_and_nothing_is_lost(store: Store) -> None:
    def cut(request: Request) -> Trace:
        ids = tuple(range(40))
        return Trace("hm hm", "", "truncated", ids, finish="length", sampling=request.sampling, model="sums")

    notes = Notes()
    done = gather(store, Sums(script=cut), watcher=notes)
    warned = [note for note in notes.notes if note.startswith("warning")]
    assert len(warned) == len(done.warnings) == 1
    assert "--max-tokens" in warned[0]
    assert len(kept(store)) == 36
    assert gather(store, Sums(script=cut)).warnings == done.warnings


def test_slow_verdicts_do_not_hold_the_requests_and_never_many_wait_for_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, most = [], []

    def slowly(problem: Problem, trace: Trace) -> Verdict:
        most.append(len(waiting))
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.002)
        waiting.pop()
        return Verdict("correct", 1.0)

    def script(request: Request) -> None:
        waiting.append(request)

    monkeypatch.setattr(batch, "verify", slowly)
    monkeypatch.setattr(work, "UNJUDGED", 10)
    maths = [replace(problem, kind="math") for problem in problems(60)]
    engine = Sums(script=script, slots=8)
    assert gather(store, engine, problems=maths, goal=Goal("single", 2)).complete
    assert 8 < max(most) <= 10 + 8 + 8


def test_problems_without_gold_are_collected_where_no_verdict_is_needed(store: Store) -> None:
    some = [replace(problem, answer=None) for problem in problems(3)] + [Problem("j/1", "1 + 1", None, "judge")]
    done = gather(store, Sums(), problems=some, goal=Goal("single", 2))
    assert done.complete
    statuses = {name: attempt.verdict.status for (name, _), attempt in kept(store).items()}
    assert statuses == {"sum/0": "bad_gold", "sum/1": "bad_gold", "sum/2": "bad_gold", "j/1": "error"}
    with pytest.raises(UserError, match=r"first stops by verdicts, and 4 of 4 problems .*sum/0.*single"):
        gather(store, Sums(), problems=some, goal=Goal("first", 2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"problems": []}, "the set is empty"),
        ({"problems": [*problems(2), *problems(1)]}, "2 problems have the id 'sum/0'"),
        ({"teachers": staff(Sums(), Sums())}, "2 teachers are 'sums'"),
        ({"problems": [Problem("a", "1 + 1", "2", "nubmer")]}, "did you mean 'number'"),
        ({"teachers": staff(Sums(), sampling=replace(SAMPLING, temperature=0))}, "temperature 0"),
        ({"budget": Budget(39, "tokens")}, "does not do for one attempt"),
        ({"into": "nothing"}, "no run"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_asked(store: Store, given: dict[str, object], said: str) -> None:
    engine = Sums()
    with pytest.raises(UserError, match=said):
        gather(store, engine, **given)
    assert engine.asked == []
    assert "\n" not in said


def test_a_store_that_fails_ends_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(run: str, attempts: object) -> list[int]:
        raise UserError("the disk is full")

    monkeypatch.setattr(store, "add", full)
    engine = Sums()
    with pytest.raises(UserError, match="the disk is full"):
        gather(store, engine, problems=problems(2000))
    assert len(engine.asked) < 2000


def test_a_store_that_has_room_again_has_what_was_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add, calls = store.add, []

    def full_once(run: str, attempts: list[Attempt]) -> list[int]:
        calls.append(len(attempts))
        if len(calls) == 1:
            raise UserError("the disk is full")
        return add(run, attempts)

    monkeypatch.setattr(store, "add", full_once)
    with pytest.raises(UserError, match="the disk is full"):
        gather(store, Sums())
    assert len(kept(store)) >= calls[0] > 0


def test_a_reader_that_goes_away_ends_it_with_all_kept(store: Store) -> None:
    notes = Notes()

    def gone(attempt: Attempt) -> None:
        if len(notes.attempts) == 5:
            raise BrokenPipeError("nobody reads")

    notes.on_attempt = gone
    answers = 100  # then the teacher falls silent: only the reader's going can end it
    engine = Sums(slots=2, script=lambda request: None if len(engine.asked) <= answers else 60.0)
    with pytest.raises(BrokenPipeError):
        gather(store, engine, problems=problems(500), watcher=notes)
    assert seeds(engine)[: len(kept(store))] == [each.trace.sampling.seed for each in kept(store).values()]
    assert 5 <= len(kept(store)) <= answers
    assert engine.cancelled <= engine.slots


def test_ctrl_c_keeps_all_that_was_answered_verdicts_that_were_due_included(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sent: list[float] = []

    def slowly(problem: Problem, trace: Trace) -> Verdict:
        if not sent and len(engine.asked) > 20:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return Verdict("correct", 1.0)

    monkeypatch.setattr(batch, "verify", slowly)
    maths = [replace(problem, kind="math") for problem in problems(200)]
    answers: list[int] = []
    engine = Sums(script=lambda request: None, slots=8)
    usual = engine.usual

    def noted(request: Request) -> Trace:
        answers.append(request.sampling.seed)
        return usual(request)

    engine.usual = noted  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            gather(store, engine, problems=maths, goal=Goal("single", 1))
    finally:
        signal.signal(signal.SIGINT, before)
    stored = {attempt.trace.sampling.seed for attempt in kept(store).values()}
    assert stored == set(answers)
    assert len(stored) < 200
    other = Sums()
    assert gather(store, other, problems=maths, goal=Goal("single", 1)).complete
    assert not stored & set(seeds(other))


def test_a_cancellation_from_inside_an_engine_is_a_failure_and_no_silence(store: Store, hurried: None) -> None:
    class Odd(Sums):
        async def sample(self, request: Request) -> list[Trace]:
            if len(self.asked) == 3:
                self.asked.append(request)
                raise asyncio.CancelledError
            return await super().sample(request)

    done = gather(store, Odd())
    assert done.complete
    assert done.failed == {"sums": 1}


def test_recorded_attempts_are_a_teacher_too_and_cost_nothing(store: Store, tmp_path: Path) -> None:
    lines = [
        {
            "prompt": problem.text,
            "answer": problem.answer,
            "completion": f"<think>hm {at}</think>\nThe answer is {problem.answer}.",
        }
        for problem in problems()
        for at in range(3)
    ]
    (tmp_path / "recorded.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    name = f"replay/{tmp_path / 'recorded.jsonl'}"
    with open_teachers([name], lambda info: SAMPLING) as teachers:
        done = gather(store, teachers=teachers)
        again = gather(store, teachers=teachers)
    assert done.complete
    assert done.ledger.correct == 36
    assert done.ledger.cost == again.ledger.cost == 0
    assert {each.trace.thinking for each in kept(store).values()} == {"hm 0", "hm 1", "hm 2"}
