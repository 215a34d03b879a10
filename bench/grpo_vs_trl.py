"""Seconds of a GRPO step beside TRL's GRPOTrainer: same model, prompts, groups, lengths, loss (dapo, no KL) and
precision (float32 on a CPU, bfloat16 on a GPU); a step is rollout, rewards and update.

Both sides run in this process, in turns, on the same number of threads; the first step of each turn is not counted;
medians of wall seconds. The lengths of the completions are drawn once and forced on both sides, ours by each sample's
`max_tokens`, TRL's by a logits processor. TRL generates as its defaults have it (transformers' `generate`), without
gradient checkpointing, logging and saving, in passes of 8 sequences: its default, and no slower than 16 or 64. The
reward costs nothing on either side, but ours verifies every answer all the same, and reads traces for their habits.

`short`: the quickstart's batch, problems as they are, completions of about 45 tokens. `prompt512`: 16 completions of
each of 8 prompts of 512 tokens. `heavy`: completions of 128 tokens on average and up to 1,024.

    python bench/grpo_vs_trl.py [--quick] [--model NAME ...] [--work NAME ...] [--rounds N] [--trl-rows N]
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict, dataclass, replace

import torch

from _grpo_ours import Timed, run_ours
from _grpo_trl import run_trl
from _grpo_work import Work, make_policy, task_of
from _result import finish

WORKS = {
    "short": Work(32, 8, 0, 45, 0.35, 96, trl_rows=8),
    "prompt512": Work(8, 16, 512, 64, 0.35, 128, trl_rows=8),
    "heavy": Work(16, 8, 0, 128, 1.0, 1024, trl_rows=8),
}
QUICK = {
    "short": Work(8, 8, 0, 24, 0.35, 48, trl_rows=8),
    "prompt512": Work(2, 8, 256, 24, 0.35, 48, trl_rows=8),
    "heavy": Work(4, 8, 0, 48, 1.0, 256, trl_rows=8),
}
GOALS = {
    "cpu": {"tiny.short": 1.6, "tiny.prompt512": 3.0, "tiny.heavy": 4.0},
    "cuda": {f"{model}.{work}": 5.0 for model in ("0.5b", "1.5b") for work in WORKS},
}
MODELS = {"cpu": ("tiny", "25m"), "cuda": ("0.5b", "1.5b")}
# A slow model does fewer prompts, and so many rounds: (prompts divided by, rounds).
SMALLER = {"25m": (4, 1)}
WORKS_OF = {"25m": ("short",)}  # of those models that would take too long
STEPS = 2  # of a round, beside the first
ROUNDS = 2


@dataclass(frozen=True)
class Row:
    """One model and work. `ratio`: TRL's seconds of a step over ours; the others are medians of seconds."""

    model: str
    work: str
    completions: int
    tokens: int
    ours: float
    ours_rollout: float
    ours_reward: float
    ours_update: float
    trl: float
    trl_rollout: float
    trl_reward: float
    trl_update: float
    ratio: float
    rollout_ratio: float
    update_ratio: float
    slowest_ratio: float
    steps: int


def smaller(work: Work, divisor: int, trl_rows: int | None = None) -> Work:
    """With fewer prompts, and passes of TRL's that are no larger than what is left."""
    work = replace(work, prompts=max(1, work.prompts // divisor))
    return replace(work, trl_rows=min(trl_rows or work.trl_rows, work.rows))


def measured(model: str, name: str, work: Work, steps: int, rounds: int) -> Row:
    ours, trl = Timed(), Timed()
    for _ in range(rounds):
        policy = make_policy(model)
        task = task_of(work, policy)
        ours.extend(run_ours(policy, work, task, steps))
        other = make_policy(model)
        trl.extend(run_trl(other.model, other.tokenizer, work, task, steps))
        for side in (ours, trl):
            if {round(count) for count in side.tokens} != {task.tokens}:
                raise SystemExit(f"{name}: a step should have {task.tokens} tokens, not {side.tokens}")
    return row_of(model, name, work, task.tokens, ours, trl)


def row_of(model: str, name: str, work: Work, tokens: int, ours: Timed, trl: Timed) -> Row:
    def median(values: list[float]) -> float:
        return round(statistics.median(values), 3)

    return Row(
        model, name, work.rows, tokens,
        median(ours.seconds), median(ours.rollout), median(ours.reward), median(ours.update),
        median(trl.seconds), median(trl.rollout), median(trl.reward), median(trl.update),
        round(statistics.median(trl.seconds) / statistics.median(ours.seconds), 2),
        round(statistics.median(trl.rollout) / statistics.median(ours.rollout), 2),
        round(statistics.median(trl.update) / statistics.median(ours.update), 2),
        round(min(trl.seconds) / max(ours.seconds), 2),
        len(ours.seconds),
    )  # fmt: skip


def show(row: Row) -> None:
    print(
        f"{row.model:5} {row.work:10} {row.completions:4} completions, {row.tokens:6,} tokens: "
        f"ours {row.ours:7.2f} s (rollout {row.ours_rollout:.2f}, reward {row.ours_reward:.2f}, update "
        f"{row.ours_update:.2f}), TRL {row.trl:7.2f} s (rollout {row.trl_rollout:.2f}, update {row.trl_update:.2f}): "
        f"{row.ratio:.2f} times (rollout {row.rollout_ratio:.2f}, update {row.update_ratio:.2f})",
        flush=True,
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny only, fewer and shorter completions, one round")
    parser.add_argument("--model", nargs="+", choices=("tiny", "25m", "0.5b", "1.5b"))
    parser.add_argument("--work", nargs="+", choices=list(WORKS))
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}; with --quick 1")
    parser.add_argument("--trl-rows", type=int, help="sequences of one pass of TRL's (default 8)")
    return parser.parse_args()


def main() -> None:
    options = parse()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    works = QUICK if options.quick else WORKS
    names = options.model or (("tiny",) if options.quick and device == "cpu" else MODELS[device])
    rows: list[Row] = []
    for model in names:
        divisor, rounds = SMALLER.get(model, (1, ROUNDS))
        rounds = options.rounds or (1 if options.quick else rounds)
        for name in options.work or WORKS_OF.get(model, tuple(WORKS)):
            work = smaller(works[name], divisor, options.trl_rows)
            rows.append(measured(model, name, work, STEPS, rounds))
            show(rows[-1])
    reached = {f"{row.model}.{row.work}": row.ratio for row in rows}
    goals = {name: goal for name, goal in GOALS[device].items() if name in reached or not options.quick}
    if device == "cpu":
        print("no GPU: the goals at 0.5B and 1.5B shapes are not measured", flush=True)
    figures = {
        "threads": torch.get_num_threads(),
        "device": device,
        **reached,
        "left_out": "" if device == "cuda" else "0.5b and 1.5b: there is no GPU",
        "rows": [asdict(row) for row in rows],
        "works": {name: asdict(work) for name, work in works.items()},
    }
    finish("grpo_vs_trl", figures, goals, all(reached.get(name, 0.0) >= goal for name, goal in goals.items()))


if __name__ == "__main__":
    main()
