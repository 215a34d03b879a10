"""The events of a response, in the order and shape of the `openai` package's types (`openai/types/responses`).

    response.created, response.in_progress
      response.output_item.added            a reasoning item, a message, or a call of a function
        response.content_part.added         (a reasoning summary's: response.reasoning_summary_part.added)
        response.output_text.delta …        (reasoning_text, reasoning_summary_text, function_call_arguments)
        response.output_text.done
        response.content_part.done
      response.output_item.done
    response.completed, response.incomplete or response.failed

Thinking is a reasoning item's `content`, all of it; where a summary was asked for, it stands in `summary` instead, for
clients that look nowhere else: it is not made shorter.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from thinksmith.policy.tools import CallReader
from thinksmith.records import ToolCall, Trace
from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.serve.dialect import About, Begun, Stamp
from thinksmith.serve.openai.logprobs import chat_logprobs
from thinksmith.serve.openai.usage import usage

Event = dict[str, Any]


class Stream:
    """A response as it is made."""

    def __init__(self, asked: Asked, about: About, stamp: Stamp) -> None:
        self._asked, self._about, self._stamp = asked, about, stamp
        self._count = 0
        self._output: list[Event] = []  # items; the last may be open
        self._text: list[str] | None = None  # of the open item; None: none is open
        self._calls = 0
        self._begun = Begun()
        self._done: Piece | None = None
        calls = bool(asked.tools) and asked.tool_choice != "none"
        self._reader = CallReader(asked.tools) if calls else None

    def begin(self) -> list[Event]:
        shown = self._response("in_progress")
        return [self._event("response.created", response=shown), self._event("response.in_progress", response=shown)]

    def feed(self, piece: Piece) -> list[Event]:
        self._begun.see(piece)
        if piece.part in ("thinking", "progress"):
            return self._say("reasoning", piece.text)
        if piece.part == "answer":
            return self._take(self._reader.feed(piece.text) if self._reader else [piece.text])
        if piece.part == "reset":
            return []
        self._done = piece
        events = self._take(self._reader.finish()) if self._reader else []
        if not self._output or (self._output[-1]["type"] == "reasoning" and self._status == "completed"):
            events += self._say("message", "", even_empty=True)
        return events + self._close(self._status)

    def finish(self) -> list[Event]:
        return [self._event(f"response.{self._status}", response=self._response(self._status))]

    def fail(self, refusal: Refusal) -> list[Event]:
        failed = self._response("failed") | {"error": {"code": "server_error", "message": refusal.message}}
        told = {"code": "server_error", "message": refusal.message, "param": refusal.field or None}
        return [self._event("error", **told), self._event("response.failed", response=failed)]

    @property
    def _trace(self) -> Trace:
        assert self._done is not None
        assert self._done.trace is not None
        return self._done.trace

    @property
    def _status(self) -> str:
        return "completed" if self._trace.finish == "stop" else "incomplete"

    def _event(self, kind: str, **more: Any) -> Event:
        self._count += 1
        return {"type": kind, "sequence_number": self._count - 1, **more}

    def _take(self, found: list[str | ToolCall]) -> list[Event]:
        events: list[Event] = []
        for each in found:
            if isinstance(each, str):
                events += self._say("message", each)
            elif not self._calls or self._asked.notes.get("parallel", True):
                events += self._call(each)
        return events

    # --- items

    def _say(self, kind: str, text: str, even_empty: bool = False) -> list[Event]:
        """More text of a reasoning item or a message; opens one where none of this kind is open."""
        if not text and not even_empty:
            return []
        events: list[Event] = []
        if self._text is None or self._output[-1]["type"] != kind:
            events += self._close("completed") + self._open(kind)
        assert self._text is not None
        if text:
            self._text.append(text)
            more: Event = {"logprobs": []} if kind == "message" else {}
            events.append(self._event(f"response.{self._name}.delta", **self._place, delta=text, **more))
        return events

    @property
    def _summary(self) -> bool:
        return bool(self._asked.notes.get("summary"))

    @property
    def _name(self) -> str:
        """What the text of the open item is called in events."""
        if self._output[-1]["type"] == "message":
            return "output_text"
        return "reasoning_summary_text" if self._summary else "reasoning_text"

    @property
    def _item_at(self) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1}

    @property
    def _place(self) -> dict[str, Any]:
        return self._item_at | (
            {"summary_index": 0} if self._name == "reasoning_summary_text" else {"content_index": 0}
        )

    @property
    def _part_event(self) -> str:
        return "reasoning_summary_part" if self._name == "reasoning_summary_text" else "content_part"

    def _part(self, text: str, logprobs: list[Any] | None = None) -> dict[str, Any]:
        if self._name == "output_text":
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}
        return {"type": "summary_text" if self._name == "reasoning_summary_text" else "reasoning_text", "text": text}

    def _open(self, kind: str) -> list[Event]:
        number = f"{self._stamp.id}{len(self._output):02x}"
        if kind == "message":
            item: Event = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": []}
        else:
            item = {"id": f"rs_{number}", "type": "reasoning", "summary": [], "content": [], "encrypted_content": None}
        self._output.append(item | {"status": "in_progress"})
        self._text = []
        return [
            self._event("response.output_item.added", output_index=len(self._output) - 1, item=dict(self._output[-1])),
            self._event(f"response.{self._part_event}.added", **self._place, part=self._part("")),
        ]

    def _close(self, status: str) -> list[Event]:
        """End the item that is open, if one is."""
        if self._text is None:
            return []
        text, self._text = "".join(self._text), None
        item = self._output[-1]
        logprobs = self._logprobs() if item["type"] == "message" else []
        part = self._part(text, logprobs)
        where = "summary" if self._name == "reasoning_summary_text" else "content"
        more = {"logprobs": logprobs} if item["type"] == "message" else {}
        item |= {where: [part], "status": status}
        return [
            self._event(f"response.{self._name}.done", **self._place, text=text, **more),
            self._event(f"response.{self._part_event}.done", **self._place, part=part),
            self._event("response.output_item.done", output_index=len(self._output) - 1, item=dict(item)),
        ]

    def _logprobs(self) -> list[Any]:
        """Of the answer's tokens; known at the end, so a message before a call has none."""
        if not self._asked.logprobs or self._done is None:
            return []
        told = chat_logprobs(self._trace, self._about) or {"content": []}
        return [_with_bytes(each) for each in told["content"]]

    def _call(self, call: ToolCall) -> list[Event]:
        """A call comes whole: an item from beginning to end."""
        events = self._close("completed")
        self._calls += 1
        arguments = json.dumps(call["arguments"], ensure_ascii=False)
        item = {
            "id": f"fc_{self._stamp.id}{len(self._output):02x}",
            "type": "function_call",
            "call_id": call.get("id") or f"call_{secrets.token_hex(12)}",
            "name": call["name"],
            "arguments": "",
            "status": "in_progress",
        }
        self._output.append(item)
        at = self._item_at
        index = {"output_index": at["output_index"]}
        events.append(self._event("response.output_item.added", **index, item=dict(item)))
        events.append(self._event("response.function_call_arguments.delta", **at, delta=arguments))
        events.append(
            self._event("response.function_call_arguments.done", **at, name=call["name"], arguments=arguments)
        )
        item |= {"arguments": arguments, "status": "completed"}
        return [*events, self._event("response.output_item.done", **index, item=dict(item))]

    # --- the response

    def _response(self, status: str) -> dict[str, Any]:
        ended = self._done is not None
        return {
            "id": f"resp_{self._stamp.id}",
            "object": "response",
            "created_at": self._stamp.created,
            "model": self._asked.model,
            "status": status,
            "output": [dict(item) for item in self._output],
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "background": False,
            "previous_response_id": None,
            "store": False,
            "usage": _usage(self._done) if ended and self._done else None,
            **self._asked.notes.get("said", {}),
        }


def _with_bytes(entry: dict[str, Any]) -> dict[str, Any]:
    """Here the bytes are never null: of half a character they are those of the sign that stands for it."""
    found = {**entry, "bytes": entry["bytes"] if entry["bytes"] is not None else list(entry["token"].encode())}
    if "top_logprobs" in entry:
        found["top_logprobs"] = [_with_bytes(each) for each in entry["top_logprobs"]]
    return found


def _usage(piece: Piece) -> dict[str, Any]:
    counted = usage([piece])
    return {
        "input_tokens": counted["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": counted["prompt_tokens_details"]["cached_tokens"],
            "cache_write_tokens": 0,
        },
        "output_tokens": counted["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": counted["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": counted["total_tokens"],
    }
