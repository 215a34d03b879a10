"""What `/api/chat` and `/api/generate` have in common of what is told: heads, ends with their counts, refusals."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from thinksmith.records import Trace
from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.serve.dialect import About, Stamp
from thinksmith.serve.openai.logprobs import chat_logprobs


def error(refusal: Refusal) -> dict[str, Any]:
    """A refusal's body."""
    return {"error": refusal.message}


def head(asked: Asked) -> dict[str, Any]:
    """What begins every line."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return {"model": asked.model, "created_at": now.replace("+00:00", "Z")}


class Clock:
    """When an answer began and when its first piece came; `time.perf_counter` throughout."""

    def __init__(self, stamp: Stamp) -> None:
        self._began = stamp.began
        self._first: float | None = None

    def saw(self) -> None:
        """A piece came."""
        if self._first is None:
            self._first = time.perf_counter()

    def end(self, piece: Piece) -> dict[str, Any]:
        """Why it is over, the counts of tokens, and durations in nanoseconds. The prompt's is until the first piece
        came, waiting included, the answer's from then on; of an answer that came whole, all of the engine's time is the
        answer's."""
        assert piece.trace is not None
        now = time.perf_counter()
        first = max(self._began, now - piece.trace.seconds) if self._first is None else self._first
        return {
            "done": True,
            "done_reason": done_reason(piece.trace),
            "total_duration": _nanoseconds(now - self._began),
            "load_duration": 0,
            "prompt_eval_count": piece.trace.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(first - self._began),
            "eval_count": piece.tokens,
            "eval_duration": _nanoseconds(now - first),
        }


def _nanoseconds(seconds: float) -> int:
    return max(1, round(seconds * 1e9))


def done_reason(trace: Trace) -> str:
    """`length` also where a budget of the thinking left no answer."""
    return "stop" if trace.finish == "stop" else "length"


def loaded(asked: Asked, about: About, stamp: Stamp) -> dict[str, Any] | None:
    """What a request without a prompt is answered at once, without the model; None for all others."""
    reason = asked.notes.get("load")
    if not reason:
        return None
    empty = {"message": {"role": "assistant", "content": ""}} if asked.notes.get("chat") else {"response": ""}
    return {**head(asked), **empty, "done": True, "done_reason": reason}


def logprobs(asked: Asked, trace: Trace, about: About) -> dict[str, Any]:
    """The field of that name, where it is asked for and the engine tells it."""
    told = chat_logprobs(trace, about) if asked.logprobs else None
    return {"logprobs": told["content"]} if told else {}
