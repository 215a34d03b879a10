"""One rollout out of those of all ranks, to be described: as one process that asked everything would have it."""

from __future__ import annotations

from dataclasses import replace

from thinksmith.records import Attempt
from thinksmith.training.ranks import Ranks
from thinksmith.training.rl.rollout import Rollout


def gathered(rollout: Rollout, ranks: Ranks) -> Rollout:
    """The attempts of all ranks in the order drawn, without their ids and log-probabilities, which stay where they are
    learnt from. The seconds are those of the slowest rank."""
    if ranks.size == 1:
        return rollout
    parts = ranks.gather(_light(rollout))
    # The number of a sample counts on from draw to draw.
    used = sorted(
        (
            row
            for part in parts
            for row in zip(part.attempts, part.groups, part.rewards, part.parts, part.masked, strict=True)
        ),
        key=lambda row: row[0].sample,
    )
    wasted = sorted(
        (row for part in parts for row in zip(part.wasted, part.wasted_rewards, part.wasted_parts, strict=True)),
        key=lambda row: row[0].sample,
    )
    return replace(
        rollout,
        attempts=tuple(row[0] for row in used),
        groups=tuple(row[1] for row in used),
        rewards=tuple(row[2] for row in used),
        parts=tuple(row[3] for row in used),
        masked=tuple(row[4] for row in used),
        wasted=tuple(row[0] for row in wasted),
        wasted_rewards=tuple(row[1] for row in wasted),
        wasted_parts=tuple(row[2] for row in wasted),
        sample_seconds=max(part.sample_seconds for part in parts),
        verify_seconds=max(part.verify_seconds for part in parts),
    )


def _light(rollout: Rollout) -> Rollout:
    return replace(
        rollout,
        attempts=tuple(map(_without_ids, rollout.attempts)),
        wasted=tuple(map(_without_ids, rollout.wasted)),
    )


def _without_ids(attempt: Attempt) -> Attempt:
    trace = attempt.trace
    # `tokens` is then the sum of the two counts, which leaves out the tags: the difference goes to the answer's.
    answer_tokens = trace.tokens - trace.thinking_tokens
    return replace(
        attempt,
        trace=replace(
            trace, token_ids=(), logprobs=None, prompt_ids=(), top_logprobs=None, answer_tokens=answer_tokens
        ),
    )
