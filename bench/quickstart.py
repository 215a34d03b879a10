"""Ten runs of `thinksmith quickstart`, each with its own seed: what is gained, and how long it takes.

Goals: at least +30 points with an interval that excludes zero on at least 9 of 10 seeds, over all families mixed; every
run at most 6 minutes on 2 cores. `--quick` is one seed with few steps: it shows that the whole loop runs, and in what
time; so few steps cannot show a gain. A run that was done before (same folder) is not done again, so a stopped bench
goes on.
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

from _result import finish

SEEDS = 10
GAIN = 0.30
SHARE_THAT_GAINS = 0.9
MOST_SECONDS = 360.0
QUICK_STEPS = 6


def one_run(seed: int, folder: Path, steps: int | None) -> dict[str, float]:
    """Run the command itself, as a user does, with a store of its own; returns what its result.json says."""
    out = folder / f"seed-{seed}"
    if not (out / "result.json").exists():
        command = [sys.executable, "-m", "thinksmith", "quickstart", "--seed", str(seed), "--out", str(out)]
        command += ["--steps", str(steps)] if steps else []
        began = time.perf_counter()
        done = subprocess.run(
            command,
            env={**os.environ, "THINKSMITH_STORE": str(folder / "store.db")},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"seed {seed}: the command ended with exit code {done.returncode}")
        (out / "wall.json").write_text(json.dumps(time.perf_counter() - began), encoding="utf-8")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return {
        "seed": seed,
        "before": round(result["before"]["accuracy"]["mean"], 4),
        "after": round(result["after"]["accuracy"]["mean"], 4),
        "gain": round(result["difference"]["mean"], 4),
        "gain_low": round(result["difference"]["low"], 4),
        "gain_high": round(result["difference"]["high"], 4),
        "train_seconds": round(result["train_seconds"], 1),
        "wall_seconds": round(json.loads((out / "wall.json").read_text(encoding="utf-8")), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, under 50 s")
    parser.add_argument("--folder", type=Path, help="keep the runs here, and go on with those that are there")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many runs, from seed 0 on")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="thinksmith-quickstart-"))
    folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(1 if options.quick else options.seeds):
        run = one_run(seed, folder, QUICK_STEPS if options.quick else None)
        print(
            f"seed {seed}: {run['before']:.1%} to {run['after']:.1%}, {100 * run['gain']:+.1f} points "
            f"[{100 * run['gain_low']:+.1f}, {100 * run['gain_high']:+.1f}], {run['wall_seconds']:.0f} s",
            flush=True,
        )
        runs.append(run)
    gained = sum(run["gain"] >= GAIN and run["gain_low"] > 0 for run in runs)
    slowest = max(run["wall_seconds"] for run in runs)
    figures = {
        "runs": runs,
        "seeds_that_gain": gained,
        "median_gain": round(statistics.median(run["gain"] for run in runs), 4),
        "slowest_seconds": slowest,
    }
    wanted = SHARE_THAT_GAINS * len(runs)
    goals = {"gain": GAIN, "seeds_that_gain": wanted, "of": len(runs), "most_seconds": MOST_SECONDS}
    if options.quick:
        # A few steps cannot reach the goal of the whole; what they can show is that nothing is broken.
        goals = {"most_seconds": 50.0}
        finish("quickstart", figures, goals, slowest <= goals["most_seconds"])
    else:
        finish("quickstart", figures, goals, gained >= wanted and slowest <= MOST_SECONDS)


if __name__ == "__main__":
    main()
