"""What a step's rollout looks like in numbers: the first half of a row of metrics.jsonl (the update writes the other).

Names follow TRL where the idea is the same. Shares lie in 0..1, lengths are in tokens. A mean of nothing is no number:
its key is left out of the row, so a reader must take a row as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from thinksmith.audit.equations import find_equations
from thinksmith.audit.loops import find_loop
from thinksmith.audit.segments import find_segments
from thinksmith.records import Attempt
from thinksmith.training.rl.calling import call_shares
from thinksmith.training.rl.rollout import Rollout
from thinksmith.training.rows import Metrics

# Reading a trace costs about 0.6 µs a character for its habits and 2 to 6 µs for its equations and loops (one core), so
# a step is read within bounds: at most about 0.3 s for the habits and 0.2 s for the rest, however long the traces are.
_HABITS_OF, _HABITS_CHARACTERS = 256, 500_000
_AUDITED, _AUDITED_CHARACTERS = 64, 32_000
_FEWEST = 8


def describe(rollout: Rollout) -> Metrics:
    """The numbers of one step's rollout.

    All is counted over all that the model was asked in the step, also the groups that dynamic sampling put away: else
    `reward` and `accuracy` would tell what was chosen, not what the model can do. `reward_std` is the standard
    deviation of the rewards (n - 1), `frac_reward_zero_std` the share of the groups that teach nothing because their
    rewards are equal; `waste_share` the share of the drawn groups that are not trained on.

    Where problems say whether they need a tool, `call_share_needed` and `call_share_needless` are the shares of the
    attempts with a call at such as do and such as do not, `fitting_share` of those that end right with a call exactly
    where one is needed.

    The habits (checks, backtracks) are read in at most 256 attempts and half a million characters, equations and loops
    in at most 64 attempts and 32,000 characters, but never in fewer than 8: where there is more, in an even sample.
    """
    attempts = (*rollout.attempts, *rollout.wasted)
    told = {**_rewards(rollout), **_groups(rollout), **_verdicts(attempts), **call_shares(attempts)}
    return {**told, **_lengths(attempts), **_habits(attempts)}


def _rewards(rollout: Rollout) -> Metrics:
    rewards = [reward for reward in (*rollout.rewards, *rollout.wasted_rewards) if reward is not None]
    row = _means({"reward": rewards})
    if len(rewards) > 1:
        row["reward_std"] = float(np.std(rewards, ddof=1))
    each = (*rollout.parts, *rollout.wasted_parts)
    for name in dict.fromkeys(name for parts in each for name in parts):
        values = [parts.get(name) for parts in each]
        row |= _means({f"reward/{name}": [value for value in values if value is not None]})
    return row


def _groups(rollout: Rollout) -> Metrics:
    """Groups that cannot teach, and how many were drawn to fill the batch."""
    draws = rollout.draws
    if not draws.groups:  # not drawn by `roll_out`
        rewards_by_group: dict[int, set[float]] = defaultdict(set)
        for group, reward in zip(rollout.groups, rollout.rewards, strict=True):
            if reward is not None:
                rewards_by_group[group].add(reward)
        return _means({"frac_reward_zero_std": [len(rewards) == 1 for rewards in rewards_by_group.values()]})
    kept = draws.groups - draws.dead - draws.errors - draws.surplus
    return {
        "frac_reward_zero_std": draws.dead / draws.groups,
        "groups_drawn": float(draws.groups),
        "groups_dead": float(draws.dead),
        "groups_kept": float(kept),
        "waste_share": 1 - kept / draws.groups,
    }


def _verdicts(attempts: Sequence[Attempt]) -> Metrics:
    statuses = [attempt.verdict.status for attempt in attempts]
    names = {
        "truncated_share": "truncated",
        "no_answer_share": "no_answer",
        "verify_error_share": "error",
        "verify_timeout_share": "timeout",
    }
    shares = {key: [status == name for status in statuses] for key, name in names.items()}
    return _means({"accuracy": [attempt.verdict.correct for attempt in attempts], **shares})


def _lengths(attempts: Sequence[Attempt]) -> Metrics:
    tokens = [attempt.trace.tokens for attempt in attempts]
    row = _means({"thinking_tokens": [attempt.trace.thinking_tokens for attempt in attempts]})
    row |= _means({"completion_tokens": tokens})
    return row | ({"completions/max_length": float(max(tokens))} if tokens else {})


def _habits(attempts: Sequence[Attempt]) -> Metrics:
    texts = [_thought(attempt) for attempt in attempts]
    kinds = [{s.kind for s in find_segments(text)} for text in _sample(texts, _HABITS_OF, _HABITS_CHARACTERS)]
    audited = _sample(texts, _AUDITED, _AUDITED_CHARACTERS)
    equations = [[equation.true for equation in find_equations(text)] for text in audited]
    return _means(
        {
            "check_share": ["check" in found for found in kinds],
            "backtrack_share": ["backtrack" in found for found in kinds],
            "check_or_backtrack_share": [not found.isdisjoint(("check", "backtrack")) for found in kinds],
            "true_equation_share": [sum(found) / len(found) for found in equations if found],
            "loop_share": [find_loop(text) is not None for text in audited],
        }
    )


def _thought(attempt: Attempt) -> str:
    """The text that an audit reads: the thinking, or the answer of a model that does not think apart."""
    trace = attempt.trace
    return trace.thinking if trace.thinking.strip() or not trace.answer.strip() else trace.answer


def _sample(texts: Sequence[str], most: int, characters: int) -> list[str]:
    """At most `most` texts, evenly spread, of about `characters` in all; at least 8 where there are as many.

    Even, not random: the groups, which lie side by side, have the same share in it, and a repeated step gives the same.
    """
    mean_length = sum(map(len, texts)) / max(len(texts), 1)
    count = min(len(texts), most, max(_FEWEST, int(characters / max(mean_length, 1.0))))
    return [texts[index * len(texts) // count] for index in range(count)]


def _means(values: dict[str, Sequence[float]]) -> Metrics:
    return {name: float(np.mean(each)) for name, each in values.items() if len(each)}
