"""Peak memory of GRPO's update beside TRL's, and beside what `fit` says before the first step.

Each measurement is a short optimiser step and one of full size in a process of its own, on a CPU: the highest resident
memory less what was there before the model came. `vocab`: a head of 151,936 tokens on a decoder of two small layers, 8
completions of 512 to 4,096 tokens, both sides with gradient checkpointing (TRL's default); ours in passes as the
trainer chooses them (about 2,048 tokens on a CPU, or one sequence), TRL in passes of 8 sequences (its default) and of 1
(its least). TRL 1.16 has chunked logits too: tiles of 4,096 tokens by 32,768 of the vocabulary, several copies of them
in float32.

`1.5b`: Qwen2.5-1.5B's shape with random weights in bfloat16, LoRA of rank 16, 8 × 1,024 tokens, checkpointed: the whole
process. `step`: whole steps with their rollout, for the prediction.

`growth_off` is the largest error of what fit says that training takes beside the process, which is what the trainer
compares with the free memory; `off` is that of the whole process, libraries included.

    python bench/grpo_memory.py [--quick] [--only TEXT] [--ours]

With --only and --ours what is not measured stays in the result as the last full run had it, with its date.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from _grpo_passes import PASSES
from _result import RESULTS, finish, is_full

GOALS = {"over_trl": 0.4, "1.5b_gb": 5.0, "growth_off": 0.1}
GB, MEGA = 1e9, 1e6
SECONDS = 2400.0  # for one measurement, on a machine that does other things too


def in_child(name: str, side: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("_grpo_passes.py")), name, side]
    out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    if out.returncode:
        raise SystemExit(f"{name} ({side}) failed with {out.returncode}: {out.stderr[-2000:]}")
    row: dict[str, Any] = {"name": name, "side": side, **json.loads(out.stdout.splitlines()[-1])}
    row["growth"] = row["peak"] - row["before"]
    said = ""
    if side == "ours":
        row["off"] = round(row["predicted"] / row["peak"] - 1, 3)
        row["growth_off"] = round(row["predicted_growth"] / row["growth"] - 1, 3)
        said = f", fit says {row['predicted_growth'] / MEGA:,.0f} ({row['growth_off']:+.1%}; process {row['off']:+.1%})"
    print(
        f"{name:22} {side:6} grows by {row['growth'] / MEGA:8,.0f} MB (weights {row['weights'] / MEGA:,.0f}) to "
        f"{row['peak'] / MEGA:,.0f}{said}   {row['seconds']:.0f} s",
        flush=True,
    )
    return row


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Our growth over TRL's, by name: beside its default, and beside its least."""
    growth = {(row["name"], row["side"]): row["growth"] for row in rows}
    return {
        f"{name} over {side}": round(growth[name, "ours"] / value, 3)
        for (name, side), value in growth.items()
        if side != "ours"
    }


def kept(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows, in their order: those of the last full run where there is no new one."""
    path, rows = RESULTS / "grpo_memory.json", {(row["name"], row["side"]): row for row in measured}
    last: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if is_full(path) else {"figures": {"rows": []}}
    for row in last["figures"]["rows"]:
        rows.setdefault((row["name"], row["side"]), {"date": last["date"]} | row)
    wanted = [(name, side) for name, each in PASSES.items() if not each.quick for side in ("ours", *each.trl)]
    return [rows[each] for each in wanted if each in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short one of each kind")
    parser.add_argument("--only", default="", help="those whose name has this in it")
    parser.add_argument("--ours", action="store_true", help="our side alone")
    options = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        raise SystemExit("the highest resident memory can only be measured on Linux")
    wanted = [name for name, each in PASSES.items() if each.quick == options.quick and options.only in name]
    sides = [(name, side) for name in wanted for side in ("ours", *(() if options.ours else PASSES[name].trl))]
    rows = [in_child(name, side) for name, side in sides]
    rows = rows if options.quick else kept(rows)
    over = ratios(rows)
    figures: dict[str, Any] = {"over": over}
    goals = {"growth_off": GOALS["growth_off"]}
    figures["off"] = max((abs(row["off"]) for row in rows if row["side"] == "ours"), default=0.0)
    figures["growth_off"] = max((abs(row["growth_off"]) for row in rows if row["side"] == "ours"), default=0.0)
    beside_default = [value for name, value in over.items() if name.endswith("over trl")]
    if beside_default and not options.quick:
        figures["over_trl"], goals["over_trl"] = max(beside_default), GOALS["over_trl"]
    large = [row for row in rows if row["name"].startswith("1.5b")]
    if large:
        figures |= {"1.5b_gb": round(large[0]["peak"] / GB, 2), "1.5b_growth_gb": round(large[0]["growth"] / GB, 2)}
        goals["1.5b_gb"] = GOALS["1.5b_gb"]
    holds = all(figures[name] <= goal for name, goal in goals.items())
    finish("grpo_memory", figures | {"rows": rows}, goals, holds)


if __name__ == "__main__":
    main()
