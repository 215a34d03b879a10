"""What an engine is asked, given what a client asked for."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from thinksmith.engines.contract import Encodes
from thinksmith.engines.going_on import prefill_of
from thinksmith.records import Request, Sampling
from thinksmith.serve.asked import Asked, Effort, Refusal
from thinksmith.serve.models import Base

EFFORTS: dict[Effort, tuple[int, float]] = {
    "minimal": (256, 1 / 16),
    "low": (1024, 1 / 8),
    "medium": (4096, 1 / 4),
    "high": (16384, 1 / 2),
}
"""Effort → the most tokens of thinking, and the most as a share of the context; the lower of them holds. `none` is no
thinking at all, `xhigh` any."""
_USUAL_TOKENS = 8192  # where nobody says how long the context is


def request_of(base: Base, asked: Asked) -> Request:
    """Raises Refusal for what this engine cannot be asked."""
    messages, prefill = asked.messages, asked.prefill
    if asked.continues:
        messages, prefill = messages[:-1], prefill_of(base.engine, messages[-1]) + prefill
        if not messages:
            raise Refusal("a turn of the assistant's is gone on with, and none stands before it", field="messages")
    ids = asked.token_ids
    if asked.text:
        if not isinstance(base.engine, Encodes):
            raise Refusal(f"{base.name} takes chats only: its tokenizer is not here", field="prompt")
        ids = base.engine.encode(asked.text)
    if not messages and not ids:
        raise Refusal("the prompt is empty: a model needs at least one token", field="prompt")
    return Request(
        messages=messages,
        token_ids=ids,
        prefill=prefill,
        n=asked.n,
        sampling=sampling_of(base, asked),
        tools=asked.tools,
        tool_choice=asked.tool_choice,
        schema=asked.schema,
        plain=not messages,
    )


def sampling_of(base: Base, asked: Asked) -> Sampling:
    """The model's own sampling, but for what the client set. A seed that was not set is drawn."""
    given: dict[str, Any] = {"seed": secrets.randbits(31), **asked.sampling}
    budget = thinking_budget(base, asked)
    if budget is not None:
        given["max_thinking_tokens"] = budget
        given["min_thinking_tokens"] = min(budget, given.get("min_thinking_tokens", 0))
    most = asked.max_tokens or base.info.context_length or _USUAL_TOKENS
    return replace(base.info.sampling, **given, max_tokens=most)


def thinking_budget(base: Base, asked: Asked) -> int | None:
    """The most tokens of thinking; None where nothing bounds them."""
    if asked.think is False or asked.effort == "none":
        return 0
    bounds = [] if asked.max_thinking_tokens is None else [asked.max_thinking_tokens]
    if asked.effort in EFFORTS:
        tokens, share = EFFORTS[asked.effort]
        bounds.append(min(tokens, int((base.info.context_length or tokens / share) * share)))
    return min(bounds) if bounds else None
