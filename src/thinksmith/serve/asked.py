"""What a client asked for, whatever the dialect it spoke, and what comes back while it is made.

A dialect turns a body into an `Asked`, and `Piece`s into its own answer; nothing else passes between them and the
server. So a dialect knows no engine, and the server no dialect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from thinksmith.records import Message, Trace
from thinksmith.strategies.contract import Outcome

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
"""How much to think, in words; `none` answers at once. `models.py` says how many tokens each is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for `n` completions of `messages` (a chat) or of `text` or `token_ids` (raw, as they stand).

    `model` is what the client called it. `sampling` holds what the client set of `records.Sampling`, by field name;
    what it did not set is the model's own. `max_tokens` None: as many as the context has room for. `think`: False asks
    for an answer without thinking, True and None leave it to the model; `effort` and `max_thinking_tokens` bound it,
    and the lower of them holds.

    `prefill` begins the assistant's turn. `continues`: the last message is the assistant's, and is gone on with.
    `tools` are descriptions of functions as OpenAI writes them (`{"type": "function", "function": {...}}`);
    `tool_choice` is auto, none, required, or the name of the one that must be called. `schema` is a JSON schema that
    the answer fulfils; {} asks for any JSON object. `traces`: the client wants what a strategy looked at, too. `notes`
    are the dialect's own, for its answer.
    """

    model: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    token_ids: tuple[int, ...] = ()
    prefill: str = ""
    continues: bool = False
    n: int = 1
    stream: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    think: bool | None = None
    effort: Effort | None = None
    max_thinking_tokens: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = "auto"
    schema: Mapping[str, Any] | None = None
    logprobs: bool = False
    traces: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of completion number `index`: text of its `thinking` or `answer`; `done` ends it and has its `trace`.

    `reset` takes back all that came of this completion. `progress` is a strategy's word of what it does, one line with
    its line break; dialects show it as thinking, but it is no part of the trace's. `outcome` is there where a strategy
    answered; `tokens` (with `done`) are all that were sampled for this completion, those of other traces included.
    """

    index: int
    part: Literal["thinking", "answer", "progress", "reset", "done"]
    text: str = ""
    trace: Trace | None = None
    outcome: Outcome | None = None
    tokens: int = 0


class Refusal(Exception):
    """The request cannot be served, and the client is told why: an HTTP `status`, one line, and which `field` of the
    body is at fault. `retry_after`: seconds, where it may come again."""

    def __init__(self, message: str, *, status: int = 400, field: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.field, self.retry_after = message, status, field, retry_after
