"""Log-probabilities as chat completions tell them: of the answer's tokens, the thinking's apart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from thinksmith.records import Trace
from thinksmith.serve.dialect import About

LOWEST = -9999.0  # JSON has no minus infinity; OpenAI writes this
_BROKEN = "\ufffd"  # part of a character, which no text holds


def chat_logprobs(trace: Trace, about: About) -> dict[str, Any] | None:
    """`{"content": [...], "refusal": null}`, one entry a token of the answer; None where the engine tells none."""
    if trace.logprobs is None or about.decode is None:
        return None
    told = _Tokens(about)
    stop = trace.thinking_tokens + _shown(trace, about)
    start = trace.thinking_tokens + _blank(about.decode, trace.token_ids[trace.thinking_tokens : stop], trace.answer)
    top = trace.top_logprobs or ((),) * len(trace.token_ids)
    entries = [
        {**told.entry(trace.token_ids[at], trace.logprobs[at]), "top_logprobs": [told.entry(*each) for each in top[at]]}
        for at in range(start, stop)
    ]
    return {"content": entries, "refusal": None}


def _shown(trace: Trace, about: About) -> int:
    """Tokens of the answer that stand in its text: an end of turn does not."""
    ids = trace.token_ids[trace.thinking_tokens :]
    if not ids or about.decode is None or trace.finish != "stop":
        return len(ids)
    return len(ids) - (not trace.completion.endswith(about.decode(ids[-1:])))


def _blank(decode: Callable[[Sequence[int]], str], ids: Sequence[int], answer: str) -> int:
    """Tokens that only lead from the thinking to the answer: blank lines, which the answer does not have."""
    before = len(decode(ids)) - len(answer)
    return bisect_right(range(1, len(ids) + 1), before, key=lambda count: len(decode(ids[:count]))) if before > 0 else 0


class _Tokens:
    """Token texts, each looked up once."""

    def __init__(self, about: About) -> None:
        assert about.decode is not None
        self._decode, self._known = about.decode, dict[int, tuple[str, list[int] | None]]()

    def entry(self, number: int, logprob: float) -> dict[str, Any]:
        if number not in self._known:
            text = self._decode([number])
            self._known[number] = text, None if _BROKEN in text else list(text.encode())
        text, raw = self._known[number]
        return {"token": text, "logprob": max(logprob, LOWEST), "bytes": raw}
