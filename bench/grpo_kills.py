"""`kill -9` at 30 moments of `thinksmith grpo`. Goal: every resumed run ends bit for bit as the undisturbed one.

A small real run of `tiny-base` is killed at a random time, in the middle of writing a checkpoint, or between a step's
row and its checkpoint; then the same command is given again, and perhaps killed again. Compared with the undisturbed
run: the final weights (bytes of the file), metrics.jsonl without what the clock decides, and the attempts in the store
(none lost, none twice). `--quick`: three kills of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from _result import finish
from thinksmith.store.store import Store

KILLS, QUICK_KILLS = 30, 3
SPREAD = (1, 1, 2, 1, 3, 1, 2, 5)  # how often a run is killed, in turn
KINDS = ("time", "save", "row", "time")
CLOCK = re.compile(r"seconds|_per_s$|^memory_gb$")
RECIPE = """
model = "tiny-base"
problems = "mixed"
steps = 6

[rollout]
prompts = 4
num_generations = 4
max_tokens = 48
pool = 64

[training]
lr = 1e-3

[evaluation]
n = 8
max_tokens = 48
"""


@dataclass(frozen=True, slots=True)
class Kill:
    """What a kill met: its kind, seconds after the start of the process, rows of metrics.jsonl, steps saved by then."""

    kind: str
    seconds: float
    rows: int
    saved: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the command in a folder and a store of its own; given again, it goes on."""

    recipe: Path
    home: Path
    command: str = "grpo"

    @property
    def folder(self) -> Path:
        return self.home / "run"

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "thinksmith", self.command, str(self.recipe), "--out", str(self.folder)]
        # The order of sums, and so the bits, depend on the number of threads.
        environment = os.environ | {"THINKSMITH_STORE": str(self.home / "store.db"), "OMP_NUM_THREADS": "1"}
        with (self.home / "told").open("ab") as told:
            return subprocess.Popen(command, env=environment, stdout=told, stderr=told)

    def finish(self) -> float:
        """Run it to the end; returns the seconds."""
        began = time.perf_counter()
        if code := self.start().wait():
            raise SystemExit(f"the command ended with exit code {code}; see {self.home / 'told'}")
        return time.perf_counter() - began

    def kill(self, kind: str, length: float, rng: Random) -> Kill | None:
        """Start it and kill it; None where it came to its end before. `length`: seconds of an undisturbed run."""
        due = self._due(kind, length, rng)
        began = time.perf_counter()
        child = self.start()
        while child.poll() is None and not due():
            time.sleep(0.0005)
        child.send_signal(signal.SIGKILL)
        if code := child.wait():
            if code != -signal.SIGKILL:
                raise SystemExit(f"the command ended with exit code {code}; see {self.home / 'told'}")
            return Kill(kind, round(time.perf_counter() - began, 3), self._rows(), self._saved())
        return None

    def _due(self, kind: str, length: float, rng: Random) -> Callable[[], bool]:
        """Is it time to kill? At a moment of the run's length; at the sight of a checkpoint that is being written, and
        some milliseconds on; or when a step's row appears."""
        if kind == "time":
            moment = time.perf_counter() + rng.uniform(0, length)
            return lambda: time.perf_counter() >= moment
        rows, delay, checkpoints = self._rows(), rng.uniform(0, 0.06), self.folder / "checkpoints"

        def writes() -> bool:
            if kind == "row":
                return self._rows() > rows
            if not any(checkpoints.glob(".*.part")):
                return False
            time.sleep(delay)
            return True

        return writes

    def _rows(self) -> int:
        path = self.folder / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _saved(self) -> int:
        found = (self.folder / "checkpoints").glob("step-*.pt")
        return max((int(path.stem.removeprefix("step-")) for path in found), default=0)

    def outcome(self) -> dict[str, Any]:
        """What must be the same in every run."""
        rows = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        with Store.open(str(self.home / "store.db")) as store:
            runs = [run for run in store.runs() if run.kind == "grpo"]
            attempts = Counter(
                (each.attempt.problem.id, each.attempt.sample, each.attempt.trace.token_ids)
                for run in runs
                for each in store.attempts(run.id)
            )
        return {
            "weights": (self.folder / "model" / "model.safetensors").read_bytes(),
            "metrics": [{name: value for name, value in row.items() if not CLOCK.search(name)} for row in rows],
            "attempts": attempts,
            "runs": sum(run.attempts > 0 for run in runs),
        }


def disturbed(run: Run, kinds: list[str], length: float, rng: Random) -> list[Kill]:
    """Kill the run once for each kind, as far as it does not come to its end before, and finish it."""
    kills = []
    for kind in kinds:
        if (kill := run.kill(kind, length, rng)) is None:
            return kills
        kills.append(kill)
    run.finish()
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three kills, under 50 s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    wanted = QUICK_KILLS if options.quick else KILLS
    home = Path(tempfile.mkdtemp(prefix="thinksmith-kills-"))
    recipe = home / "small.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    rng, kills, bad = Random(options.seed), list[Kill](), Counter[str]()

    def fresh(name: str) -> Run:
        (home / name).mkdir()
        return Run(recipe, home / name)

    calm = fresh("calm")
    length = calm.finish()
    expected = calm.outcome()
    print(f"undisturbed: {length:.1f} s, {sum(expected['attempts'].values())} attempts", flush=True)
    runs = 0
    while len(kills) < wanted:
        many = min(wanted - len(kills), QUICK_KILLS if options.quick else SPREAD[runs % len(SPREAD)])
        run = fresh(f"killed-{runs}")
        runs += 1
        found = disturbed(run, [KINDS[(len(kills) + i) % len(KINDS)] for i in range(many)], length, rng)
        kills += found
        got = run.outcome()
        differing = [name for name in expected if got[name] != expected[name]]
        bad.update(differing)
        where = ", ".join(f"{kill.kind} at {kill.seconds:.1f} s, row {kill.rows}" for kill in found) or "too late"
        print(f"{where}: {'differs in ' + ', '.join(differing) if differing else 'the same'}", flush=True)
        if not differing:
            shutil.rmtree(run.home)
    figures = {
        "kills": len(kills),
        "kinds": Counter(kill.kind for kill in kills),
        "runs": runs,
        "runs_that_differ_in": bad,
        "most_steps_done_again": max(kill.rows - kill.saved for kill in kills),
        "undisturbed_seconds": round(length, 1),
        "moments": [[kill.kind, kill.seconds, kill.rows, kill.saved] for kill in kills],
    }
    finish("grpo_kills", figures, {"kills": wanted, "runs_that_differ_in": {}}, not bad)
    if not bad:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
