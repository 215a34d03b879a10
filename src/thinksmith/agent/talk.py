"""How what was said becomes the next request. The history is linear: nothing is ever said again in other words, but
that observations may be taken out when the context fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from thinksmith.records import Message, Request, Sampling, Trace

CHARACTERS_A_TOKEN = 3
"""Of text that no engine has counted yet: few, so that the estimate is high."""


class Talk(Protocol):
    """The history of one trajectory, as one kind of request or another."""

    def hear(self, messages: Sequence[Message]) -> None:
        """The system, the user and the tools say something."""
        ...

    def say(self, trace: Trace, message: Message) -> None:
        """The model has said something: the trace as it was sampled, and the same as a message."""
        ...

    def request(self, sampling: Sampling, tools: Sequence[Mapping[str, Any]], choice: str) -> Request:
        """What is asked next. `choice`: `auto`, or `none` where no tool is to be called."""
        ...

    @property
    def tokens(self) -> int:
        """How many tokens the next prompt has, about."""
        ...

    def take_out(self, stubs: Mapping[str, str]) -> bool:
        """Put these texts in the place of the observations of these calls (by id). False where this history cannot."""
        ...


class MessagesTalk:
    """As chat messages: which of the earlier thinking the model is told again is its template's or endpoint's rule."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._counted = 0  # tokens that an engine has counted, of the first messages
        self._added = 0  # characters since

    def hear(self, messages: Sequence[Message]) -> None:
        self.messages += messages
        self._added += sum(len(message["content"]) for message in messages)

    def say(self, trace: Trace, message: Message) -> None:
        self.messages.append(message)
        if trace.prompt_tokens:
            self._counted, self._added = trace.prompt_tokens + trace.tokens, 0
        else:
            self._added += len(trace.text)

    def request(self, sampling: Sampling, tools: Sequence[Mapping[str, Any]], choice: str) -> Request:
        return Request(messages=tuple(self.messages), sampling=sampling, tools=tuple(tools), tool_choice=choice)

    @property
    def tokens(self) -> int:
        return max(0, self._counted + self._added // CHARACTERS_A_TOKEN)

    def take_out(self, stubs: Mapping[str, str]) -> bool:
        for at, message in enumerate(self.messages):
            stub = stubs.get(message.get("tool_call_id", "")) if message["role"] == "tool" else None
            if stub is not None:
                self._added += len(stub) - len(message["content"])
                self.messages[at] = Message(**{**message, "content": stub})
        return True
