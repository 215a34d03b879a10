"""`kill -9` at 20 moments of `thinksmith collect`. Goal: nothing stored is lost, nothing stored is asked for again, and
every finished collection equals the undisturbed one.

A real collection, of `tiny-base` or of two endpoints at once (one of which fails at a tenth of its requests), is killed
at a random time of its length, or as soon as it has stored something; then the same command is given again, and perhaps
killed again. Compared with the undisturbed one: every attempt, its tokens and its verdict; of endpoints all but who of
the two answered. What was stored at a kill must stand there unchanged at the end, and the endpoints, who write down the
seed of each request, must never see one again whose answer was stored. `--quick`: three kills.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from _result import finish
from _teacher import teacher
from thinksmith.records import Attempt
from thinksmith.store.store import Store

KILLS, QUICK_KILLS = 20, 3
SPREAD = (1, 2, 1, 3, 1, 4)  # how often a collection is killed, in turn
KINDS = (
    ("endpoints", ("--strategy", "correct", "-k", "2", "--most", "6")),
    ("tiny-base", ("--strategy", "first", "-k", "4")),
    ("endpoints", ("--strategy", "single", "-k", "4")),
    ("tiny-base", ("--strategy", "correct", "-k", "2")),
)
GOALS: dict[str, Any] = {"kills": KILLS, "collections_that_differ_in": {}, "stored_and_asked_again": 0, "lost": 0}
Kind = tuple[str, tuple[str, ...]]
Rows = dict[tuple[str, int], tuple[int, str, int]]


@dataclass(frozen=True, slots=True)
class Place:
    """What all collections share: the two endpoints, what they wrote down, and a file of sums."""

    folder: Path
    addresses: tuple[str, ...]
    logs: tuple[Path, ...]

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, latency: float = 0.05) -> Iterator[Place]:
        logs = tuple(folder / f"asked-{at}" for at in range(2))
        with ExitStack() as stack:
            bases = [stack.enter_context(teacher(latency * (1 + at), log, 0.1 * at)) for at, log in enumerate(logs)]
            yield cls(folder, tuple(f"endpoint/m@{base}*{8 - 4 * at}" for at, base in enumerate(bases)), logs)

    def asked(self) -> list[int]:
        """How many bytes the endpoints have written down."""
        return [log.stat().st_size if log.exists() else 0 for log in self.logs]

    def seeds(self, since: Sequence[int]) -> Counter[int]:
        """The seeds of the requests that came since."""
        found: Counter[int] = Counter()
        for log, begin in zip(self.logs, since, strict=True):
            if log.exists():
                found.update(int(line) for line in log.read_bytes()[begin:].split())
        return found


@dataclass(frozen=True, slots=True)
class Collection:
    """The command in a store of its own; given again, it goes on."""

    home: Path
    place: Place
    kind: str
    strategy: tuple[str, ...]
    problems: int

    def start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"THINKSMITH_STORE": str(self.home / "store.db"), "OMP_NUM_THREADS": "1"}
        with (self.home / "told").open("ab") as told:
            return subprocess.Popen(self._command(), env=environment, stdout=told, stderr=told)

    def _command(self) -> list[str]:
        whole = [sys.executable, "-m", "thinksmith", "collect"]
        if self.kind == "endpoints":
            sums = self.place.folder / f"sums-{self.problems}.jsonl"
            if not sums.exists():
                rows = [{"prompt": f"{a} + {a * a + 3}", "answer": str(a + a * a + 3)} for a in range(self.problems)]
                sums.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            whole += [str(sums), *(part for address in self.place.addresses for part in ("--teacher", address))]
        else:
            whole += ["mixed", "--teacher", self.kind, "-n", str(self.problems), "--max-tokens", "96"]
        return [*whole, "--temperature", "1", *self.strategy]

    def finish(self) -> float:
        """Run it to the end; returns the seconds."""
        began = time.perf_counter()
        if code := self.start().wait():
            raise SystemExit(f"the command ended with exit code {code}; see {self.home / 'told'}")
        return time.perf_counter() - began

    def kill(self, length: float, rng: Random) -> tuple[float, int] | None:
        """Start it and kill it: (seconds after the start, attempts stored by then); None where it ended before."""
        began, before = time.perf_counter(), len(self.stored())
        at_sight, moment = rng.random() < 0.5, rng.uniform(0.3, 0.95) * length
        delay = rng.uniform(0, 0.3)
        child = self.start()
        while child.poll() is None and time.perf_counter() - began < (3 * length if at_sight else moment):
            if at_sight and len(self.stored()) > before:
                time.sleep(delay)
                break
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        if code := child.wait():
            if code != -signal.SIGKILL:
                raise SystemExit(f"the command ended with exit code {code}; see {self.home / 'told'}")
            return round(time.perf_counter() - began, 3), len(self.stored())
        return None

    def stored(self) -> Rows:
        """(problem, draw) → number, time and seed of what is stored, by a look that does not hold the command up."""
        query = "SELECT problem_id, sample, id, made, sampling FROM attempts"
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{self.home / 'store.db'}?mode=ro", uri=True)) as db,
        ):
            return {(row[0], row[1]): (row[2], row[3], json.loads(row[4])["seed"]) for row in db.execute(query)}
        return {}

    @property
    def is_finished(self) -> bool:
        if not (self.home / "store.db").exists():
            return False
        with Store.open(self.home / "store.db") as store:
            return any(run.finished for run in store.runs())

    def outcome(self) -> dict[str, Any]:
        """What must be equal: all but the clock; of two endpoints, who answered."""
        with Store.open(self.home / "store.db") as store:
            (run,) = store.runs()
            if not run.finished:
                return {"runs": [run.status]}
            figures = {key: value for key, value in run.summary.items() if key != "teachers"}
            told = Counter(self._told(each.attempt) for each in store.attempts(run.id))
            return {"attempts": told, "figures": figures}

    def _told(self, attempt: Attempt) -> str:
        trace = replace(attempt.trace, seconds=0.0, usage=None)
        if self.kind == "endpoints":
            trace = replace(trace, model="")
        return repr(replace(attempt, trace=trace, notes={}))


def trial(folder: Path, kills: int, problems: int, kinds: Sequence[Kind] = KINDS) -> dict[str, Any]:
    """`kills` kills, over as many collections as that takes; the figures."""
    rng, met, differ, runs = Random(0), list[tuple[float, int]](), dict[str, list[str]](), 0
    again = lost = requests = attempts = 0
    calm: dict[int, tuple[Collection, float]] = {}
    with Place.opened(folder) as place:
        while len(met) < kills:
            which = runs % len(kinds)
            kind, strategy = kinds[which]
            if which not in calm:
                undisturbed = _new(folder / f"calm-{which}", place, kind, strategy, problems)
                calm[which] = undisturbed, undisturbed.finish()
            killed = _new(folder / f"killed-{runs}", place, kind, strategy, problems)
            first = place.asked()
            at_kills: list[tuple[Rows, list[int]]] = []
            for _ in range(min(SPREAD[runs % len(SPREAD)], kills - len(met))):
                if killed.is_finished:
                    break
                if moment := killed.kill(calm[which][1], rng):
                    met.append(moment)
                    at_kills.append((killed.stored(), place.asked()))
                    print(f"kill {len(met)} of {kind} after {moment[0]:.1f} s, {moment[1]} stored", flush=True)
            if not killed.is_finished:
                killed.finish()
            expected, got, stored = calm[which][0].outcome(), killed.outcome(), killed.stored()
            if wrong := [key for key in expected if got.get(key) != expected[key]]:
                differ[f"{runs}: {kind} {' '.join(strategy)}"] = wrong
            for then, since in at_kills:
                lost += sum(stored.get(key) != row for key, row in then.items())
                seen = place.seeds(since)
                again += sum(seen[seed] for _, _, seed in then.values())
            if kind == "endpoints":
                requests, attempts = requests + place.seeds(first).total(), attempts + len(stored)
            runs += 1
    return {
        "kills": len(met),
        "collections": runs,
        "collections_that_differ_in": differ,
        "stored_and_asked_again": again,
        "lost": lost,
        "requests_to_endpoints": requests,
        "attempts_from_endpoints": attempts,
        "moments": met,
    }


def _new(home: Path, place: Place, kind: str, strategy: tuple[str, ...], problems: int) -> Collection:
    home.mkdir()
    return Collection(home, place, kind, strategy, problems)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three kills of short collections")
    quick = parser.parse_args().quick
    kills = QUICK_KILLS if quick else KILLS
    with tempfile.TemporaryDirectory() as folder:
        figures = trial(Path(folder), kills, 40 if quick else 120, KINDS[:2] if quick else KINDS)
    holds = figures["kills"] == kills and all(figures[name] == goal for name, goal in GOALS.items() if name != "kills")
    finish("collect_kills", figures, GOALS, holds)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
