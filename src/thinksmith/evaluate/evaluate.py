"""Run problems through an engine, check every trace, keep every attempt, and sum up. An unfinished run is resumed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.evaluate.summary import Summary, summarise
from thinksmith.records import Attempt, Problem, Sampling, Trace, Verdict
from thinksmith.store.store import Store, config_hash
from thinksmith.strategies.contract import Strategy
from thinksmith.strategies.driver import Failure, Job, run
from thinksmith.strategies.single import single
from thinksmith.verify import require, verify
from thinksmith.verify.model_judge import judge as ask_judge
from thinksmith.verify.verdict import JUDGED

STRATEGIES: dict[str, Callable[[Sampling, int], Strategy]] = {
    "single": lambda sampling, sample: single(sampling, sample=sample),
}


def evaluate(
    problems: Sequence[Problem],
    engine: Engine,
    *,
    sampling: Sampling,
    store: Store,
    name: str,
    samples: int = 1,
    strategy: str = "single",
    judge: Engine | None = None,
    reuse: bool = False,
    on_attempt: Callable[[Attempt], None] | None = None,
) -> tuple[str, Summary]:
    """Make `samples` attempts at every problem; return the run's id in the store and the summary.

    Each attempt is in the store before the next result is looked at, so a run that was killed loses nothing finished.
    An unfinished run of the same problems, model, sampling, samples, strategy and name is gone on with: seeds depend on
    the problem and the sample alone, so it ends as the uninterrupted one would. A finished one is begun anew, which
    gives the same attempts again; with `reuse` it is taken as it stands. `on_attempt` gets every attempt in the order
    of finishing, those of the resumed run first. `judge` is the model that is asked about problems of kind `judge`.

    UserError: no problem, two problems with one id, an unknown strategy or kind of answer, or what a kind needs (a
    judge, a sandbox) is not there; or attempts that raised an exception: these are not stored, the run stays
    unfinished, and the same call makes just those again. Ctrl-C raises KeyboardInterrupt and leaves the run to be
    resumed.
    """
    _check(problems, samples, strategy, judge)
    identity = (
        "eval",
        name,
        engine.info.name,
        engine.info.weights_hash,
        _config(problems, sampling, samples, strategy, judge),
    )
    found = (store.find_run if reuse else store.unfinished)("eval", config_hash(*identity))
    run_id = found.id if found else store.start_run(*identity)
    attempts: list[Attempt] = []

    def keep(attempt: Attempt) -> None:
        attempts.append(attempt)
        if on_attempt:
            on_attempt(attempt)

    for stored in store.attempts(run_id):
        keep(stored.attempt)
    if found and found.finished:
        return run_id, summarise(attempts, tokens_per_s=found.summary.get("tokens_per_s"))
    resumed = len(attempts)

    async def attempt_one(job: Job, engine: Engine) -> Attempt:
        outcome = await STRATEGIES[strategy](sampling, job.sample)(job.problem, engine)
        trace = outcome.traces[-1]
        verdict = await _verdict(job.problem, trace, judge)
        return Attempt(job.problem, trace, verdict, job.sample, strategy)

    def finished(job: Job, attempt: Attempt) -> None:
        store.add(run_id, [attempt])
        keep(attempt)

    started = time.perf_counter()
    failures = run(_jobs(problems, samples, store.done(run_id)), attempt_one, engine, finished)
    seconds = time.perf_counter() - started
    if failures:
        raise _failed(failures, len(problems) * samples, run_id)
    tokens = sum(attempt.trace.tokens for attempt in attempts[resumed:])
    summary = summarise(attempts, tokens_per_s=tokens / seconds if tokens else None)
    store.finish_run(run_id, asdict(summary))
    return run_id, summary


async def _verdict(problem: Problem, trace: Trace, judge: Engine | None) -> Verdict:
    if judge and problem.kind == JUDGED:
        return await ask_judge(problem, trace, judge.sample)
    # In a thread: a verdict may take its whole deadline, and the others should go on meanwhile.
    return await asyncio.to_thread(verify, problem, trace)


def _check(problems: Sequence[Problem], samples: int, strategy: str, judge: Engine | None) -> None:
    if not problems:
        raise UserError("there is no problem to evaluate: the set is empty")
    if samples < 1:
        raise UserError(f"samples must be at least 1, not {samples}")
    if strategy not in STRATEGIES:
        raise UserError(f"no strategy {strategy!r}; known: {', '.join(STRATEGIES)}")
    twice, times = Counter(problem.id for problem in problems).most_common(1)[0]
    if times > 1:
        raise UserError(f"{times} problems have the id {twice!r}: give each its own")
    kinds = {problem.kind for problem in problems}
    if judge and JUDGED not in kinds:
        raise UserError(f"a judge is asked about problems of kind {JUDGED}, and there are none: leave --judge out")
    for kind in kinds - {JUDGED} if judge else kinds:
        require(kind)  # before anything was spent


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
