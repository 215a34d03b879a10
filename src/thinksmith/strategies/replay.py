"""Sample only the answer again, from thinking that is kept: y ~ p(y|x,t)."""

from __future__ import annotations

from thinksmith.errors import UserError
from thinksmith.records import Request, Sampling, Trace


def replay_request(trace: Trace, n: int, sampling: Sampling) -> Request:
    """Ask for `n` answers to the trace's prompt x and thinking t, token for token as they were.

    The prompt is the ids that the model was given and those that it sampled up to the end of its thinking, end tag
    included; nothing is tokenised again. UserError for a trace without ids, or whose thinking never ended.
    """
    if trace.thinking_status == "none":
        raise UserError("this attempt has no thinking to sample answers from: choose another")
    if trace.thinking_status != "closed":
        raise UserError(
            "this attempt's thinking was cut off before its end: choose another, or ask with more --max-tokens"
        )
    if not trace.prompt_ids or not trace.token_ids:
        raise UserError("this attempt was stored without its token ids, so it cannot be replayed: choose another")
    return Request(token_ids=trace.prompt_ids + trace.token_ids[: trace.thinking_tokens], n=n, sampling=sampling)
