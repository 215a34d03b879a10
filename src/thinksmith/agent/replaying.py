"""Tools that only give what was recorded."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from thinksmith.agent.contract import Intent, Result, Tool, ToolFault
from thinksmith.agent.journal import Journal
from thinksmith.store.attempts import canonical


class Recorded:
    """The results of a run by call. The last one of a call is given again: looking twice shows the same."""

    def __init__(self, journal: Journal) -> None:
        self._described = journal.head["described"]
        self._results: defaultdict[str, deque[Result]] = defaultdict(deque)
        for place in sorted(journal.results):
            observation = journal.results[place]
            if not observation.refused:
                key = _key(observation.call["name"], observation.call["arguments"])
                self._results[key].append(Result(journal.gave(place), observation.ok))
        self.missed = 0
        """Calls that were not recorded."""

    def tools(self) -> tuple[Tool, ...]:
        """All tools of the run."""
        return tuple(self._tool(described) for described in self._described)

    def _tool(self, described: Mapping[str, Any]) -> Tool:
        """A tool as it was described to the model then; nothing it does needs an approval."""
        name = str(described["name"])

        async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
            results = self._results.get(_key(name, arguments))
            if not results:
                self.missed += 1
                raise ToolFault("this is a replay, and no such call was recorded: only calls that were made then work")
            return results.popleft() if len(results) > 1 else results[0]

        return Tool(
            name,
            str(described["description"]),
            described["parameters"],
            call,
            group=str(described["group"]),
            fence=str(described["fence"]),
        )


def _key(name: str, arguments: Mapping[str, Any]) -> str:
    return canonical([name, dict(arguments)])
