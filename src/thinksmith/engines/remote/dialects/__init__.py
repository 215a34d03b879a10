"""What each kind of server wants to be asked, and how its answers are read: one file an API."""

from __future__ import annotations

from thinksmith.engines.remote.dialects import chat, completions, ollama, responses
from thinksmith.engines.remote.dialects.piece import Ask, Call, Reader
from thinksmith.thinking import Tags


def call(ask: Ask) -> Call:
    """The request for what is asked. Raises UserError for what this endpoint cannot do."""
    if ask.raw:
        return completions.call(ask)
    if ask.endpoint.preset.dialect == "ollama":
        return ollama.call(ask)
    return responses.call(ask) if ask.endpoint.preset.dialect == "responses" else chat.call(ask)


def reader(ask: Ask, tags: Tags, opened: bool, before: str = "") -> Reader:
    """A reader of the answer to it. `opened`: a prefill opened the thinking; `before`: the turn behind it so far."""
    if not ask.raw and ask.endpoint.preset.dialect == "ollama":
        return ollama.OllamaReader(tags, opened, before)
    if not ask.raw and ask.endpoint.preset.dialect == "responses":
        return responses.ResponsesReader(tags, opened, before)
    return chat.ChatReader(tags, opened, before)
