"""How a turn that has begun is gone on with: a prefill, a thinking that has reached its budget, a stream that broke.

Two roads. *Raw completions* of the conversation in the model's template, with the turn so far behind it: exact, but
somebody must put the conversation into the template: the server (vLLM's `/tokenize`, llama.cpp's `/apply-template`),
or a tokenizer here, which the configuration file may name. *The chat*, where it takes a last message of the
assistant's: the template then decides what it makes of it. Ollama's close a thinking that is handed in, so there an
answer can be continued and a thinking cannot.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from thinksmith.engines.remote.dialects.history import messages_of
from thinksmith.engines.remote.dialects.piece import Ask
from thinksmith.engines.remote.draft import Draft
from thinksmith.engines.remote.names import Endpoint
from thinksmith.engines.remote.wire.client import Client
from thinksmith.engines.remote.wire.faults import Garbled, Refused
from thinksmith.errors import UserError, one_line
from thinksmith.policy.messages import for_template
from thinksmith.thinking import is_open


class Continuing:
    """What the endpoint can do, and the asking for it."""

    def __init__(self, endpoint: Endpoint, client: Client) -> None:
        self._endpoint, self._client = endpoint, client
        self._renders = "tokenizer" if endpoint.tokenizer else endpoint.preset.renders
        self._tokenizer: Any = None
        self.raw = endpoint.preset.completions and bool(self._renders)
        """Are there raw completions of a conversation?"""

    @property
    def anywhere(self) -> bool:
        """Can a turn be continued wherever it stands, inside the thinking too?"""
        return self.raw or self._endpoint.preset.continues == "continue_final_message"

    @property
    def answers(self) -> bool:
        """Can an answer be continued, behind a thinking that is closed?"""
        return self.anywhere or self._endpoint.preset.continues == "thinking"

    def can(self, draft: Draft) -> bool:
        """Can this turn be? Ollama's only where a thinking has ended:

        a text without tags may be an answer, or the thinking of a model whose template opens it where no parser
        looks.
        """
        return self.anywhere or (self.answers and draft.parts.status == "closed" and not draft.prefill)

    def sure(self, draft: Draft) -> bool:
        """Can this turn be, without a doubt about where it stands?

        By raw completions always. In a chat only behind a thinking that is closed: a text without tags may be a
        thinking that the template opened, and inside a thinking a parser that finds no start tag may take what comes
        for the answer, or eat the end tag.
        """
        return self.raw or (self.can(draft) and draft.parts.status == "closed")

    async def ask(self, ask: Ask, draft: Draft) -> Ask:
        """The same, gone on with from the draft. Raises UserError where this endpoint cannot."""
        if not self.can(draft):
            raise UserError(cannot(self._endpoint, "go on with a turn that has begun"))
        start = draft.tags.start
        if not self.raw:
            lacks_start = draft.parts.status == "closed" and start not in draft.whole  # the template had it
            return replace(ask, continued=f"{start}\n{draft.whole}" if lacks_start else draft.whole)
        prompt = await self._prompt(ask)
        if is_open(prompt, draft.tags):  # the template has opened the thinking, so the turn need not
            draft.template = prompt[prompt.rindex(start) :]
            prompt = prompt.removesuffix(draft.template)
            draft.prefill = draft.prefill.removeprefix(start).removeprefix("\n")
            if not draft.prefill and draft.text.lstrip().startswith(start):
                draft.text = draft.text.lstrip().removeprefix(start).removeprefix("\n")
        return replace(ask, prompt=prompt + draft.whole, messages=(), budget=None, think=None)

    async def _prompt(self, ask: Ask) -> str:
        """The conversation in the model's template, up to where the assistant's turn begins."""
        messages = messages_of(self._endpoint, ask.messages)
        if self._renders == "tokenizer":
            return await asyncio.to_thread(self._by_tokenizer, messages, ask)
        body: dict[str, Any] = {"model": self._endpoint.model, "messages": messages}
        if ask.shown:
            body["tools"] = ask.shown
        if ask.think is not None:
            body["chat_template_kwargs"] = {"enable_thinking": ask.think}
        if self._renders == "apply-template":
            return str(await self._field("/apply-template", body, "prompt"))
        ids = await self._field("/tokenize", body | {"add_generation_prompt": True}, "tokens")
        return str(await self._field("/detokenize", {"model": self._endpoint.model, "tokens": ids}, "prompt"))

    async def _field(self, path: str, body: dict[str, Any], field: str) -> Any:
        try:
            async for event in self._client.call(path, body, framing="json"):
                if field in event.data:
                    return event.data[field]
        except Refused as fault:
            if fault.status in (404, 405, 501):
                raise UserError(
                    cannot(self._endpoint, f"put a conversation into the model's template ({path})")
                ) from None
            raise
        raise Garbled(f"{self._endpoint.base}{path}: the answer has no {field!r}")

    def _by_tokenizer(self, messages: list[dict[str, Any]], ask: Ask) -> str:
        from transformers import AutoTokenizer

        if self._tokenizer is None:
            from thinksmith.models import EMBEDDED, path

            name = self._endpoint.tokenizer
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(path(name) if name in EMBEDDED else name)
            except (OSError, ValueError) as error:
                raise UserError(f"no tokenizer {name!r} for {self._endpoint.name}: {one_line(error)}") from None
        options: dict[str, Any] = {} if ask.think is None else {"enable_thinking": ask.think}
        template = str(self._tokenizer.chat_template)
        if ask.shown or any(message.get("tool_calls") or message["role"] == "tool" for message in messages):
            messages, tools = for_template(ask.messages, ask.shown, template)
            options |= {} if tools is None else {"tools": tools}
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options))


def cannot(endpoint: Endpoint, what: str) -> str:
    """One line that says what to do instead."""
    instead = "name a tokenizer for it in the configuration file ([endpoints.NAME] tokenizer = …)"
    if not endpoint.preset.completions:
        instead = "leave out the prefill and the thinking budget, or use another server"
    return f"{endpoint.kind} at {endpoint.base} cannot {what}: {instead}"
