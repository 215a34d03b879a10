"""The driver and `single` over small real engines: back-pressure, failures, Ctrl-C, laziness."""

import asyncio
import itertools
import os
import signal
import threading
from dataclasses import dataclass, field, replace

import pytest

from thinksmith.engines.contract import Engine, EngineInfo
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.driver import Job, drive, run
from thinksmith.strategies.single import problem_seed, single


@dataclass
class Parrot:
    """An engine that repeats the prompt and its seed after `ticks` of the event loop; it holds `slots` requests."""

    slots: int = 8
    ticks: int = 3
    fails_on: str = "\0"
    held: int = 0
    most_held: int = 0
    requests: list[Request] = field(default_factory=list)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("parrot", prefill=True)

    @property
    def room(self) -> int:
        return max(0, self.slots - self.held)

    async def sample(self, request: Request) -> list[Trace]:
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        self.requests.append(request)
        try:
            for _ in range(self.ticks):
                await asyncio.sleep(0)
        finally:
            self.held -= 1
        text = request.messages[-1]["content"]
        if self.fails_on in text:
            raise ConnectionError(f"no answer to {text!r}")
        return [Trace("hm", f"{text}:{request.sampling.seed}", token_ids=(1, 2, 3), sampling=request.sampling)]

    def stream(self, request):
        raise NotImplementedError

    def sample_all(self, requests):
        return asyncio.run(self._all(requests))

    async def _all(self, requests):
        return list(await asyncio.gather(*map(self.sample, requests)))

    async def aclose(self) -> None: ...


def ask(job: Job, engine: Engine):
    return single(Sampling(seed=5), sample=job.sample)(job.problem, engine)


def jobs(count: int, samples: int = 1):
    return [Job(Problem(f"p{i}", f"question {i}"), sample) for i in range(count) for sample in range(samples)]


def test_every_job_ends_once_and_the_room_is_used_but_never_exceeded():
    engine, ended = Parrot(slots=7), []
    assert run(jobs(40, 3), ask, engine, lambda job, outcome: ended.append((job, outcome))) == ()
    assert len({(job.problem.id, job.sample) for job, _ in ended}) == len(ended) == len(engine.requests) == 120
    assert engine.most_held == 7
    for job, outcome in ended:
        assert outcome.answer == f"{job.problem.text}:{problem_seed(5, job.problem.id, job.sample)}"
        assert (outcome.tokens, outcome.why, len(outcome.traces)) == (3, "stop", 1)


def test_thousands_are_in_flight_where_there_is_room():
    engine, ended = Parrot(slots=100_000, ticks=10), []
    run(jobs(3000), ask, engine, lambda job, outcome: ended.append(job), limit=2000)
    assert (engine.most_held, len(ended)) == (2000, 3000)


def test_an_engine_that_never_has_room_still_gets_one_job_at_a_time():
    engine, ended = Parrot(slots=0), []
    run(jobs(5), ask, engine, lambda job, outcome: ended.append(job))
    assert (engine.most_held, len(ended)) == (1, 5)


def test_room_that_opens_while_no_job_ends_is_found():
    """A strategy may hold its job for long between two requests: the others go on."""
    engine, together = Parrot(slots=1), []

    async def meet(job: Job, engine: Engine) -> None:
        await ask(job, engine)
        together.append(job)
        while len(together) < 3:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(drive(jobs(3), meet, engine, lambda job, result: None), timeout=5))
    assert len(together) == 3


def test_jobs_are_pulled_only_when_there_is_room():
    engine, pulled = Parrot(slots=4), []

    def endless():
        for job in (Job(Problem(f"p{i}", "q")) for i in itertools.count()):
            pulled.append(job)
            yield job

    def stop_at_ten(job, outcome):
        if len(engine.requests) >= 10:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run(endless(), ask, engine, stop_at_ten)
    assert len(pulled) <= 10 + engine.slots
    assert engine.held == 0


def test_one_jobs_exception_is_its_own():
    engine, ended = Parrot(fails_on="7"), []
    failures = run(jobs(30), ask, engine, lambda job, outcome: ended.append(job.problem.id))
    assert sorted(failure.job.problem.id for failure in failures) == ["p17", "p27", "p7"]
    assert all(isinstance(failure.error, ConnectionError) for failure in failures)
    assert len(ended) == 27


def test_an_engine_that_cancels_a_request_makes_a_failure_not_a_silence():
    async def given_up(job: Job, engine: Engine) -> None:
        raise asyncio.CancelledError

    failures = run(jobs(3), given_up, Parrot(), lambda job, outcome: None)
    assert len(failures) == 3


def test_an_unreadable_source_of_jobs_stops_the_drive():
    def broken():
        yield Job(Problem("a", "a"))
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    with pytest.raises(UnicodeDecodeError):
        run(broken(), ask, Parrot(), lambda job, outcome: None)


def test_cancelling_the_drive_cancels_what_is_in_flight_and_keeps_what_ended():
    engine, ended = Parrot(slots=4, ticks=50), []

    async def scenario():
        task = asyncio.create_task(drive(jobs(100), ask, engine, lambda job, outcome: ended.append(job)))
        while len(ended) < 6:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert 6 <= len(ended) < 100
    assert engine.held == 0


@pytest.fixture
def interruptible():
    """A shell that starts a job in the background has it ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_run_with_keyboard_interrupt(interruptible):
    engine, ended = Parrot(slots=2, ticks=5), []
    many = (Job(Problem(f"p{i}", "q")) for i in range(20_000))

    def interrupt(job, outcome):
        ended.append(job)
        if len(ended) == 20:
            os.kill(os.getpid(), signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(KeyboardInterrupt):
        run(many, ask, engine, interrupt)
    assert 20 <= len(ended) < 20_000
    assert engine.held == 0


def test_seeds_differ_by_problem_and_sample_and_stay_the_same_over_releases():
    seeds = {problem_seed(0, f"p{i}", sample) for i in range(300) for sample in range(8)}
    assert len(seeds) == 2400
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert problem_seed(0, "p1", 12) != problem_seed(0, "p11", 2)
    assert problem_seed(0, "p", 0) != problem_seed(1, "p", 0)
    # A stored run can be repeated only as long as this never changes.
    assert problem_seed(0, "arithmetic/test/0", 0) == 655221362


def test_single_passes_the_sampling_and_the_prefill_on():
    engine = Parrot()
    sampling = Sampling(temperature=0.3, max_thinking_tokens=9, seed=4)
    outcome = asyncio.run(single(sampling, "Wait,", sample=2)(Problem("p", "q"), engine))
    assert isinstance(engine, Engine)
    (request,) = engine.requests
    assert request.prefill == "Wait,"
    assert request.sampling == replace(sampling, seed=problem_seed(4, "p", 2))
    assert outcome.traces[0].sampling == request.sampling
