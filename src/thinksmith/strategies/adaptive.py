"""Voting that stops asking when the leader is safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling
from thinksmith.strategies.ballot import Ballot
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import draw
from thinksmith.strategies.vote import check_count, outcome

Rule = Literal["beta", "window"]


def adaptive(
    sampling: Sampling,
    *,
    rule: Rule = "beta",
    most: int = 16,
    threshold: float = 0.9,
    window: int = 4,
    first: int = 1,
    step: int = 1,
    sample: int = 0,
) -> Strategy:
    """Vote, and stop as soon as more draws would hardly change who leads; `most` draws at most.

    `rule=beta`: Adaptive-Consistency (Aggarwal et al. 2023, arXiv:2305.11860, its Beta criterion): stop when the
    probability that the leading answer is likelier than the second passes `threshold` (see `lead`). `rule=window`: ESC
    (Li et al. 2024, arXiv:2401.10480): draw `window` at a time and stop when all of a window give the same answer. With
    either rule it also stops when the draws that are left cannot change who leads: that costs no accuracy at all.

    Draws are made as many at once as the rule needs in the best case, so none is made that one at a time would not
    make. `first` draws are made before the first look and at least `step` each time: faster for some more draws.

    Cost: from 3 draws to all of vote@most, by how sure the model is: with threshold 0.9 a unanimous problem takes 3
    draws, with the 0.95 of the paper 4, which bench/scale.py found no more accurate. It is the same as `vote` where it
    used all draws. Helps wherever voting does, and most where many problems
    are easy. Notes: `votes`, `abstained`.
    """
    check_count(most, "adaptive", "most")
    check_count(first, "adaptive", "first")
    check_count(step, "adaptive", "step")
    if not 0.5 <= threshold <= 1:
        raise UserError(f"adaptive: threshold={threshold} is a probability from 0.5 to 1")
    if window < 2:
        raise UserError(f"adaptive: window={window} must be 2 or more: one draw always agrees with itself")

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        ballot, said = Ballot(problem), list[int | None]()  # by draw, the number of the class; None: abstained
        while (why := _stops(ballot, said, rule, most, threshold, window)) is None:
            drawn = len(said)
            wanted = max(first - drawn, step, _needed(ballot, said, rule, most, threshold, window))
            numbers = range(drawn, min(most, drawn + wanted))
            for trace in await draw(problem, engine, sampling, (sample * most + at for at in numbers)):
                found = await ballot.add(trace)
                said.append(None if found is None else ballot.classes.index(found))
        return outcome(ballot, why)

    return strategy


def lead(most: int, second: int) -> float:
    """The probability that the answer with `most` votes is the likelier one of two, given the votes of both.

    P(p > 1/2) for p ~ Beta(most + 1, second + 1): all other answers left out, and nothing known before (Aggarwal et al.
    2023). Exact: the regularised incomplete beta function.
    """
    from scipy.special import betainc

    return float(betainc(second + 1, most + 1, 0.5))


def _stops(
    ballot: Ballot, said: Sequence[int | None], rule: Rule, most: int, threshold: float, window: int
) -> str | None:
    """Why no more is drawn, or None."""
    drawn, leader = len(said), ballot.leader
    if drawn >= most:
        return f"all {most} draws are made"
    if not drawn:
        return None
    if ballot.decided(most - drawn):
        return f"{most - drawn} more draws could not change the answer"
    if leader is None:
        return None
    if rule == "window":
        agree = drawn >= window and said[-1] is not None and len(set(said[-window:])) == 1
        return f"the last {window} draws agree" if agree else None
    chance = lead(*_votes(ballot))
    return f"the leader is ahead with probability {chance:.3f}" if chance > threshold else None


def _needed(ballot: Ballot, said: Sequence[int | None], rule: Rule, most: int, threshold: float, window: int) -> int:
    """The fewest more draws after which it may stop: those that it takes if all of them go to the leader."""
    drawn = len(said)
    if rule == "window":
        return window
    ahead, second = _votes(ballot)
    for more in range(1, most - drawn):
        if lead(ahead + more, second) > threshold or ahead + more - second >= most - drawn - more:
            return more
    return most - drawn


def _votes(ballot: Ballot) -> tuple[int, int]:
    """Of the leader and of the second."""
    ahead, second, *_ = [*(each.count for each in ballot.ranked), 0, 0]
    return ahead, second
