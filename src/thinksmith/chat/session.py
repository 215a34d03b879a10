"""A conversation with one model: what was said, and what is asked next."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from thinksmith.engines.contract import Delta, Engine
from thinksmith.errors import UserError
from thinksmith.records import Attempt, Message, Problem, Request, Sampling, Trace
from thinksmith.store.store import Store
from thinksmith.verify import verify


@dataclass(slots=True)
class Session:
    """`messages` are the turns that count; `settings` what was set against the model's own sampling.

    An answer that was stopped or that failed does not count: the question stays and can be asked again.
    """

    engine: Engine
    system: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    trace: Trace | None = None
    _run: str = ""
    _kept: int = 0

    @property
    def sampling(self) -> Sampling:
        return replace(self.engine.info.sampling, **self.settings)

    @property
    def waits(self) -> bool:
        """Is a question of the user's unanswered?"""
        return bool(self.messages) and self.messages[-1]["role"] == "user"

    def ask(self, text: str) -> None:
        """The user's next turn; one that was not answered is replaced."""
        if self.waits:
            self.messages.pop()
        self.messages.append({"role": "user", "content": text})

    def again(self) -> None:
        """The last question once more, with the next seed;

        its answer no longer counts. Raises UserError without one.
        """
        self._forget_answer()
        if not self.waits:
            raise UserError("nothing was asked yet")
        self.settings["seed"] = self.sampling.seed + 1

    def undo(self) -> None:
        """The last question and its answer no longer count. Raises UserError without one."""
        self._forget_answer()
        if not self.waits:
            raise UserError("nothing was asked yet")
        self.messages.pop()

    def _forget_answer(self) -> None:
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        self.trace = None

    @property
    def request(self) -> Request:
        """What is asked now. A system text stands before all, where there is one."""
        before: tuple[Message, ...] = ({"role": "system", "content": self.system},) if self.system else ()
        return Request(messages=(*before, *self.messages), sampling=self.sampling)

    async def answer(self) -> AsyncGenerator[Delta]:
        """The model's turn as it comes; it counts when it is complete."""
        async for delta in self.engine.stream(self.request):
            if delta.trace and delta.trace.finish != "error":
                self.trace = delta.trace
                said: Message = {"role": "assistant", "content": delta.trace.answer}
                if delta.trace.thinking:
                    said["thinking"] = delta.trace.thinking
                self.messages.append(said)
            yield delta

    def keep(self, store: Store, trace: Trace) -> int:
        """The attempt in the store, in this conversation's run; its number."""
        asked = self.request.messages
        if asked[-1]["role"] == "assistant":
            asked = asked[:-1]
        text = "\n".join(f"{message['role']}: {message['content']}" for message in asked)
        problem = Problem(f"chat/{sha256(text.encode(errors='replace')).hexdigest()[:12]}", asked)
        if not self._run:
            info = self.engine.info
            self._run = store.start_run(
                "chat", " ".join(asked[-1]["content"].split())[:60], info.name, info.weights_hash
            )
        attempt = Attempt(problem, trace, verify(problem, trace), self._kept)
        self._kept += 1
        (number,) = store.add(self._run, [attempt])
        return number

    def close(self, store: Store) -> None:
        """The run is complete."""
        if self._run:
            store.finish_run(self._run, {})

    def turn_to(self, engine: Engine) -> None:
        """Another model goes on with the conversation; its attempts are a run of their own."""
        self.engine, self._run, self._kept, self.trace = engine, "", 0, None
