"""Beam search over steps of the thinking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from thinksmith.engines.contract import Engine
from thinksmith.records import Problem, Sampling
from thinksmith.strategies.ballot import count
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import spent
from thinksmith.strategies.ledger import Ledger
from thinksmith.strategies.names import Opener
from thinksmith.strategies.search import Over, Plan, search
from thinksmith.strategies.step_scores import StepChoice
from thinksmith.strategies.steps import Path, Step, Walk
from thinksmith.verify.same import final

Take = Literal["best", "vote"]


def beam(
    sampling: Sampling,
    *,
    width: int = 4,
    expand: int = 4,
    by: str = "audit",
    depth: int = 40,
    stop: Step = "line",
    over: Over = "last",
    take: Take = "best",
    model: str = "",
    file: str = "",
    sample: int = 0,
    open: Opener | None = None,
) -> Strategy:
    """The thinking grows by steps (`stop`: a `line`, `paragraph` or `sentence`). Of the candidates of each step,
    `expand` for each path, the best `width` are kept; of the finished paths the best is taken, or with `take=vote`
    what most of them say, weighted by score.

    `by` scores a step: `audit` (share of true equations so far, none in a loop), `confidence` (mean log-prob of the
    step), `self` (the model is asked), `reward` (a reward model in the folder `model`, of processes or of outcomes), or
    another scorer that can read a beginning. A path is worth the score of its `last` step, or the `mean` or the `least`
    of all (`over`). After `depth` steps a path goes to its end in one piece; `max_tokens` of the sampling bounds each
    path.

    Source: tree search with step scores (Snell et al. 2024, arXiv:2408.03314); self-evaluation as the score (Xie et al.
    2023, arXiv:2305.00633). Cost: up to width × expand times the tokens of one trace, thrown away steps included, and a
    round trip for each step: on an endpoint that is slow. It helps where a step can be judged better than made; with a
    weak score it finds what pleases the score. The gold answer is not looked at.
    """
    plan = Plan(width, expand, depth, stop, over).checked("beam")
    choice = StepChoice(by, model, file).checked("beam")

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        ledger = Ledger(engine)
        walk = Walk(problem, ledger, choice.asking(sampling), plan.end)
        first = sample * width * expand
        paths = await search(walk, choice.scorer(ledger, sampling, open), plan, first)
        return await outcome(walk, [ledger], plan, paths, take, f"by {by}")

    return strategy


async def outcome(
    walk: Walk, ledgers: Sequence[Ledger], plan: Plan, paths: Sequence[Path], take: Take, how: str
) -> Outcome:
    """What the finished paths (one at least) come to: the best that gives an answer, or the vote of all."""
    problem = walk.problem
    traces = [walk.record(path) for path in paths]
    worths = [plan.worth(path) for path in paths]
    ballot = await count(problem, traces, [max(0.0, worth) for worth in worths])
    if take == "vote":
        chosen, why = ballot.chosen, f"the vote of {len(paths)} finished paths, weighted {how}"
    else:
        at = max(range(len(paths)), key=lambda at: (final(problem, traces[at]) is not None, worths[at]))
        chosen, why = traces[at], f"the best of {len(paths)} finished paths {how}"
    steps = max(len(path.scores) for path in paths)
    notes = {"paths": len(paths), "steps": steps, **ballot.notes}
    asked = tuple(trace for ledger in ledgers for trace in ledger.traces)
    return Outcome(chosen.answer, asked, spent(asked), why, chosen, notes)
