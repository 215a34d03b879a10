"""`thinksmith grpo tool-tiny` with three seeds: does a small model learn when to call the calculator, and in what time?

Goals, of each seed: the share of held-out problems that end right, with a call exactly where one is needed, is at most
20 % before and at least 90 % after, within ten minutes on 2 cores, measuring included. `--quick` is a tenth of one
seed, under 50 s: it shows that the whole loop runs, and so few steps can show no more. A run that was done before (same
folder) is not done again, so a stopped bench goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _result import finish

SEEDS = 3
MOST_BEFORE, LEAST_AFTER, MOST_SECONDS = 0.2, 0.9, 600.0
TENTH = ("steps=4", "warmup.steps=20", "warmup.trajectories=300", "rollout.prompts=8", "evaluation.n=40")


def one_run(seed: int, folder: Path, changed: tuple[str, ...]) -> dict[str, Any]:
    """The command itself, as a user gives it, with a store of its own; what its result.json says of the calls."""
    out = folder / f"seed-{seed}"
    if not (out / "result.json").exists():
        command = [sys.executable, "-m", "thinksmith", "grpo", "tool-tiny", "--seed", str(seed), "--out", str(out)]
        command += [part for each in changed for part in ("--set", each)]
        began = time.perf_counter()
        done = subprocess.run(
            command,
            env={**os.environ, "THINKSMITH_STORE": str(folder / f"seed-{seed}.db")},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"seed {seed}: the command ended with exit code {done.returncode}")
        (out / "wall.json").write_text(json.dumps(time.perf_counter() - began), encoding="utf-8")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    stages = {stage: _shares(result["calls"][stage]) for stage in ("before", "warmed", "after")}
    return {"seed": seed, **stages, "wall_seconds": round(json.loads((out / "wall.json").read_text()), 1)}


def _shares(said: dict[str, Any]) -> dict[str, float]:
    fitting = said["fitting"]
    return {
        "fitting": round(fitting["mean"], 4),
        "fitting_low": round(fitting["low"], 4),
        "fitting_high": round(fitting["high"], 4),
        "calls_where_needed": round(said["where_needed"]["mean"], 4),
        "calls_where_not": round(said["where_not"]["mean"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of one seed, under 50 s")
    parser.add_argument("--folder", type=Path, help="keep the runs here, and go on with those that are there")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many runs, from seed 0 on")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="thinksmith-tool-tiny-"))
    folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(1 if options.quick else options.seeds):
        run = one_run(seed, folder, TENTH if options.quick else ())
        told = " → ".join(f"{run[stage]['fitting']:.1%}" for stage in ("before", "warmed", "after"))
        after = run["after"]
        print(
            f"seed {seed}: {told}; calls where needed {after['calls_where_needed']:.0%}, where not "
            f"{after['calls_where_not']:.0%}; {run['wall_seconds']:.0f} s",
            flush=True,
        )
        runs.append(run)
    slowest = max(run["wall_seconds"] for run in runs)
    figures = {
        "runs": runs,
        "highest_before": max(run["before"]["fitting"] for run in runs),
        "median_after": statistics.median(run["after"]["fitting"] for run in runs),
        "lowest_after": min(run["after"]["fitting"] for run in runs),
        "slowest_seconds": slowest,
    }
    if options.quick:
        goals = {"most_seconds": 50.0}
        finish("tool_tiny", figures, goals, slowest <= goals["most_seconds"])
        return
    goals = {"most_before": MOST_BEFORE, "least_after": LEAST_AFTER, "most_seconds": MOST_SECONDS}
    reached = figures["highest_before"] <= MOST_BEFORE and figures["lowest_after"] >= LEAST_AFTER
    finish("tool_tiny", figures, goals, reached and slowest <= MOST_SECONDS)


if __name__ == "__main__":
    main()
