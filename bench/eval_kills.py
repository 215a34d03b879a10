"""`kill -9` at 20 moments of `thinksmith eval`. Goal: every finished evaluation equals the undisturbed one.

A real evaluation of `tiny-base` by a strategy of several traces is killed at a random time of its length, or as soon as
it has stored something; then the same command is given again, and perhaps killed again. Compared with the undisturbed
one: every attempt (tokens, log-probabilities, verdict, votes), every trace that the strategy looked at, and the figures
of the report. None may be lost, none made twice. `--quick`: three kills.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from _result import finish
from thinksmith.records import Attempt
from thinksmith.store.store import Store

KILLS, QUICK_KILLS = 20, 3
SPREAD = (1, 2, 1, 3, 1, 4)  # how often an evaluation is killed, in turn
STRATEGIES = ("vote@4", "adaptive:most=6", "single", "refine:rounds=2,by=verifier")
CLOCK = re.compile(r"second|_per_s|^date$")
GOALS: dict[str, Any] = {"kills": KILLS, "evaluations_that_differ_in": {}}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The command in a store of its own; given again, it goes on."""

    home: Path
    strategy: str
    problems: int

    def start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "thinksmith",
            "eval",
            "mixed",
            "--model",
            "tiny-base",
            "-n",
            str(self.problems),
        ]
        command += ["--samples", "2", "--max-tokens", "96", "--temperature", "1", "--strategy", self.strategy]
        environment = os.environ | {"THINKSMITH_STORE": str(self.home / "store.db"), "OMP_NUM_THREADS": "1"}
        with (self.home / "told").open("ab") as told:
            return subprocess.Popen(command, env=environment, stdout=told, stderr=told)

    def finish(self) -> float:
        """Run it to the end; returns the seconds."""
        began = time.perf_counter()
        if code := self.start().wait():
            raise SystemExit(f"the command ended with exit code {code}; see {self.home / 'told'}")
        return time.perf_counter() - began

    def kill(self, length: float, rng: Random) -> tuple[float, int] | None:
        """Start it and kill it: (seconds after the start, attempts stored by then); None where it ended before."""
        began, before = time.perf_counter(), self.stored()
        at_sight, moment = rng.random() < 0.5, rng.uniform(0.3, 0.95) * length
        delay = rng.uniform(0, 0.2)
        child = self.start()
        while child.poll() is None and time.perf_counter() - began < (3 * length if at_sight else moment):
            if at_sight and self.stored() > before:
                time.sleep(delay)
                break
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        if code := child.wait():
            if code != -signal.SIGKILL:
                raise SystemExit(f"the command ended with exit code {code}; see {self.home / 'told'}")
            return round(time.perf_counter() - began, 3), self.stored()
        return None

    def stored(self) -> int:
        """Attempts and draws in the store, by a look that does not hold the command up."""
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{self.home / 'store.db'}?mode=ro", uri=True)) as db,
        ):
            return int(db.execute("SELECT count(*) FROM attempts").fetchone()[0])
        return 0

    @property
    def is_finished(self) -> bool:
        """Is it done, so that the command would begin anew?"""
        if not (self.home / "store.db").exists():
            return False
        with Store.open(self.home / "store.db") as store:
            return any(run.kind == "eval" and run.finished for run in store.runs())

    def outcome(self) -> dict[str, Any]:
        """What must be equal: all but the clock, and the ids of runs."""
        with Store.open(self.home / "store.db") as store:
            runs = store.runs()
            (evaluation,) = (run for run in runs if run.kind == "eval")
            draws = [run.id for run in runs if run.kind == "draws"]
            if not evaluation.finished or len(draws) > 1:
                return {"runs": [(run.kind, run.status) for run in runs]}
            return {
                "attempts": Counter(_told(each.attempt) for each in store.attempts(evaluation.id)),
                # The numbers of draws go by the order in which they came.
                "draws": Counter(
                    _told(replace(each.attempt, sample=0)) for run in draws for each in store.attempts(run)
                ),
                "figures": _timeless(evaluation.summary),
            }


def _unnumbered(attempt: Attempt) -> Attempt:
    """Draws are numbered in the order in which they came."""
    return replace(attempt, sample=0)


def _told(attempt: Attempt) -> str:
    return repr(replace(attempt, trace=replace(attempt.trace, seconds=0.0)))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if not CLOCK.search(key)}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def trial(folder: Path, kills: int, problems: int, strategies: tuple[str, ...] = STRATEGIES) -> dict[str, Any]:
    """`kills` kills, over as many evaluations as that takes; the figures."""
    rng, calm, met, differ, runs = (
        Random(0),
        dict[str, Evaluation](),
        list[tuple[float, int]](),
        dict[str, list[str]](),
        0,
    )
    lengths: dict[str, float] = {}
    while len(met) < kills:
        strategy = strategies[runs % len(strategies)]
        if strategy not in calm:
            calm[strategy] = _new(folder / f"calm-{len(calm)}", strategy, problems)
            lengths[strategy] = calm[strategy].finish()
        killed = _new(folder / f"killed-{runs}", strategy, problems)
        for _ in range(min(SPREAD[runs % len(SPREAD)], kills - len(met))):
            if killed.is_finished:
                break
            if moment := killed.kill(lengths[strategy], rng):
                met.append(moment)
                print(f"kill {len(met)} of {strategy} after {moment[0]:.1f} s, {moment[1]} traces stored", flush=True)
        if not killed.is_finished:
            killed.finish()
        expected, got = calm[strategy].outcome(), killed.outcome()
        if wrong := [key for key in expected if got.get(key) != expected[key]]:
            differ[f"{runs}: {strategy}"] = wrong
        runs += 1
    return {"kills": len(met), "evaluations": runs, "evaluations_that_differ_in": differ, "moments": met}


def _new(home: Path, strategy: str, problems: int) -> Evaluation:
    home.mkdir()
    return Evaluation(home, strategy, problems)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three kills of short evaluations")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        kills = QUICK_KILLS if quick else KILLS
        figures = trial(Path(folder), kills, 24 if quick else 60, STRATEGIES[:2] if quick else STRATEGIES)
    finish("eval_kills", figures, GOALS, figures["kills"] == kills and not figures["evaluations_that_differ_in"])


if __name__ == "__main__":
    main()
