"""Makes tiny-tools of a finished run: `thinksmith grpo tool-tiny --out RUN`, then
`python -m thinksmith.recipes.tiny.tools RUN FOLDER`.

The model as it is shipped (bfloat16, with the manner it was trained in) is measured again, on problems that neither the
run was trained on nor its settings were chosen by.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from thinksmith.agent.trained import manner_of, write_manner
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.policy.load import load_policy
from thinksmith.problems.load import load as load_problems
from thinksmith.recipes.load import load as load_recipe
from thinksmith.recipes.tiny.card import LOADING
from thinksmith.records import Attempt, Sampling
from thinksmith.store.store import Store
from thinksmith.training.model_folder import save_model, trained_in
from thinksmith.training.rl.calling import Calling, calling
from thinksmith.training.rl.episodes import named
from thinksmith.training.rl.recipe import GRPORecipe

NAME = "tiny-tools"
SEED = 2026  # of the problems it is measured on; the runs use small ones
PROBLEMS = 600
TEMPERATURES = (0.6, 1.0)
ABOUT = (
    "tiny-base after `thinksmith grpo tool-tiny`: it multiplies, small numbers in its head, and for bigger ones "
    "it calls a calculator. It knows nothing else. `thinksmith agent` asks it in the manner that it learnt "
    "(agent.json): no plan, no instructions, ids as history."
)


def make(run: Path, folder: Path) -> None:
    """Put the model of a run into `folder`, with its card. Raises UserError for a run that is not finished."""
    trained = manner_of(str(trained_in(run)))
    if trained is None or not (run / "result.json").exists():
        raise UserError(f"{run} is no finished run of an agent: thinksmith grpo tool-tiny --out {run}")
    recipe = load_recipe(str(run / "recipe.toml"), GRPORecipe)
    policy = load_policy(str(trained_in(run)), dtype="float32")
    save_model(folder, policy.model.to(torch.bfloat16), policy.tokenizer)
    write_manner(folder, trained)
    measured = {temperature: measure(folder, recipe, temperature) for temperature in TEMPERATURES}
    (folder / "README.md").write_text("\n".join(_card(run, recipe, measured)), encoding="utf-8")
    scores = {
        str(t): {"fitting": c.fitting.mean, "where_needed": c.where_needed.mean, "where_not": c.where_not.mean}
        for t, c in measured.items()
    }
    (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")


def measure(
    folder: Path, recipe: GRPORecipe, temperature: float, problems: int = PROBLEMS, seed: int = SEED
) -> Calling:
    """One trajectory at each of so many held-out products."""
    if recipe.agent is None:
        raise UserError("the recipe has no table [agent]")
    asked = load_problems(recipe.evaluation.problems, problems, split="test", seed=seed)
    sampling = Sampling(temperature=temperature, max_tokens=recipe.evaluation.max_tokens)
    attempts: list[Attempt] = []
    engine = LocalEngine(load_policy(str(folder)))
    with tempfile.TemporaryDirectory() as place, Store.open(Path(place) / "store.db") as store:
        evaluate(
            asked, engine, sampling=sampling, store=store, name=NAME, strategy=named(recipe.agent).spec,
            on_attempt=attempts.append,
        )  # fmt: skip
    engine.close()
    found = calling(attempts)
    if found is None:
        raise UserError(f"{recipe.evaluation.problems} are not products with and without need of a tool")
    return found


def _card(run: Path, recipe: GRPORecipe, measured: dict[float, Calling]) -> list[str]:
    said = json.loads((run / "result.json").read_text(encoding="utf-8"))
    before, warmed = said["calls"]["before"]["fitting"], said["calls"]["warmed"]["fitting"]
    how = (
        f"`thinksmith grpo tool-tiny --seed {recipe.seed}`: SFT on trajectories that call at random, then "
        f"{recipe.steps} steps of GRPO, {said['seconds'] / 60:.0f} minutes in all; settings in "
        f"`recipes/tool-tiny.toml`. On the run's own held-out problems right, with a call exactly where one is needed, "
        f"were {before['mean']:.1%} before and {warmed['mean']:.1%} after the warm-up."
    )
    head = "| | " + " | ".join(f"temperature {t:g}" for t in measured) + " |"
    rows = {
        "right, with a call exactly where one is needed": [c.fitting for c in measured.values()],
        "calls where one is needed": [c.where_needed for c in measured.values()],
        "calls where none is": [c.where_not for c in measured.values()],
    }
    table = [
        f"| {name} | " + " | ".join(f"{a.mean:.1%} [{a.low:.1%}, {a.high:.1%}]" for a in cells) + " |"
        for name, cells in rows.items()
    ]
    return [
        f"# {NAME}", "", ABOUT, "", *LOADING, "", "## How it was made", "", how, "", "## What it scores", "",
        f"One trajectory at each of {PROBLEMS} held-out products (`{recipe.evaluation.problems}`), 95 % intervals.", "",
        head, "|---|" + "---|" * len(measured), *table, "",
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m thinksmith.recipes.tiny.tools", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("folder", type=Path, help="where the model is written")
    options = parser.parse_args(arguments)
    make(options.run, options.folder)


if __name__ == "__main__":
    main()
