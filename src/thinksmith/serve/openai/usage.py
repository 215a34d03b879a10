"""How many tokens an answer took, as OpenAI counts them: thinking is part of the completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thinksmith.serve.asked import Piece


def usage(done: Sequence[Piece]) -> dict[str, Any]:
    """Of all completions of a request. What a strategy sampled beside the trace that it chose is reasoning."""
    traces = [piece.trace for piece in done if piece.trace]
    prompt = max((trace.prompt_tokens for trace in traces), default=0)
    completion = sum(piece.tokens for piece in done)
    answers = sum(trace.answer_tokens for trace in traces)
    cached = max((trace.usage.cached_tokens for trace in traces if trace.usage), default=0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": max(0, completion - answers)},
    }
