"""The rest of what was cut: every tool's results whole, and the tool with which a model reads on in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from thinksmith.agent.contract import Intent, Result, Tool, ToolFault
from thinksmith.agent.journal import Journal
from thinksmith.agent.texts import READ_MORE

NAME = "read_more"
_HELD = 32_000_000  # characters without a journal; the oldest go first


class Wholes:
    """What tools gave, whole, by handle: in the journal's folder, or here where there is none."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._held = 0

    def keep(self, handle: str, text: str) -> None:
        if self._journal:
            return  # it is written there with the result
        self._texts[handle] = text
        self._held += len(text)
        while self._held > _HELD and len(self._texts) > 1:
            _, old = self._texts.popitem(last=False)
            self._held -= len(old)

    def find(self, handle: str) -> str | None:
        return self._journal.whole(handle) if self._journal else self._texts.get(handle)

    def tool(self, most: int) -> Tool:
        """Gives `most` characters at a time."""

        async def read_more(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
            handle, start = str(arguments["handle"]), int(arguments["start"])
            text = self.find(handle)
            if text is None:
                raise ToolFault(f"there is no observation {handle[:40]!r}: handles stand where something was left out")
            if start >= len(text):
                raise ToolFault(f"it has {len(text):,} characters, so nothing stands at {start:,}")
            piece = text[start : start + most]
            left = len(text) - start - len(piece)
            return Result(piece + (f"\n({left:,} characters follow: start={start + len(piece)})" if left else ""))

        schema = {
            "type": "object",
            "properties": {"handle": {"type": "string"}, "start": {"type": "integer", "minimum": 0}},
            "required": ["handle", "start"],
            "additionalProperties": False,
        }
        return Tool(NAME, READ_MORE.format(most=most), schema, read_more)
