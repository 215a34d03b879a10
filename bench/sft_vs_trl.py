"""Tokens per second and peak memory of SFT beside TRL's SFTTrainer: same model, samples, loss, optimiser, precision.

An optimiser step learns from all samples: traces of random tokens whose lengths are lognormal, completions alone are
learnt. Both sides run in this process, in turns, on the same number of threads; the first step of each turn is not
counted; medians of wall seconds. TRL has no gradient checkpointing, saving or bars here; it computes entropy and greedy
choices beside the loss, which cannot be switched off.

`unpacked` is TRL's default, padded passes of 8 samples. `packed` is the fastest of its ways to pack that keep samples
whole: rows of two lengths, filled by its best-fit strategy (`bfd`), one or two rows in a pass, and passes without
padding; each is measured. At equal loss: the losses of the first steps differ by less than 0.1 %, else it fails.

Memory: a head of 151,936 tokens on a decoder of two small layers, gradient checkpointing on both sides (TRL's default),
each in a process of its own: the highest resident memory less what was there before the model came. TRL in its default
passes of 8 samples, in the least, and packed.

    python bench/sft_vs_trl.py [--quick] [--only speed|memory] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from _grpo_work import make_policy
from _result import finish
from _sft_passes import MEMORY
from _sft_sides import Timed, Way, run_ours, run_trl
from _sft_work import Work, examples_of

GOALS = {"unpacked": 1.5, "packed": 1.0, "memory": 0.6}
WORK, QUICK = Work(64, 160, 0.9, 984), Work(24, 48, 0.8, 216)
WAYS = {
    "unpacked": Way(8),
    "packed 1024": Way(1, 1024),
    "packed 1024 x2": Way(2, 1024),
    "packed 2048": Way(1, 2048),
    "padding-free 8": Way(8, padding_free=True),
}
QUICK_WAYS = {"unpacked": Way(8), "packed 512": Way(1, 512), "padding-free 8": Way(8, padding_free=True)}
STEPS, ROUNDS = 2, 3
ALIKE = 1e-3  # relative difference of the first losses
SECONDS = 2400.0  # for one measurement of memory, on a machine that does other things too


def speed(work: Work, ways: dict[str, Way], rounds: int) -> dict[str, Any]:
    """Tokens per second of each side, and how much faster ours is."""
    examples = examples_of(work)
    tokens = sum(example.tokens for example in examples)
    sides = {"ours": Timed(), **{name: Timed() for name in ways}}
    for _ in range(rounds):
        sides["ours"].extend(run_ours(make_policy("tiny"), examples, STEPS))
        for name, way in ways.items():
            sides[name].extend(run_trl(make_policy("tiny"), examples, STEPS, way))
    loss = sides["ours"].losses[0]
    for name, timed in sides.items():
        if abs(timed.losses[0] / loss - 1) > ALIKE:
            raise SystemExit(f"{name} begins at the loss {timed.losses[0]:.5f}, ours at {loss:.5f}: this is other work")
    rates = {name: tokens / statistics.median(timed.seconds) for name, timed in sides.items()}
    for name, rate in rates.items():
        print(f"{name:16} {rate:9,.0f} tokens/s   loss {sides[name].losses[0]:.5f}", flush=True)
    best = max((name for name in ways if name != "unpacked"), key=lambda name: rates[name])
    return {
        "samples": len(examples),
        "tokens": tokens,
        "unpacked": round(rates["ours"] / rates["unpacked"], 2),
        "packed": round(rates["ours"] / rates[best], 2),
        "best_packing": best,
        "tokens_per_s": {name: round(rate) for name, rate in rates.items()},
        "seconds": {name: [round(each, 3) for each in timed.seconds] for name, timed in sides.items()},
        "loss": round(loss, 5),
    }


def memory(quick: bool) -> dict[str, Any]:
    """What each side's process grows by, and ours over the others."""
    ((name, each),) = ((name, each) for name, each in MEMORY.items() if each.quick == quick)
    rows = {side: in_child(name, side) for side in ("ours", *each.sides)}
    loss = rows["ours"]["loss"]
    for side, row in rows.items():
        if abs(row["loss"] / loss - 1) > ALIKE:
            raise SystemExit(f"{side} begins at the loss {row['loss']:.5f}, ours at {loss:.5f}: this is other work")
    over = {side: round(rows["ours"]["growth"] / row["growth"], 3) for side, row in rows.items() if side != "ours"}
    return {"memory": max(over["trl"], over["trl-packed"]), "memory_over": over, "memory_rows": rows}


def in_child(name: str, side: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("_sft_passes.py")), name, side]
    out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    if out.returncode:
        raise SystemExit(f"{name} ({side}) failed with {out.returncode}: {out.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    row["growth"] = row["peak"] - row["before"]
    print(f"{name} {side:12} grows by {row['growth'] / 1e6:8,.0f} MB   {row['seconds']:.0f} s", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter samples, one round")
    parser.add_argument("--only", choices=("speed", "memory"))
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}; with --quick 1")
    options = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists() and options.only != "speed":
        raise SystemExit("the highest resident memory can only be measured on Linux: take --only speed")
    figures: dict[str, Any] = {"threads": torch.get_num_threads()}
    if options.only != "memory":
        work, ways = (QUICK, QUICK_WAYS) if options.quick else (WORK, WAYS)
        figures |= speed(work, ways, options.rounds or (1 if options.quick else ROUNDS))
    if options.only != "speed":
        figures |= memory(options.quick)
    goals = {name: goal for name, goal in GOALS.items() if name in figures}
    holds = all(figures[name] <= goal if name == "memory" else figures[name] >= goal for name, goal in goals.items())
    finish("sft_vs_trl", figures, goals, holds)


if __name__ == "__main__":
    main()
