"""The agent as a strategy by name: what `thinksmith eval` measures, and what GRPO rolls out.

A problem that brings a world (`meta["world"]`) gets a fresh one for every attempt, with the world's tools and its judge
of the end state; any other problem gets the tools that the strategy names, and its verifier judges the answer.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Literal

from thinksmith.agent.contract import Decision, Intent, Tool, World
from thinksmith.agent.idstalk import IdsTalk
from thinksmith.agent.loop import Manner, work
from thinksmith.agent.meter import Limits
from thinksmith.agent.office.worlds import open_world
from thinksmith.agent.opening import TOOLSETS, open_tools, split
from thinksmith.agent.outcome import Trajectory, outcome_of
from thinksmith.agent.trajectory import joined
from thinksmith.engines.contract import Engine, Reads
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean
from thinksmith.records import Problem, Sampling, ToolCall, Verdict
from thinksmith.strategies.contract import Outcome, Strategy

_PLUS = re.compile(rf"\+(?=(?:{'|'.join(TOOLSETS)})(?:[:+]|$))")


def agent(
    sampling: Sampling,
    *,
    tools: str = "",
    steps: int = 30,
    planning: bool = True,
    reflect_every: int = 8,
    observation: int = 8000,
    history: Literal["messages", "ids"] = "messages",
    instructed: bool = True,
    described: bool = True,
    sample: int = 0,
) -> Strategy:
    """Plan, act, observe, look back, answer (`loop.py`, after ReAct: Yao et al. 2022, arXiv:2210.03629), within `steps`
    thoughts of `sampling.max_tokens` each.

    Cost: a trace for each step, one more for the plan and for each look back; each is asked with all that came before.
    It helps where something must be looked up, computed or done that no thinking can replace.

    `tools` are specs as `opening.py` reads them, with white space between them, or + before those that are built in
    (`calculator+python`); a problem that has a world brings its own. `history`: whether the conversation goes on as
    messages, or as the ids that were read and sampled (`idstalk.py`; what is trained on). The others are
    `loop.Manner`'s.

    Nobody can be asked. Inside a world everything is allowed. Of tools that are named here, reading and running is, and
    writing and sending is not. The seed of a step is a function of (`sampling.seed`, problem, `sample`, step) alone,
    and so are the marks around data: an interrupted evaluation asks in a fresh world what it asked before, and finds it
    (`evaluate/kept.py`). Raises UserError for tools that there are not.
    """
    specs = _specs(tools)
    manner = Manner(
        planning=planning,
        reflect_every=reflect_every,
        observation=observation,
        instructed=instructed,
        described=described,
    )
    limits = Limits(steps=steps)

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        async with AsyncExitStack() as opened:
            world: World | None = None
            if "world" in problem.meta:
                world = await open_world(problem)
                opened.push_async_callback(world.aclose)
                its_tools: tuple[Tool, ...] = world.tools
            else:
                its_tools = await _open(specs, problem, opened)
            trajectory = await work(
                problem,
                engine,
                tools=its_tools,
                sampling=sampling,
                approve=_everything if world else _reading_and_running,
                limits=limits,
                manner=manner,
                sample=sample,
                secret=sha256(f"{sampling.seed}\0{problem.id}\0{sample}".encode()).digest(),
                talk=IdsTalk(engine) if history == "ids" else None,
            )
            decode = engine.decode if isinstance(engine, Reads) else None
            outcome = outcome_of(trajectory, partial(joined, decode=decode) if history == "ids" else None)
            return replace(outcome, verdict=await _verdict(world, trajectory)) if world else outcome

    return strategy


def _specs(tools: str) -> list[str]:
    """The specs in a text. A + is also part of `http:HOST+HOST`, so only before a known name does it end a spec. Raises
    UserError for a name that is none."""
    specs = split(piece for word in tools.split() for piece in _PLUS.split(word))
    for spec in specs:
        name = spec.partition(":")[0]
        if name not in TOOLSETS and ":" not in spec:
            known = f"; there are: {', '.join(TOOLSETS)}, and functions of yours as module:function"
            raise UserError(f"no tool {spec[:80]!r}{did_you_mean(name, TOOLSETS, otherwise=known)}")
    return specs


async def _open(specs: list[str], problem: Problem, opened: AsyncExitStack) -> tuple[Tool, ...]:
    if not specs:
        raise UserError(f"{problem.id} is no task that brings its tools: name some, as agent:tools=calculator+python")
    toolsets = await open_tools(specs)
    for toolset in toolsets:
        opened.push_async_callback(toolset.aclose)
    return tuple(tool for toolset in toolsets for tool in toolset.tools)


async def _everything(tool: Tool, call: ToolCall, intent: Intent | None) -> Decision:
    return "once"


async def _reading_and_running(tool: Tool, call: ToolCall, intent: Intent | None) -> Decision:
    return "once" if tool.kind in ("read", "run") else "no"


async def _verdict(world: World, trajectory: Trajectory) -> Verdict | None:
    """The world's, on the state in which it was left; None where it has none, or where the engine failed: that says
    nothing about the state, and the verifier tells of it."""
    if trajectory.steps and trajectory.steps[-1].trace.finish == "error":
        return None
    verdict = await world.judge(trajectory.answer)
    if verdict is None or verdict.correct or trajectory.answered:
        return verdict
    return replace(verdict, status="truncated", reason=f"{trajectory.why}: {verdict.reason}"[:200])
