"""Best of n: several traces, and the one, or the answer, that scores best."""

from __future__ import annotations

from collections.abc import Sequence

from thinksmith.engines.contract import Engine
from thinksmith.records import Problem, Sampling, Trace
from thinksmith.strategies.ballot import count
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import draw, spent
from thinksmith.strategies.names import Opener
from thinksmith.strategies.reward_model import Steps
from thinksmith.strategies.scorers import Choice, Scoring
from thinksmith.strategies.vote import check_count


def best_of(
    sampling: Sampling,
    *,
    n: int = 8,
    by: str = "confidence",
    weighted: bool = False,
    model: str = "",
    file: str = "",
    steps: Steps = "min",
    sample: int = 0,
    open: Opener | None = None,
) -> Strategy:
    """Best-of-n (Cobbe et al. 2021, arXiv:2110.14168): `n` traces, and the answer of the one that scores best.

    `by` names the scorer (`thinksmith.strategies.scorers`); `model`, `file` and `steps` are the scorer's. `weighted`:
    the scores are summed by class of equivalent answers, and the class of the largest sum is taken (weighted
    best-of-n, Li et al. 2023, arXiv:2206.02336): for scores of at least 0. Traces without an answer are not scored,
    and chosen only if there are no others. Of equal scores the first is taken.

    Cost: n draws, all at once, and the scoring: nothing for log-probs and audits, a forward pass a trace for a reward
    model, three answers a trace for a judge, which count as spent. It helps as far as the scorer is right about traces
    that disagree; a weak scorer over many draws finds what fools it, and there `weighted` is steadier. `by=verifier` is
    an oracle: right if any draw is (pass@n). That is fair only where the verifier is there when the answer is needed,
    as tests of a program or a countdown's arithmetic are. Notes: `scores`; with `weighted` also `votes`, `abstained`.
    """
    check_count(n, "best_of")
    choice = Choice(by, model, file, steps).checked("best_of", "by")

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        scoring = choice.at_work(engine, open)
        traces = await draw(problem, engine, choice.asking(sampling), range(sample * n, sample * n + n))
        return await _outcome(problem, traces, scoring, by, weighted)

    return strategy


async def _outcome(problem: Problem, traces: Sequence[Trace], scoring: Scoring, by: str, weighted: bool) -> Outcome:
    scores = await scoring.of(problem, traces)
    rated = [at for at, score in enumerate(scores) if score is not None]
    chosen = traces[max(rated, key=lambda at: scores[at] or 0.0, default=0)]
    best = max((score for score in scores if score is not None), default=None)
    why = "no draw gave an answer" if best is None else f"the best {by} of {len(traces)} is {best:.4g}"
    notes: dict[str, object] = {"scores": [score if score is None else round(score, 6) for score in scores]}
    if weighted and best is not None:
        ballot = await count(problem, traces, [score or 0.0 for score in scores])
        chosen, notes = ballot.chosen, {**notes, **ballot.notes}
        why = f"the answer with the largest sum of {by}, {ballot.ranked[0].weight:.4g}"
    if by == "verifier":
        why += ": the verifier chose, which is an oracle unless it is there when the answer is needed"
    if scoring.tokens:
        notes["judge_tokens"] = scoring.tokens
    return Outcome(chosen.answer, tuple(traces), spent(traces) + scoring.tokens, why, chosen, notes)
