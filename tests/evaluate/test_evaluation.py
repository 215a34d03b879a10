"""Evaluating end to end over a small real engine: counts, resuming after kill -9, failures, user mistakes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from thinksmith.engines.contract import EngineInfo
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.evaluate.statistics.stats import accuracy
from thinksmith.evaluate.summary import scores_by_problem, summarise
from thinksmith.records import Attempt, Problem, Request, Sampling, Trace, Verdict
from thinksmith.store.store import Store

SAMPLING = Sampling(temperature=1.0, seed=3)


@dataclass
class Adder:
    """Answers "a + b": rightly, wrongly, not at all or cut off, as the seed decides."""

    slots: int = 16
    pause: float = 0.0
    fails_while: bool = False
    held: int = 0
    asked: list[Request] = field(default_factory=list)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("adder", weights_hash="w1")

    @property
    def room(self) -> int:
        return self.slots - self.held

    async def sample(self, request: Request) -> list[Trace]:
        self.held += 1
        self.asked.append(request)
        await asyncio.sleep(self.pause)
        self.held -= 1
        text = request.messages[-1]["content"]
        if self.fails_while and text.startswith("7 "):
            raise ConnectionError("no route")
        a, b = map(int, text.split(" + "))
        seed = request.sampling.seed
        thinking = f"{text} = {a + b}." + (" Wait, let me check." if seed % 2 else "")
        answer, status = [
            (f"The answer is {a + b}.", "closed"),
            (f"The answer is {a + b + 1}.", "closed"),
            ("I cannot tell", "closed"),
            ("", "truncated"),
        ][max(0, seed % 7 - 3)]
        tokens = tuple(range(10 + seed % 5))
        return [Trace(thinking, answer, status, tokens, thinking_tokens=8, sampling=request.sampling, model="adder")]

    def stream(self, request): ...

    def sample_all(self, requests): ...

    async def aclose(self) -> None: ...


def problems(count=40):
    return [Problem(f"{'odd' if a % 2 else 'even'}/{a}", f"{a} + 5", str(a + 5), "number") for a in range(count)]


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield store


def test_every_attempt_is_stored_and_summed_up(store):
    seen = []
    run_id, summary = evaluate(
        problems(), Adder(), sampling=SAMPLING, samples=3, store=store, name="sums", on_attempt=seen.append
    )
    stored = [each.attempt for each in store.attempts(run_id)]
    assert stored == seen
    assert {(a.problem.id, a.sample) for a in stored} == {(p.id, s) for p in problems() for s in range(3)}
    assert sum(summary.counts.values()) == 120
    assert min(summary.counts[status] for status in ("correct", "wrong", "no_answer", "truncated")) > 0
    assert summary.accuracy.mean == pytest.approx(summary.counts["correct"] / 120)
    assert (summary.accuracy.problems, summary.accuracy.attempts) == (40, 120)
    assert set(summary.families) == {"odd", "even"}
    assert summary.tokens_per_s > 0
    assert f"{summary.counts['truncated']} truncated, {summary.counts['no_answer']} no answer" in summary.line
    run = store.run(run_id)
    assert run.status == "done"
    assert run.summary["accuracy"]["mean"] == summary.accuracy.mean


def test_a_finished_run_is_not_gone_on_with_and_repeats_exactly(store):
    first, one = evaluate(problems(), Adder(), sampling=SAMPLING, store=store, name="sums")
    second, two = evaluate(problems()[::-1], Adder(slots=1), sampling=SAMPLING, store=store, name="sums")
    assert first != second
    assert (one.accuracy, one.counts, one.families) == (two.accuracy, two.counts, two.families)


def test_a_finished_run_is_taken_as_it_stands_where_that_is_asked_for(store):
    first, one = evaluate(problems(), Adder(), sampling=SAMPLING, store=store, name="sums")
    engine = Adder()
    seen = []
    second, two = evaluate(
        problems(), engine, sampling=SAMPLING, store=store, name="sums", reuse=True, on_attempt=seen.append
    )
    assert (first, one) == (second, two)
    assert (len(engine.asked), len(seen)) == (0, len(problems()))
    third, three = evaluate(problems(), engine, sampling=SAMPLING, store=store, name="other", reuse=True)
    assert third != first
    assert (three.accuracy, len(engine.asked)) == (one.accuracy, 0)  # the same weights were asked the same before
    evaluate(problems(), engine, sampling=SAMPLING, store=store, name="other", fresh=True)
    assert len(engine.asked) == len(problems())


def test_a_subset_draws_what_the_whole_set_draws(store):
    whole, _ = evaluate(problems(), Adder(), sampling=SAMPLING, samples=2, store=store, name="a")
    some, _ = evaluate(problems()[5:9], Adder(), sampling=SAMPLING, samples=2, store=store, name="b")
    answers = {(s.attempt.problem.id, s.attempt.sample): s.attempt.trace for s in store.attempts(whole)}
    for each in store.attempts(some):
        assert answers[each.attempt.problem.id, each.attempt.sample] == each.attempt.trace


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from test_evaluation import SAMPLING, Adder, Store, evaluate, problems
with Store.open(sys.argv[1]) as store:
    evaluate(problems(), Adder(slots=2, pause=0.03), sampling=SAMPLING, samples=2, store=store, name="sums")
"""


def test_kill_9_loses_nothing_finished_and_the_resumed_run_ends_as_the_uninterrupted(store, tmp_path):
    path = tmp_path / "killed.db"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)])
    with Store.open(path) as killed:
        deadline = time.monotonic() + 60
        while (not (runs := killed.runs()) or runs[0].attempts < 10) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        done = len(killed.done("last"))
        assert 10 <= done < 80
        engine = Adder()
        run_id, summary = evaluate(problems(), engine, sampling=SAMPLING, samples=2, store=killed, name="sums")
        assert run_id == killed.runs()[0].id
        assert len(killed.runs()) == 1
        assert len(engine.asked) == 80 - done
        resumed = {(s.attempt.problem.id, s.attempt.sample): s.attempt.trace.text for s in killed.attempts(run_id)}
    whole, uninterrupted = evaluate(problems(), Adder(), sampling=SAMPLING, samples=2, store=store, name="sums")
    assert (summary.accuracy, summary.counts) == (uninterrupted.accuracy, uninterrupted.counts)
    texts = {(s.attempt.problem.id, s.attempt.sample): s.attempt.trace.text for s in store.attempts(whole)}
    assert resumed == texts


@pytest.mark.parametrize(
    "change", [{"sampling": Sampling(seed=4)}, {"samples": 2}, {"name": "other"}, {"problems": problems(39)}]
)
def test_only_the_same_run_is_gone_on_with(store, change):
    call = {"problems": problems(), "sampling": SAMPLING, "samples": 1, "name": "sums", **change}
    with pytest.raises(UserError):
        evaluate(problems(), Adder(fails_while=True), sampling=SAMPLING, store=store, name="sums")
    evaluate(call.pop("problems"), Adder(), store=store, **call)
    assert len(store.runs()) == 2


def test_failures_are_told_not_stored_and_made_again(store):
    with pytest.raises(UserError, match=r"1 of 40 attempts failed \(ConnectionError: no route\)") as told:
        evaluate(problems(), Adder(fails_while=True), sampling=SAMPLING, store=store, name="sums")
    (run,) = store.runs()
    assert run.id in str(told.value)
    assert (run.status, run.attempts) == ("running", 39)
    engine = Adder()
    run_id, summary = evaluate(problems(), engine, sampling=SAMPLING, store=store, name="sums")
    assert (run_id, len(engine.asked), summary.accuracy.attempts) == (run.id, 1, 40)


def test_a_fault_of_ours_is_no_users_mistake(store):
    bad = [Problem("a/1", "not a sum", "5")]
    with pytest.raises(RuntimeError) as told:
        evaluate(bad, Adder(), sampling=SAMPLING, store=store, name="sums")
    assert isinstance(told.value.__cause__, ValueError)


def test_ctrl_c_leaves_a_run_to_go_on_with(store):
    sent = []

    def interrupt(attempt):
        seen = store.done("last")
        assert (attempt.problem.id, attempt.sample) in seen
        if len(seen) >= 7 and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    with pytest.raises(KeyboardInterrupt):
        evaluate(
            problems(), Adder(slots=2, pause=0.02), sampling=SAMPLING, store=store, name="sums", on_attempt=interrupt
        )
    (run,) = store.runs()
    assert run.status == "running"
    assert 7 <= run.attempts < 40
    assert evaluate(problems(), Adder(), sampling=SAMPLING, store=store, name="sums")[0] == run.id


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"problems": []}, "empty"),
        ({"problems": problems(3) * 2}, "2 problems have the id"),
        ({"problems": [Problem("a", "1 + 2", "3", "nubmer")]}, "number"),
        ({"samples": 0}, "samples"),
        ({"strategy": "psychic"}, "single"),
    ],
)
def test_user_mistakes_are_told_before_anything_is_spent(store, change, told):
    engine = Adder()
    call = {"problems": problems(), "sampling": SAMPLING, "name": "x", **change}
    with pytest.raises(UserError, match=told) as error:
        evaluate(call.pop("problems"), engine, store=store, **call)
    assert "\n" not in str(error.value)
    assert engine.asked == []
    assert store.runs() == []


def attempt(problem, status, score=0.0, thinking="", sample=0, tokens=5, finish="stop"):
    trace = Trace(thinking, "", thinking_tokens=tokens, finish=finish)
    return Attempt(Problem(problem, "q", "1"), trace, Verdict(status, score), sample)


def test_what_our_side_could_not_decide_says_nothing_about_the_model_but_its_own_failures_count():
    attempts = [
        attempt("f/1", "correct", 1.0),
        attempt("f/2", "error", finish="error"),  # the engine failed
        attempt("f/3", "bad_gold"),
        attempt("f/4", "error"),  # the verifier failed
        attempt("f/5", "timeout"),
    ]
    summary = summarise(attempts)
    assert summary.accuracy == accuracy({"f/1": [1.0], "f/2": [0.0], "f/5": [0.0]})
    assert scores_by_problem(attempts) == {"f/1": [1.0], "f/2": [0.0], "f/5": [0.0]}
    assert summary.counts == {"correct": 1, "error": 2, "bad_gold": 1, "timeout": 1}
    assert "2 error, 1 bad gold, 1 timeout" in summary.line
    with pytest.raises(UserError, match="nothing to sum up"):
        summarise(attempts[2:4])


def test_the_thinking_is_summed_up():
    attempts = [
        attempt("f/1", "correct", 1.0, "2 + 2 = 4.\nLet me check: 4 - 2 = 2.", tokens=10),
        attempt("f/2", "wrong", 0.0, "2 + 2 = 5.\nWait, that is wrong. 2 + 2 = 4.", tokens=20),
        attempt("g/1", "wrong", 0.0, "I give up", tokens=90),
    ]
    summary = summarise(attempts)
    assert (summary.thinking_tokens.mean, summary.thinking_tokens.median) == (40, 20)
    assert summary.thinking_tokens.p95 == pytest.approx(83)
    assert summary.check_share == pytest.approx(1 / 3)
    assert summary.backtrack_share == pytest.approx(1 / 3)
    assert summary.true_share == pytest.approx((1 + 1 / 2) / 2)
    assert summary.tokens_per_s is None
    assert summarise(attempts[2:]).true_share is None
