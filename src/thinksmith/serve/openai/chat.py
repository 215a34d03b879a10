"""`/v1/chat/completions`. Thinking comes as `reasoning_content` and `reasoning`: clients look for one or the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.records import Trace
from thinksmith.serve.asked import Asked, Effort, Piece, Refusal
from thinksmith.serve.dialect import About, Begun, Dialect, Stamp
from thinksmith.serve.fields import NO_LEVER, Fields, as_sampling
from thinksmith.serve.openai.errors import error
from thinksmith.serve.openai.logprobs import chat_logprobs
from thinksmith.serve.openai.messages import messages
from thinksmith.serve.openai.tools import schema, tools, written
from thinksmith.serve.openai.usage import usage

EFFORTS: dict[str, Effort] = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "xhigh",
}


def read(body: Mapping[str, Any]) -> Asked:
    """What a body asks for. Fields that change nothing of an answer (`user`, `store`, `metadata`) are passed over."""
    fields = Fields(body)
    fields.off("presence_penalty", "frequency_penalty", "logit_bias", why=NO_LEVER)
    fields.off("chat_template", why="templates are the model's own")
    fields.off("functions", "function_call", why="these became tools and tool_choice")
    offered, choice = tools(fields)
    talk = messages(fields)
    continues = bool(fields.flag("continue_final_message"))
    if continues and talk[-1]["role"] != "assistant":
        raise fields.refuse("continue_final_message", "the last message is not the assistant's")
    thinking = thinking_of(fields)
    return Asked(
        model=fields.text("model") or "",
        messages=talk,
        prefill=fields.text("prefill") or "",
        continues=continues,
        n=fields.whole("n", 1) or 1,
        stream=bool(fields.flag("stream")),
        sampling=sampling_of(fields),
        max_tokens=max_tokens_of(fields),
        **thinking,
        tools=offered,
        tool_choice=choice,
        schema=schema(fields),
        logprobs=bool(fields.flag("logprobs")),
        traces=bool(fields.flag("traces")),
        notes=_notes(fields),
    )


def sampling_of(fields: Fields) -> dict[str, Any]:
    """The fields of `records.Sampling` that are set."""
    top = fields.whole("top_k", -1)
    likeliest = fields.whole("top_logprobs", 0, 20)
    if likeliest and not fields.flag("logprobs"):
        raise fields.refuse("top_logprobs", "set logprobs to true with it")
    found = {
        "temperature": fields.number("temperature", 0, 100),
        "top_p": fields.number("top_p", 0, 1),
        "top_k": None if top is None else max(top, 0),
        "min_p": fields.number("min_p", 0, 1),
        "repetition_penalty": fields.number("repetition_penalty", 0.01, 100),
        "seed": fields.seed(),
        "stop": fields.texts("stop", most=16) or None,
        "stop_ids": fields.ids("stop_token_ids") or None,
        "top_logprobs": likeliest,
        "min_thinking_tokens": fields.whole("min_thinking_tokens", 0),
    }
    return as_sampling(found)


def max_tokens_of(fields: Fields) -> int | None:
    """The newer name goes first."""
    newer, older = (fields.whole(name, 1) for name in ("max_completion_tokens", "max_tokens"))
    return newer if newer is not None else older


def thinking_of(fields: Fields) -> dict[str, Any]:
    """How much is thought: `reasoning_effort`, `reasoning` (an object with `effort`, `max_tokens`, `enabled`),
    `thinking_token_budget`, `chat_template_kwargs.enable_thinking`. As fields of `Asked`."""
    reasoning = fields.table("reasoning") or Fields({})
    template = fields.table("chat_template_kwargs") or Fields({})
    effort = fields.one_of("reasoning_effort", tuple(EFFORTS)) or reasoning.one_of("effort", tuple(EFFORTS))
    flags = [template.flag("enable_thinking"), template.flag("thinking"), reasoning.flag("enabled")]
    flags = [each for each in flags if each is not None]
    budgets = [fields.whole("thinking_token_budget", 0), reasoning.whole("max_tokens", 0)]
    bounds = [each for each in budgets if each is not None]
    return {
        "effort": EFFORTS[effort] if effort else None,
        "think": None if not flags else all(flags),
        "max_thinking_tokens": min(bounds) if bounds else None,
    }


def _notes(fields: Fields) -> dict[str, Any]:
    options = fields.table("stream_options")
    return {"usage": bool(options and options.flag("include_usage"))}


def whole(asked: Asked, done: Sequence[Piece], about: About, stamp: Stamp) -> dict[str, Any]:
    """The whole answer."""
    return {
        "id": f"chatcmpl-{stamp.id}",
        "object": "chat.completion",
        "created": stamp.created,
        "model": asked.model,
        "choices": [_choice(asked, piece, about) for piece in done],
        "usage": usage(done),
        "system_fingerprint": None,
    }


def _choice(asked: Asked, piece: Piece, about: About) -> dict[str, Any]:
    trace = _trace(piece)
    content, calls = _parts(asked, trace)
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else "")}
    if trace.thinking:
        message |= {"reasoning_content": trace.thinking, "reasoning": trace.thinking}
    if calls:
        message["tool_calls"] = calls
    choice = {
        "index": piece.index,
        "message": message | {"refusal": None},
        "logprobs": chat_logprobs(trace, about) if asked.logprobs else None,
        "finish_reason": finish_reason(trace, bool(calls)),
    }
    return choice | strategy_words(asked, piece)


def _parts(asked: Asked, trace: Trace) -> tuple[str, list[dict[str, Any]]]:
    """The text of the answer, and the calls in it."""
    if not calls_possible(asked):
        return trace.answer, []
    from thinksmith.policy.tools import tool_calls_in

    text, calls = tool_calls_in(trace.answer, asked.tools)
    return text, written(calls)


def calls_possible(asked: Asked) -> bool:
    """May the answer hold calls of tools?"""
    return bool(asked.tools) and asked.tool_choice != "none"


def finish_reason(trace: Trace, called: bool) -> str:
    """Why it ended; a thinking that was cut by a budget so that no answer came is `length`."""
    if called and trace.finish == "stop":
        return "tool_calls"
    return "stop" if trace.finish == "stop" else "length"


def strategy_words(asked: Asked, piece: Piece) -> dict[str, Any]:
    """What a strategy came to, in a field of our own: `why` it stopped, its `notes`, and its traces where asked for."""
    if piece.outcome is None:
        return {}
    told: dict[str, Any] = {"why": piece.outcome.why, "notes": dict(piece.outcome.notes)}
    if asked.traces:
        told["traces"] = [
            {
                "thinking": trace.thinking,
                "answer": trace.answer,
                "finish": trace.finish,
                "thinking_tokens": trace.thinking_tokens,
                "answer_tokens": trace.answer_tokens,
                "chosen": trace is piece.outcome.chosen,
            }
            for trace in piece.outcome.traces
        ]
    return {"strategy": told}


class Stream:
    """An answer in chunks."""

    def __init__(self, asked: Asked, about: About, stamp: Stamp) -> None:
        self._asked, self._about = asked, about
        self._done: list[Piece] = []
        self._begun = Begun()
        self._called: dict[int, int] = {}  # calls that were told, by index
        self._readers: dict[int, Any] = {}
        self._head = {
            "id": f"chatcmpl-{stamp.id}",
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": asked.model,
        }

    def begin(self) -> list[dict[str, Any]]:
        return [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self._asked.n)]

    def feed(self, piece: Piece) -> list[dict[str, Any]]:
        self._begun.see(piece)
        text, index = piece.text, piece.index
        if piece.part == "answer":
            if not calls_possible(self._asked):
                return [self._chunk(index, {"content": text})]
            return self._with_calls(index, self._reader(index).feed(text))
        if piece.part == "thinking":
            return [self._chunk(index, {"reasoning_content": text, "reasoning": text})]
        if piece.part == "progress":
            return [self._chunk(index, {"reasoning_content": text, "reasoning": text, "progress": True})]
        if piece.part == "reset":
            return []
        return self._end(piece)

    def _end(self, piece: Piece) -> list[dict[str, Any]]:
        self._done.append(piece)
        trace, index = _trace(piece), piece.index
        frames = self._with_calls(index, self._reader(index).finish()) if index in self._readers else []
        if self._asked.logprobs:
            frames.append(self._chunk(index, {}, logprobs=chat_logprobs(trace, self._about)))
        reason = finish_reason(trace, index in self._called)
        frames.append(self._chunk(index, {}, finish_reason=reason, more=strategy_words(self._asked, piece)))
        return frames

    def finish(self) -> list[dict[str, Any]]:
        if not self._asked.notes.get("usage"):
            return []
        return [{**self._head, "choices": [], "usage": usage(self._done)}]

    def fail(self, refusal: Refusal) -> list[dict[str, Any]]:
        return [error(refusal)]

    def _chunk(
        self,
        index: int,
        delta: Mapping[str, Any],
        logprobs: Mapping[str, Any] | None = None,
        finish_reason: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason, **(more or {})}
        return {**self._head, "choices": [choice]}

    def _reader(self, index: int) -> Any:
        if index not in self._readers:
            from thinksmith.policy.tools import CallReader

            self._readers[index] = CallReader(self._asked.tools)
        return self._readers[index]

    def _with_calls(self, index: int, found: Sequence[Any]) -> list[dict[str, Any]]:
        """Text and calls in the order in which they came."""
        frames = []
        for each in found:
            if isinstance(each, str):
                if each:
                    frames.append(self._chunk(index, {"content": each}))
                continue
            number = self._called.get(index, 0)
            self._called[index] = number + 1
            frames.append(self._chunk(index, {"tool_calls": [{"index": number, **written([each])[0]}]}))
        return frames


def _trace(piece: Piece) -> Trace:
    assert piece.trace is not None, "a done piece has its trace"
    return piece.trace


CHAT = Dialect("chat", read, whole, Stream, error, last=b"data: [DONE]\n\n")
