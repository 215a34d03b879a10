"""One call: allowed or not, written down, made within its time, and told of. Whatever a tool does, what comes of it is
an observation; only the owner's Ctrl-C and a journal that cannot be written end a run."""

from __future__ import annotations

import time
from dataclasses import replace

from thinksmith.agent.calls import Asked
from thinksmith.agent.contract import Approve, Intent, Observation, Result, Tool, Watcher
from thinksmith.agent.journal import Begun, Journal, Place
from thinksmith.agent.making import intended, made
from thinksmith.agent.observing import clean, cut, harmless, marked, nonce
from thinksmith.agent.reading_on import Wholes
from thinksmith.agent.texts import REFUSED, UNKNOWN
from thinksmith.agent.within import within
from thinksmith.errors import one_line
from thinksmith.records import ToolCall


class Acting:
    """Makes calls for one trajectory. `shown`: characters of an observation that the model sees; `marks`: whether it is
    told where data begins and ends; `secret` is what nobody who writes data knows."""

    def __init__(
        self,
        approve: Approve,
        watcher: Watcher,
        journal: Journal | None,
        wholes: Wholes,
        *,
        shown: int,
        marks: bool,
        secret: bytes,
    ) -> None:
        self._approve, self._watcher, self._journal, self._wholes = approve, watcher, journal, wholes
        self._shown, self._marks, self._secret = shown, marks, secret
        self._always = set(journal.always) if journal else set[str]()

    async def __call__(self, asked: Asked, place: Place) -> Observation:
        """What came of the call, or what had come of it before an interruption."""
        if self._journal and place in self._journal.results:
            known = self._journal.results[place]
            self._watcher.observed(known)
            return known
        began = time.perf_counter()
        tool = asked.tool
        if tool is None or asked.fault:
            observation, whole = self._told(Result(asked.fault, ok=False), asked.call, tool, place)
        else:
            observation, whole = await self._made(tool, asked.call, place)
        observation = replace(observation, seconds=time.perf_counter() - began)
        if self._journal:
            self._journal.result(place, observation, whole)
        self._watcher.observed(observation)
        return observation

    async def _made(self, tool: Tool, call: ToolCall, place: Place) -> tuple[Observation, str]:
        begun = self._journal.begun.get(place) if self._journal else None
        if begun and not tool.repeatable:
            settled = await self._settled(tool, begun)
            if settled is not None:
                return self._told(settled, call, tool, place, effect=begun.summary if settled.ok else "")
        intent, fault = await intended(tool, call["arguments"])
        if fault:
            return self._told(fault, call, tool, place)
        if tool.kind != "read" and not await self._allowed(tool, call, intent):
            observation, whole = self._told(Result(f"{tool.name}: {REFUSED}", ok=False), call, tool, place)
            return replace(observation, refused=True), whole
        if tool.kind != "read" and self._journal:
            self._journal.begin(place, call, tool.group, intent)
        self._watcher.calling(tool, call)
        result, unsure = await made(tool, call["arguments"], intent)
        summary = intent.summary if intent else tool.name
        happened = tool.kind != "read" and (result.ok or unsure)
        effect = (summary + (" (perhaps: it failed)" if unsure else "")) if happened else ""
        return self._told(result, call, tool, place, effect=effect)

    async def _settled(self, tool: Tool, begun: Begun) -> Result | None:
        """What is known of a call that was begun before an interruption; None: it surely was not made."""
        if tool.settled is None:
            return Result(f"{tool.name}: {UNKNOWN}", ok=False)
        try:
            return await within(tool.seconds, tool.settled(begun.record))
        except Exception as error:
            return Result(f"{tool.name}: {UNKNOWN} ({one_line(error)})", ok=False)

    async def _allowed(self, tool: Tool, call: ToolCall, intent: Intent | None) -> bool:
        if tool.name in self._always:
            return True
        decision = await self._approve(tool, call, intent)
        if decision == "always":
            self._always.add(tool.name)
            if self._journal:
                self._journal.allow(tool.name)
        return decision in ("once", "always")

    def _told(
        self, result: Result, call: ToolCall, tool: Tool | None, place: Place, *, effect: str = ""
    ) -> tuple[Observation, str]:
        """The observation, and all that the tool gave."""
        whole = clean(result.text)
        handle = f"{place[0]}-{place[1]}" if len(whole) > self._shown else ""
        if handle:
            self._wholes.keep(handle, whole)
        more = f'; read_more(handle="{handle}", start={{start}}) shows them' if handle else ""
        text = harmless(cut(whole, self._shown, more)) or "(nothing)"
        if not result.ok:
            text = f"That did not work: {text}"
        if self._marks:
            text = marked(text, tool.name if tool else "the agent", nonce(self._secret, *place))
        kind = tool.kind if tool else "read"
        return Observation(call, text, result.ok, kind, raw=len(whole), handle=handle, effect=clean(effect)), whole
