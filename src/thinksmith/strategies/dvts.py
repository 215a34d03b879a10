"""Diverse verifier tree search: several independent beams, then a vote."""

from __future__ import annotations

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling
from thinksmith.strategies.beam import Take, outcome
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.ledger import Ledger
from thinksmith.strategies.names import Opener
from thinksmith.strategies.search import Over, Plan, search, together
from thinksmith.strategies.step_scores import StepChoice
from thinksmith.strategies.steps import Step, Walk


def dvts(
    sampling: Sampling,
    *,
    n: int = 4,
    width: int = 1,
    expand: int = 4,
    by: str = "audit",
    depth: int = 40,
    stop: Step = "line",
    over: Over = "last",
    take: Take = "vote",
    model: str = "",
    file: str = "",
    sample: int = 0,
    open: Opener | None = None,
) -> Strategy:
    """`n` beams that know nothing of each other (options as in `beam`; each keeps `width` paths, 1 is greedy by score),
    and the vote of what they finished, weighted by score.

    Source: Beeching, Tunstall, Rush 2024, "Scaling test-time compute with open models" (Hugging Face). Cost: up to n ×
    width × expand times the tokens of one trace. It helps over `beam` where there is much to spend: one beam's paths
    soon descend from one first step, right or wrong, those of several beams do not. The gold answer is not looked at.
    """
    if n < 1:
        raise UserError(f"dvts needs at least one tree, not n={n}")
    plan = Plan(width, expand, depth, stop, over).checked("dvts")
    choice = StepChoice(by, model, file).checked("dvts")

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        # Each tree has a ledger of its own, so that the order of the traces does not depend on which was faster.
        ledgers = [Ledger(engine) for _ in range(n)]
        walks = [Walk(problem, ledger, choice.asking(sampling), plan.end) for ledger in ledgers]
        firsts = [(sample * n + tree) * width * expand for tree in range(n)]
        trees = await together(
            search(walk, choice.scorer(walk.engine, sampling, open), plan, first)
            for walk, first in zip(walks, firsts, strict=True)
        )
        paths = [path for tree in trees for path in tree]
        return await outcome(walks[0], ledgers, plan, paths, take, f"by {by}")

    return strategy
