"""Where the time of a GRPO step goes, and how near training is to what its matrix products alone would take.

The quickstart's recipe, tiny-base on problems of all families. After each step the matrix products that its training
needed (`_grpo_limit.py`) are done bare, with torch.mm and torch.bmm into memory that is there, on as many threads.
`matmul_share`: their seconds over those of the whole training phase (forward, loss, backward, clipping, optimiser).
The first step is not counted; medians.

    python bench/grpo_step.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from _grpo_limit import Products, Row, rows_of
from _result import finish
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.load import load_policy
from thinksmith.problems.load import load as load_problems
from thinksmith.recipes.load import load as load_recipe
from thinksmith.training.micro import MICRO_TOKENS
from thinksmith.training.rl import grpo
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rl.rollout import Rollout
from thinksmith.training.rl.update import completions_of

GOALS = {"matmul_share": 0.7, "padding_share": 0.05}
PHASES = ("rollout_seconds", "verify_seconds", "train_seconds")


@contextmanager
def keeping_rollouts(kept: list[Rollout]) -> Iterator[None]:
    """Every rollout that is trained on is put into the list."""
    update = grpo.update

    def noted(policy: Any, rollout: Rollout, *rest: Any, **named: Any) -> Any:
        kept.append(rollout)
        return update(policy, rollout, *rest, **named)

    grpo.update = noted
    try:
        yield
    finally:
        grpo.update = update


def trained_rows(rollout: Rollout, recipe: GRPORecipe) -> list[Row]:
    """What the update computes of a rollout."""
    completions = completions_of(rollout, recipe.training)
    chosen = [each.example for each in completions if each.learnt and each.advantage]
    return rows_of(chosen, recipe.training.micro_tokens or MICRO_TOKENS)


def best(products: Products, rows: list[Row], times: int) -> dict[str, float]:
    """The parts of the fastest run: a limit is what can be reached."""
    return min((products.seconds(rows) for _ in range(times)), key=lambda parts: sum(parts.values()))


def measure(recipe: GRPORecipe, times: int) -> list[dict[str, float]]:
    """A row for every step but the first."""
    policy = load_policy("tiny-base")
    engine, products = LocalEngine(policy), Products(policy.model)
    problems = load_problems(recipe.problems, recipe.rollout.pool, split="train", seed=recipe.seed, all_if_fewer=True)
    kept: list[Rollout] = []
    found: list[dict[str, float]] = []

    def on_step(metrics: dict[str, float]) -> None:
        rows = trained_rows(kept.pop(), recipe)
        parts = best(products, rows, times)
        limit = sum(parts.values())
        row = {name: metrics[name] for name in ("seconds", *PHASES, "padding_share", "kept_share")}
        row |= {f"limit_{name}": value for name, value in parts.items()}
        row |= {
            "tokens": metrics["computed_tokens"],
            "micro_batches": len(rows),
            "limit": limit,
            "limit_gflops": products.flops(rows) / limit / 1e9,
            "matmul_share": limit / metrics["train_seconds"],
        }
        print(
            f"step {metrics['step']}: {row['seconds']:.2f} s: rollout {row['rollout_seconds']:.2f}, rewards "
            f"{row['verify_seconds']:.2f}, training {row['train_seconds']:.2f}; matrix products {limit:.2f} "
            f"({row['limit_gflops']:.0f} GFLOPS): {row['matmul_share']:.2f}, padding {row['padding_share']:.1%}",
            flush=True,
        )
        if metrics["step"] > 1:
            found.append(row)

    with tempfile.TemporaryDirectory() as folder, keeping_rollouts(kept):
        grpo.train(policy, engine, problems, recipe, Path(folder), on_step=on_step)
    engine.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 steps of 8 × 8 completions")
    quick = parser.parse_args().quick
    changed = {"steps": 3, "rollout.prompts": 8} if quick else {"steps": 13}
    recipe = load_recipe("quickstart", GRPORecipe, changed)
    rows = measure(recipe, 3 if quick else 5)
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "steps": len(rows)}
    figures |= {name: round(statistics.median(row[name] for row in rows), 4) for name in rows[0]}
    figures["padding_share"] = round(max(row["padding_share"] for row in rows), 4)
    whole = statistics.median(row["seconds"] for row in rows)
    split = {name.removesuffix("_seconds"): round(figures[name] / whole, 3) for name in PHASES}
    figures["split"] = split | {"rest": round(1 - sum(split.values()), 3)}
    shares = ", ".join(f"{name} {share:.0%}" for name, share in figures["split"].items())
    print(f"a step of {whole:.2f} s: {shares}; training at {figures['matmul_share']:.2f} of the limit", flush=True)
    holds = figures["matmul_share"] >= GOALS["matmul_share"] and figures["padding_share"] < GOALS["padding_share"]
    finish("grpo_step", figures, GOALS, holds)


if __name__ == "__main__":
    main()
