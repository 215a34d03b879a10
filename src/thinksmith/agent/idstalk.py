"""The history as token ids: the next prompt is the last one, what was sampled, and the turns that came since.

Nothing is ever tokenised again, so what the model is trained on is what it read and sampled; and all earlier thinking
stays in the history, whatever the template would leave out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.agent.talk import CHARACTERS_A_TOKEN
from thinksmith.engines.contract import Engine, Turns
from thinksmith.errors import UserError
from thinksmith.records import Message, Request, Sampling, Trace


class IdsTalk:
    """Fulfils `thinksmith.agent.talk.Talk`. The engine must know its model's turns (`engines.contract.Turns`), which a
    local one does. Raises UserError for another."""

    def __init__(self, engine: Engine) -> None:
        if not isinstance(engine, Turns) or not engine.info.token_ids:
            raise UserError(f"{engine.info.name} gives no token ids: a history of ids needs a local model")
        self._turns: Turns = engine
        self._heard: list[Message] = []  # since the model spoke last
        self._ids: tuple[int, ...] = ()  # all that it read and sampled
        self._ended = False  # did it sample the end of its turn?

    def hear(self, messages: Sequence[Message]) -> None:
        self._heard += messages

    def say(self, trace: Trace, message: Message) -> None:
        self._ids = trace.prompt_ids + trace.token_ids
        self._ended = _ended(trace)
        self._heard.clear()

    def request(self, sampling: Sampling, tools: Sequence[Mapping[str, Any]], choice: str) -> Request:
        """The first request are the messages, with the tools; the others are ids."""
        if not self._ids:
            return Request(messages=tuple(self._heard), sampling=sampling, tools=tuple(tools), tool_choice=choice)
        turn = self._turns.turn(self._heard, ended=self._ended)
        return Request(token_ids=self._ids + turn, sampling=sampling)

    @property
    def tokens(self) -> int:
        return len(self._ids) + sum(len(message["content"]) for message in self._heard) // CHARACTERS_A_TOKEN

    def take_out(self, stubs: Mapping[str, str]) -> bool:
        """What was read stays as it was read."""
        return False


def _ended(trace: Trace) -> bool:
    """Did it sample the end of its turn? At a stop text it did not."""
    return trace.finish == "stop" and not any(stop for stop in trace.sampling.stop)
