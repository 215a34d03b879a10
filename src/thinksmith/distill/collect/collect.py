"""Collect traces: teachers are given draws as they have room, each trace is verified, and stored before it is told of.

A run of kind `collect` holds one attempt for each draw, under the draw's number. The draw's seed depends on the problem
and the number alone, so a run that was killed goes on with exactly the draws that are missing.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from thinksmith.distill.collect.agenda import Agenda
from thinksmith.distill.collect.budget import Budget, prompt_bound
from thinksmith.distill.collect.early import FIRST, Early, Estimate
from thinksmith.distill.collect.goal import Goal
from thinksmith.distill.collect.ledger import Ledger, stored_entries
from thinksmith.distill.collect.teachers import Teacher
from thinksmith.distill.collect.work import Stopped, Watcher, Work, why
from thinksmith.engines.contract import Priced
from thinksmith.errors import UserError, one_line
from thinksmith.records import Attempt, Problem
from thinksmith.store.store import Run, Store, config_hash
from thinksmith.verify import check_gold, require
from thinksmith.verify.verdict import JUDGED

KIND = "collect"


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection has come to. `reached`: problems of which there is what the goal wants; `failed`: requests that
    brought nothing, by teacher, in this call; `given_up`: draws that failed too often (`why`), which the same call
    makes again; `stopped` by the budget, or after the first few."""

    run_id: str
    goal: Goal
    problems: int
    reached: int
    ledger: Ledger
    failed: Mapping[str, int]
    given_up: int
    why: str
    stopped: Stopped
    estimate: Estimate | None
    warnings: tuple[str, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Is there nothing left to ask for?"""
        return not self.stopped and not self.given_up


class _Nobody:
    """Looks on, and says nothing."""

    def begin(self, ledger: Ledger, teachers: Sequence[Teacher], agenda: Agenda) -> None: ...

    def attempt(self, attempt: Attempt) -> None: ...

    def note(self, text: str) -> None: ...


def collect(
    problems: Sequence[Problem],
    teachers: Sequence[Teacher],
    *,
    goal: Goal,
    store: Store,
    name: str,
    budget: Budget | None = None,
    into: str = "",
    first_only: bool = False,
    watcher: Watcher | None = None,
) -> Collected:
    """Ask the teachers for what the `goal` wants of every problem; all of it is in the store.

    The same call (problems and teachers in any order, their sampling, the goal and the name) goes on with the run that
    it began, whatever ended that: `kill -9`, Ctrl-C, the `budget`, failed requests. A run that is complete is told
    again. `into` names a run to go on with although the teachers or the goal are others; the problems must be the same.
    `first_only`: make the first few draws, from which the estimate is told, and stop. The budget is of the whole run,
    and is not overdrawn even if every request under way takes as many tokens as it may.

    UserError: no problem or teacher, two of one name, a kind or gold answer that cannot be verified where the goal
    needs verdicts, a budget that cannot be kept or does not do for one attempt, draws that would all be the same; the
    store fails; or no teacher answers (what came before is kept). Ctrl-C raises KeyboardInterrupt.
    """
    _check(problems, teachers, goal)
    prompt = prompt_bound(problems)
    if budget:
        budget.check(teachers, prompt)
    watcher = watcher or _Nobody()
    run = _run(store, name, problems, teachers, goal, into)
    ledger = Ledger(goal)
    free = [teacher.name for teacher in teachers if not isinstance(teacher.engine, Priced)]
    stored = list(stored_entries(store, run.id, free))
    agenda = Agenda(problems, goal, [(each.problem, each.number, each.status) for each in stored], _seed(teachers))
    early = Early(goal, len(problems), agenda.first(FIRST))
    for entry in stored:
        ledger.add(entry)
        early.came(entry)
    watcher.begin(ledger, teachers, agenda)
    bounds: dict[str, Any] = {"budget": budget, "prompt_tokens": prompt, "limit": early.missing if first_only else None}
    work = Work(teachers, agenda, ledger, store, run.id, watcher, early, **bounds)
    began = time.perf_counter()
    stopped = work.drive()
    _raise_if_all_failed(work, ledger)
    done = Collected(
        run_id=run.id,
        goal=goal,
        problems=len(problems),
        reached=agenda.reached,
        ledger=ledger,
        failed={teacher.name: teacher.failed for teacher in teachers},
        given_up=len(work.failures),
        why=why(work.failures),
        stopped=stopped,
        estimate=early.estimate,
        warnings=work.warnings,
        seconds=time.perf_counter() - began,
    )
    if done.complete and (work.made or run.finished is None):
        store.finish_run(run.id, summary(done))
    return done


def summary(done: Collected) -> dict[str, Any]:
    """What is kept of it with the run (JSON)."""
    ledger = done.ledger
    return {
        "strategy": done.goal.spec,
        "problems": done.problems,
        "reached": done.reached,
        "solved": len(ledger.solved),
        "attempts": ledger.attempts,
        "correct": ledger.correct,
        "tokens": ledger.tokens,
        "cost": ledger.cost,
        "teachers": {
            name: {
                "attempts": account.attempts,
                "statuses": dict(account.statuses),
                "tokens": account.tokens,
                "prompt_tokens": account.prompt_tokens,
                "cost": None if math.isnan(account.cost) else account.cost,
            }
            for name, account in ledger.accounts.items()
        },
        "warnings": list(done.warnings),
    }


def _check(problems: Sequence[Problem], teachers: Sequence[Teacher], goal: Goal) -> None:
    """UserError for what cannot be, before anything is asked."""
    if not problems:
        raise UserError("there is no problem to collect traces for: the set is empty")
    if not teachers:
        raise UserError("there is no teacher to ask")
    for what, names in (("problems have the id", [each.id for each in problems]), ("teachers are", _names(teachers))):
        twice, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise UserError(f"{times} {what} {twice!r}: give each its own")
    if goal.tries > 1 and all(teacher.sampling.temperature == 0 for teacher in teachers):
        raise UserError(
            "at temperature 0 every draw of a problem is the same trace: give a --temperature, or ask for one (-k 1)"
        )
    for kind in {problem.kind for problem in problems} - {JUDGED}:
        require(kind)
    if goal.judges:
        _check_golds(problems, goal)


def _check_golds(problems: Sequence[Problem], goal: Goal) -> None:
    faults = [
        (problem.id, "no rule decides it" if problem.kind == JUDGED else check_gold(problem)) for problem in problems
    ]
    bad = [(name, fault) for name, fault in faults if fault]
    if bad:
        raise UserError(
            f"{goal.kind} stops by verdicts, and {len(bad)} of {len(problems)} problems have no gold answer to judge by"
            f" (the first, {bad[0][0]}: {one_line(ValueError(bad[0][1]))}): give them one, or collect with single"
        )


def _run(
    store: Store, name: str, problems: Sequence[Problem], teachers: Sequence[Teacher], goal: Goal, into: str
) -> Run:
    """The run to put attempts into: the named one, the one that the same call began, or a new one."""
    config = _config(problems, teachers, goal)
    if into:
        return _named(store, into, config)
    identity = KIND, name, ", ".join(sorted(_names(teachers))), _hashes(teachers), config
    found = store.find_run(KIND, config_hash(*identity))
    return found or store.run(store.start_run(*identity))


def _named(store: Store, into: str, config: Mapping[str, Any]) -> Run:
    run = store.run(into)
    if run.kind != KIND:
        raise UserError(f"{run.id} is a run of kind {run.kind}: name one that thinksmith collect began")
    if run.config.get("problems_hash") != config["problems_hash"]:
        raise UserError(
            f"{run.id} is of other problems: its draws would be mixed with theirs. Collect these in a run of their own"
        )
    return run


def _config(problems: Sequence[Problem], teachers: Sequence[Teacher], goal: Goal) -> dict[str, Any]:
    """What makes two runs the same. The order of problems and teachers, budget and requests at once are no part."""
    content = sorted(repr((problem.id, problem.text, problem.answer, problem.kind)) for problem in problems)
    return {
        "problems": len(problems),
        "problems_hash": sha256("\n".join(content).encode("utf-8", "surrogatepass")).hexdigest(),
        "strategy": goal.spec,
        "teachers": {teacher.name: asdict(teacher.sampling) for teacher in teachers},
    }


def _names(teachers: Sequence[Teacher]) -> list[str]:
    return [teacher.name for teacher in teachers]


def _hashes(teachers: Sequence[Teacher]) -> str:
    """Of the weights; "" where those of some teacher are out of sight."""
    hashes = sorted(teacher.engine.info.weights_hash for teacher in teachers)
    return ",".join(hashes) if all(hashes) else ""


def _seed(teachers: Sequence[Teacher]) -> int:
    return min(teacher.sampling.seed for teacher in teachers)


def _raise_if_all_failed(work: Work, ledger: Ledger) -> None:
    """Nothing came at all, or something broke that is no matter of the connection: that is no result."""
    own = [error for _, error in work.failures if not isinstance(error, UserError | OSError)]
    if own:  # a fault of ours: it keeps its traceback
        kept = f"{ledger.attempts:,} attempts are kept"
        raise RuntimeError(f"{len(own)} draws failed ({type(own[0]).__name__}: {one_line(own[0])}); {kept}") from own[0]
    if work.failures and not ledger.attempts:
        raise UserError(f"all {len(work.failures)} draws failed: {why(work.failures)}") from work.failures[0][1]
