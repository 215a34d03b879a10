"""What the agent's parts owe each other: tools, what their calls would do and did, who allows it, who looks on.

A model only ever asks. What a call may do is decided by the tool (its bounds are kept by the operating system or a
driver wherever one can), by the approval of whoever started the agent, and never by anything that a model wrote or a
tool gave back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from thinksmith.engines.contract import Delta
from thinksmith.records import ToolCall, Trace, Verdict

# --- tools

Kind = Literal["read", "write", "run", "send"]
"""What a tool's calls do to the world: `read` looks and changes nothing, `write` changes something here, `run` runs
code, `send` reaches somebody else (a POST, any tool of an MCP server). Reading runs; all others are asked about."""


class ToolFault(Exception):
    """A call that did not work, in one line for the model: what was wrong, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What a call is about to do, found out without doing it.

    `summary` is one line for people (`write notes.md: 12 lines, 3 of them new`), `details` more for who is asked (a
    diff). `record` (JSON) is all that `Tool.settled` and `Tool.undo` need, `kept` the bytes they need (the file as it
    was), by a name that stands in `record`. Both are on the disk before the call is made.
    """

    summary: str
    details: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave: `text` for the model (data, whatever it says), and whether it worked (`ok`)."""

    text: str
    ok: bool = True


Kept = Callable[[str], bytes]
"""The bytes that an intent kept, by name."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call.

    `name`: letters, digits, `_` and `-`, at most 64; `group` is what it was opened as (`files`). `parameters` is the
    JSON schema of the arguments (an object without further properties); a call whose arguments do not fulfil it never
    reaches `call`.

    `call(arguments, intent)` does it, within `seconds` (then it is cancelled, and the model told). It raises ToolFault
    for whatever the model could mend; any other exception is told to the model by its name and first line. `intent` is
    what `intend(arguments)` said before, None for tools without one; `call` sees that the world is still as the intent
    found it, since it is the intent that was approved.

    After a crash, a call that was begun and of which no result is known is asked about: `settled(record)` gives its
    result if it was done, None if it surely was not (then it is made now). Without `settled` nobody knows, and it is
    never made again, unless it is `repeatable`: reading, or running where nothing outside is touched.
    `undo(record, kept)` takes it back and says so in a line; it raises ToolFault where that would spoil what came
    later. `fence`: the word behind ``` which makes a fenced block at the end of an answer a call of this tool, with the
    block as its only required argument.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    call: Callable[[Mapping[str, Any], Intent | None], Awaitable[Result]]
    kind: Kind = "read"
    group: str = ""
    seconds: float = 30.0
    intend: Callable[[Mapping[str, Any]], Awaitable[Intent]] | None = None
    settled: Callable[[Mapping[str, Any]], Awaitable[Result | None]] | None = None
    undo: Callable[[Mapping[str, Any], Kept], Awaitable[str]] | None = None
    repeatable: bool = False
    fence: str = ""

    @property
    def description_for_model(self) -> dict[str, Any]:
        """As OpenAI describes a function."""
        said = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": said}


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Toolset:
    """Tools that were opened together by one spec (`files:./reports`), and how to close what they hold."""

    spec: str
    tools: tuple[Tool, ...]
    aclose: Callable[[], Awaitable[None]] = _nothing


# --- approval

Decision = Literal["once", "always", "no"]
"""`always`: this tool need not be asked about again in this run."""


class Approve(Protocol):
    """Whoever started the agent. Nothing that a model or a tool writes has a way to it but as text that is shown."""

    async def __call__(self, tool: Tool, call: ToolCall, intent: Intent | None) -> Decision: ...


# --- what happened

Part = Literal["plan", "act", "reflect", "summary", "answer"]
"""What a step was for. `summary`: old observations were summed up, since the context was filling; `answer`: the model
was asked to end with what it knows."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of a call. `text` is what the model was told, in its whole form (marks and cuts included); `raw` counts
    the characters of what the tool gave, and `handle` is where the rest can be read (empty: nothing was cut). `effect`
    is the line for the list of effects; empty where nothing was done. `refused`: the approval said no."""

    call: ToolCall
    text: str
    ok: bool = True
    kind: Kind = "read"
    seconds: float = 0.0
    raw: int = 0
    handle: str = ""
    effect: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thought and what was done after it. `seconds` is wall time, thinking and tools together."""

    number: int
    part: Part
    trace: Trace
    observations: tuple[Observation, ...] = ()
    seconds: float = 0.0
    why: str = ""
    """Of a reflection: what it was for."""


@dataclass(frozen=True, slots=True)
class PlanLine:
    text: str
    done: bool = False


Plan = tuple[PlanLine, ...]


class Watcher(Protocol):
    """Who looks on while an agent works. All are called in the event loop and must be quick."""

    def begins(self, number: int, part: Part, why: str) -> None:
        """A step begins: the model is asked."""

    def delta(self, delta: Delta) -> None:
        """A piece of what it thinks and says, where the engine streams."""

    def planned(self, plan: Plan) -> None:
        """The plan is new, or was revised."""

    def calling(self, tool: Tool, call: ToolCall) -> None:
        """A call that was allowed is made now."""

    def observed(self, observation: Observation) -> None:
        """It came back, failed, or was refused."""

    def ended(self, step: Step) -> None:
        """The step is over."""


# --- tasks with an end state


class World(Protocol):
    """Where a task is done whose end state is checked: its tools, and the judge of what became of it. A fresh one for
    every attempt; nothing outside it can be reached by its tools."""

    @property
    def tools(self) -> tuple[Tool, ...]: ...

    async def judge(self, answer: str) -> Verdict | None:
        """Is the task done? None: the answer alone decides, by the problem's kind."""
        ...

    async def aclose(self) -> None:
        """Remove it."""
        ...
