"""Run problems through a strategy on an engine, check what comes, keep every attempt, and sum up. An unfinished run is
resumed, and what was sampled before is not sampled again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

from thinksmith.engines import open_engine
from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.evaluate.kept import Draws
from thinksmith.evaluate.summary import Summary, summarise_run
from thinksmith.records import Attempt, Problem, Sampling, Trace, Verdict
from thinksmith.store.keeper import Keeper
from thinksmith.store.store import Store, config_hash
from thinksmith.strategies.contract import Outcome
from thinksmith.strategies.driver import Failure, Job, drive
from thinksmith.strategies.names import STRATEGIES, Named, Opener
from thinksmith.strategies.names import strategy as named
from thinksmith.verify import judged_beside, require
from thinksmith.verify.model_judge import judge as ask_judge
from thinksmith.verify.verdict import JUDGED, TASK

SINGLE = "single"


def evaluate(
    problems: Sequence[Problem],
    engine: Engine,
    *,
    sampling: Sampling,
    store: Store,
    name: str,
    samples: int = 1,
    strategy: str = SINGLE,
    judge: Engine | None = None,
    reuse: bool = False,
    fresh: bool = False,
    open: Opener = open_engine,
    on_attempt: Callable[[Attempt], None] | None = None,
) -> tuple[str, Summary]:
    """Make `samples` attempts at every problem by a strategy (`strategies/names.py`); return the run's id in the store
    and the summary.

    Each attempt is in the store before it is told of, so a run that was killed loses nothing finished; so are the
    traces that a strategy looked at on the way (`evaluate/kept.py`). An unfinished run of the same problems, model,
    sampling, samples, strategy and name is gone on with: seeds depend on the problem and the sample alone, so it ends
    as the uninterrupted one would. A finished one is begun anew, which gives the same attempts again (from the store,
    where a local model made them; with `fresh` they are sampled again); with `reuse` it is taken as it stands.
    `on_attempt` gets every attempt in the order of finishing, those of the resumed run first. `judge` is the model that
    is asked about problems of kind `judge`; `open` opens the other models that a strategy names.

    UserError: no problem, two problems with one id, an unknown strategy or kind of answer, tasks for an agent with a
    strategy that only answers, or what a kind needs (a judge, a sandbox) is not there; or attempts that raised an
    exception: these are not stored, the run stays unfinished, and the same call makes just those again. Ctrl-C raises
    KeyboardInterrupt and leaves the run to be resumed.
    """
    _check(problems, samples, judge)
    plan = named(strategy)
    _check_tasks(problems, plan)
    identity = (
        "eval",
        name,
        engine.info.name,
        engine.info.weights_hash,
        _config(problems, sampling, samples, plan.spec, judge),
    )
    found = (store.find_run if reuse else store.unfinished)("eval", config_hash(*identity))
    run_id = found.id if found else store.start_run(*identity)
    if on_attempt and found:
        for stored in store.attempts(run_id):
            on_attempt(stored.attempt)
    if found and found.finished:
        return run_id, summarise_run(store, run_id)
    work = _Work(engine, plan, sampling, judge, store, run_id, open, fresh, on_attempt or (lambda attempt: None))
    started = time.perf_counter()
    failures = work.drive(_jobs(problems, samples, store.done(run_id)))
    seconds = time.perf_counter() - started
    if failures:
        raise _failed(failures, len(problems) * samples, run_id)
    speed = work.sampled / seconds if work.sampled else None
    summary = replace(summarise_run(store, run_id), tokens_per_s=speed)
    store.finish_run(run_id, asdict(summary))
    return run_id, summary


class _Work:
    """What is done for one job: the strategy, over engines that remember, then the verdict, then the store."""

    def __init__(
        self,
        engine: Engine,
        plan: Named,
        sampling: Sampling,
        judge: Engine | None,
        store: Store,
        run_id: str,
        open: Opener,
        fresh: bool,
        on_kept: Callable[[Attempt], None],
    ) -> None:
        self._engine, self._plan, self._sampling, self._judge = engine, plan, sampling, judge
        self._store, self._run, self._open, self._fresh = store, run_id, open, fresh
        self._keeper = Keeper(store, run_id, on_kept)
        self._opened: dict[str, Engine] = {}
        self._draws = {engine.info.name: self._remembering(engine)}

    @property
    def sampled(self) -> int:
        """Tokens that were sampled now, and not found in the store."""
        return sum(draws.sampled for draws in self._draws.values())

    def drive(self, jobs: Iterator[Job]) -> tuple[Failure, ...]:
        """Do all of them. Whatever happens, what is finished is stored, and the models that were opened are closed."""
        finished = False
        try:
            failures = asyncio.run(self._drive(self._while_stored(jobs)))
            finished = not failures
        finally:
            self._keeper.flush()
            for draws in self._draws.values():
                draws.close(finished=finished)
        return failures

    def _while_stored(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """The jobs, until the store fails: that ends the drive."""
        for job in jobs:
            self._keeper.check()
            yield job

    async def _drive(self, jobs: Iterator[Job]) -> tuple[Failure, ...]:
        try:
            return await drive(jobs, self._attempt, self._engine, lambda job, done: None)
        finally:
            for engine in self._opened.values():
                with suppress(Exception):
                    await engine.aclose()

    async def _attempt(self, job: Job, engine: Engine) -> None:
        problem = job.problem

        def open_beside(name: str) -> Engine:
            return beside.enter_context(self._other(name).at(problem))

        with ExitStack() as beside:
            at_work = beside.enter_context(self._draws[self._engine.info.name].at(problem))
            strategy = self._plan.make(self._sampling, job.sample, open_beside)
            outcome = await strategy(problem, at_work)
        verdict = outcome.verdict or await _verdict(problem, outcome.chosen, self._judge)
        notes = {} if self._plan.name == SINGLE else _notes(outcome)
        await self._keeper.keep([Attempt(problem, outcome.chosen, verdict, job.sample, self._plan.spec, notes)])

    def _other(self, name: str) -> Draws:
        """Another model that the strategy names, opened once; the evaluated one is not opened again."""
        if name not in self._draws:
            self._opened[name] = self._open(name)
            self._draws[name] = self._remembering(self._opened[name])
        return self._draws[name]

    def _remembering(self, engine: Engine) -> Draws:
        config = {"of": self._run, "strategy": self._plan.spec}
        keep = self._plan.name != SINGLE
        return Draws(self._store, engine, self._plan.spec, config, elsewhere=not self._fresh, keep=keep)


def _notes(outcome: Outcome) -> dict[str, Any]:
    """What an attempt of several traces is stored with: what all of them took, and why no more were asked for."""
    costs = [trace.usage.cost for trace in outcome.traces if trace.usage and trace.usage.cost is not None]
    told = {"spent": outcome.tokens, "traces": len(outcome.traces), "why": outcome.why, **outcome.notes}
    return told | ({"cost": sum(costs)} if costs else {})


async def _verdict(problem: Problem, trace: Trace, judge: Engine | None) -> Verdict:
    if judge and problem.kind == JUDGED:
        return await ask_judge(problem, trace, judge.sample)
    return await judged_beside(problem, trace)


def _check(problems: Sequence[Problem], samples: int, judge: Engine | None) -> None:
    if not problems:
        raise UserError("there is no problem to evaluate: the set is empty")
    if samples < 1:
        raise UserError(f"samples must be at least 1, not {samples}")
    twice, times = Counter(problem.id for problem in problems).most_common(1)[0]
    if times > 1:
        raise UserError(f"{times} problems have the id {twice!r}: give each its own")
    kinds = {problem.kind for problem in problems} - {TASK}
    if judge and JUDGED not in kinds:
        raise UserError(f"a judge is asked about problems of kind {JUDGED}, and there are none: leave --judge out")
    for kind in kinds - {JUDGED} if judge else kinds:
        require(kind)  # before anything was spent


def _check_tasks(problems: Sequence[Problem], plan: Named) -> None:
    """UserError where tasks meet a strategy that only answers, or an agent problems that bring no tools."""
    known = STRATEGIES.get(plan.name)  # one of your own may do either
    task = next((problem for problem in problems if problem.kind == TASK), None)
    if known and task and not known.tasks:
        raise UserError(f"{task.id} is a task for an agent, and {plan.spec} only answers: --strategy agent")
    plain = next((problem for problem in problems if "world" not in problem.meta), None)
    if known and known.tasks and plain and not plan.options.get("tools"):
        raise UserError(f"{plain.id} brings no tools: name some, such as --strategy agent:tools=calculator+python")


def _config(
    problems: Sequence[Problem], sampling: Sampling, samples: int, strategy: str, judge: Engine | None
) -> dict[str, Any]:
    """What makes two runs the same. The problems' order is no part of it: seeds do not depend on it."""
    content = sorted(repr((problem.id, problem.text, problem.answer, problem.kind)) for problem in problems)
    asked = judge and any(problem.kind == JUDGED for problem in problems)
    named = {"judge": judge.info.name, "judge_hash": judge.info.weights_hash} if judge and asked else {}
    return {
        "problems": len(problems),
        "problems_hash": sha256("\n".join(content).encode()).hexdigest(),
        "samples": samples,
        "strategy": strategy,
        "sampling": asdict(sampling),
        **named,
    }


def _jobs(problems: Sequence[Problem], samples: int, done: set[tuple[str, int]]) -> Iterator[Job]:
    for sample in range(samples):
        for problem in problems:
            if (problem.id, sample) not in done:
                yield Job(problem, sample)


def _failed(failures: Sequence[Failure], of: int, run_id: str) -> Exception:
    error = failures[0].error
    kind = UserError if isinstance(error, UserError | OSError) else RuntimeError  # else ours: it keeps its traceback
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    told = kind(f"{len(failures)} of {of} attempts failed ({what}); run the same again to go on with {run_id}")
    told.__cause__ = error
    return told
