"""The warm-up: trajectories of a solver's, learnt by SFT, so that a model knows how a tool is called, and not when.

The solver plays the model's part in the very strategy that GRPO will roll out, so what is learnt has the ids that a
rollout has: prompts, turns and tool output as they will be read, and none of these in the loss.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random

from thinksmith.engines.around import Around
from thinksmith.engines.contract import Engine
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.policy.tools import hermes
from thinksmith.problems.families import write_solution
from thinksmith.problems.writer import Style
from thinksmith.records import Message, Problem, Request, Sampling, ToolCall, Trace
from thinksmith.strategies.names import Named
from thinksmith.thinking import split
from thinksmith.training.batches import Example
from thinksmith.training.model_folder import save_model
from thinksmith.training.rl.episodes import named
from thinksmith.training.rl.recipe import GRPORecipe, WarmupTable
from thinksmith.training.sft import SFTConfig, SFTStep, sft

SAVE_EVERY = 50  # steps
ASKS = "I ask the calculator."
TOLD = "The calculator gave it."


def warm_up(
    policy: Policy,
    problems: Sequence[Problem],
    recipe: GRPORecipe,
    folder: Path,
    *,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train `policy` in place by `recipe.warmup`, in `folder`; where that was done there before, take its weights.
    `on_step` gets the number of each step and its loss.

    Raises UserError where the problems are such as no solver calls a tool for.
    """
    if (folder / "model").is_dir():
        policy.model.load_state_dict(load_policy(str(folder / "model")).model.state_dict())
    else:
        assert recipe.warmup is not None
        folder.mkdir(parents=True, exist_ok=True)
        table, examples = recipe.warmup, trajectories(policy, problems, recipe)
        config = SFTConfig(
            steps=table.steps,
            lr=table.lr,
            warmup=min(10, table.steps // 4),
            decay=table.steps // 3,
            micro_tokens=table.micro_tokens,
            save_every=SAVE_EVERY,
        )
        sft(
            policy.model,
            partial(_batch, examples, table, recipe.seed),
            config,
            pad_id=policy.tokenizer.pad_token_id or 0,
            folder=folder / "checkpoints",
            on_step=partial(_told, folder / "steps.jsonl", on_step),
        )
        save_model(folder / "model", policy.model, policy.tokenizer)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    policy.touch()


def trajectories(policy: Policy, problems: Sequence[Problem], recipe: GRPORecipe) -> list[Example]:
    """What the solver writes, as it is learnt. Raises UserError."""
    assert recipe.warmup is not None
    assert recipe.agent is not None
    strange = next((problem for problem in problems if "expression" not in problem.meta), None)
    if strange is not None:
        raise UserError(
            f"the warm-up needs problems of which a solver knows what to ask a calculator, such as products: not "
            f"{strange.id}"
        )
    return asyncio.run(_written(policy, problems, recipe.warmup, named(recipe.agent), recipe.seed))


async def _written(
    policy: Policy, problems: Sequence[Problem], table: WarmupTable, plan: Named, seed: int
) -> list[Example]:
    engine = LocalEngine(policy)
    found = []
    for number in range(table.trajectories):
        rng = Random(f"{seed}:warmup:{number}")
        problem = rng.choice(problems)
        solver = Solver(engine, policy, turns_of(problem, table, rng))
        outcome = await plan.make(Sampling(), number, _nobody)(problem, solver)
        trace = outcome.chosen
        found.append(Example(trace.prompt_ids, trace.token_ids, trace.forced))
    engine.close()
    return found


def _nobody(name: str) -> Engine:
    raise UserError(f"a warm-up asks no other model: leave {name} out")


Turn = tuple[str, str]
"""Thinking and answer."""


def turns_of(problem: Problem, table: WarmupTable, rng: Random) -> list[Turn]:
    """What the solver says at a problem, turn by turn."""
    said = f"The answer is {problem.answer}."
    if rng.random() < table.calls:
        call = ToolCall(name="calculator", arguments={"expression": problem.meta["expression"]})
        return [(ASKS, hermes([call])), (TOLD, said)]
    direct = 1.0 if problem.meta["needs_tool"] else table.direct
    solution = write_solution(problem, rng, Style(direct=direct, slip=table.slip, check=0.0))
    return [(solution.thinking, solution.answer)]


class Solver(Around):
    """Plays the model's part: says one turn after the other, in the model's own ids."""

    def __init__(self, engine: Engine, policy: Policy, turns: Sequence[Turn]) -> None:
        super().__init__(engine)
        self._policy, self._turns = policy, list(turns)
        close = policy.turn([Message(role="user", content="?")], ended=False)
        self._end = close[0] if close[0] in policy.eos_ids else min(policy.eos_ids)

    async def sample(self, request: Request) -> list[Trace]:
        policy, tags = self._policy, self._policy.tags
        prompt = request.token_ids or policy.render(request.messages, tools=request.tools).ids
        thinking, answer = self._turns.pop(0) if self._turns else ("", "I do not know.")
        opened = tags.start + "\n" if policy.opens_thinking else ""
        completion = f"{'' if opened else tags.start + chr(10)}{thinking}\n{tags.end}\n\n{answer}"
        read = split(opened + completion, tags)
        ids = (*policy.encode(completion), self._end)
        return [
            Trace(
                read.thinking,
                read.answer,
                token_ids=ids,
                thinking_tokens=len(ids),
                prompt_ids=tuple(prompt),
                prompt_tokens=len(prompt),
                opened=opened,
                completion=completion,
                model="solver",
                sampling=request.sampling,
            )
        ]


def _batch(examples: Sequence[Example], table: WarmupTable, seed: int, step: int) -> list[Example]:
    return Random(f"{seed}:{step}").sample(examples, min(table.batch, len(examples)))


def _told(path: Path, on_step: Callable[[int, float], None], step: SFTStep) -> None:
    row = {"step": step.step, "loss": step.loss, "tokens": step.tokens, "seconds": step.seconds}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    on_step(step.step, step.loss)
