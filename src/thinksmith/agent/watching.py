"""Nobody looks on."""

from __future__ import annotations

from thinksmith.agent.contract import Observation, Part, Plan, Step, Tool
from thinksmith.engines.contract import Delta
from thinksmith.records import ToolCall


class Silent:
    """Fulfils `thinksmith.agent.contract.Watcher`; an heir does what it wants to hear of."""

    def begins(self, number: int, part: Part, why: str) -> None:
        pass

    def delta(self, delta: Delta) -> None:
        pass

    def planned(self, plan: Plan) -> None:
        pass

    def calling(self, tool: Tool, call: ToolCall) -> None:
        pass

    def observed(self, observation: Observation) -> None:
        pass

    def ended(self, step: Step) -> None:
        pass
