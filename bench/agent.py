"""What the agent's loop costs beyond its engine and its tools, with journal and store as the command has them.

Steps: a scripted engine that answers at once calls a tool that gives 400 characters, so all that passes between two
requests but the tool's own time is the loop's: `step_ms` for reading, `effect_step_ms` for a tool with an effect,
around which the disk is waited for twice (`sync_ms`: once). `over_smolagents`: smolagents' loop, the same script
and tool, as a multiple of ours (it keeps nothing on the disk).

Many: 64 agents at once over one local engine (`tiny`, which samples its own tokens; what it is taken to have asked for
is the calculator, in every step), with a journal each, beside the very same requests without an agent, as many at a
time: `batching_kept` is the ratio of tokens a second, median over rounds in turns; `of_the_processors_time` the ratio
of what both took of it, which says the same where other programs run beside.

Long: a trajectory of 200 steps whose context fills again and again, so that it is summed up. `growth_mb`: what Python
holds more after step 200 than after step 50 (the trajectory is kept whole, so that is its text); `slower_late`: the
time of the last 50 steps over that of steps 50 to 100.

    python bench/agent.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from _result import finish
from thinksmith.agent.contract import Decision, Intent, Result, Step, Tool
from thinksmith.agent.journal import Journal
from thinksmith.agent.loop import Manner, work
from thinksmith.agent.meter import Limits
from thinksmith.agent.opening import open_tools
from thinksmith.agent.running import Order, begin, carry_out
from thinksmith.engines import open_engine
from thinksmith.engines.around import Around
from thinksmith.engines.contract import Engine
from thinksmith.engines.scripted import Scripted
from thinksmith.policy.tools import hermes
from thinksmith.problems.families import mixture
from thinksmith.records import Problem, Request, Sampling, ToolCall, Trace
from thinksmith.store.store import Store

AGENTS = 64
TOKENS = 48  # of a step
LONG = 200
GOALS = {"step_ms": 5.0, "batching_kept": 0.8, "growth_mb": 20.0, "slower_late": 1.3}
PAGE = "".join(f"line {n}: {n * n} of what a tool gives\n" for n in range(12))[:400]


@dataclass
class Clock:
    """When the engine was asked and had answered, and what the tool took meanwhile."""

    asked: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    tool: list[float] = field(default_factory=list)

    def overheads(self) -> list[float]:
        """Milliseconds between an answer and the next request, less the tool's."""
        between = zip(self.answered, self.asked[1:], self.tool, strict=False)
        return [1e3 * (asked - answered - tool) for answered, asked, tool in between]


class Looking(Scripted):
    """Calls the tool, step by step with another number, and answers at the end."""

    def __init__(self, steps: int, clock: Clock, *, context: int = 0, told: str = "") -> None:
        super().__init__(self._turn, context=context)
        self._steps, self._clock, self._told = steps, clock, told

    async def sample(self, request: Request) -> list[Trace]:
        self._clock.asked.append(time.perf_counter())
        traces = await super().sample(request)
        self._clock.answered.append(time.perf_counter())
        return traces

    def _turn(self, request: Request) -> str:
        number = len(self._clock.asked)
        call = ToolCall(name="look", arguments={"n": number})
        answer = hermes([call]) if number <= self._steps else "Done."
        if request.tool_choice == "none":
            answer = f"So far: {self._told}"
        return f"<think>\nI look.\n</think>\n\n{answer}"


def look(clock: Clock, *, effect: bool = False, page: str = PAGE) -> Tool:
    """The tool; what it takes is noted."""

    async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        began = time.perf_counter()
        text = f"{arguments['n']}\n{page}"
        clock.tool.append(time.perf_counter() - began)
        return Result(text)

    async def intend(arguments: Mapping[str, Any]) -> Intent:
        return Intent(f"put {arguments['n']}", record={"n": arguments["n"]}, kept={"before": page.encode()})

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    made = Tool("look", "Look at a page.", schema, call)
    return replace(made, kind="write", intend=intend) if effect else made


async def allowed(tool: Tool, call: Any, intent: Intent | None) -> Decision:
    return "always"


def order(steps: int, **manner: Any) -> Order:
    return Order(
        "Look.", "scripted", ("own",), Sampling(max_tokens=200), Limits(steps=steps), Manner(False, 0, **manner)
    )


# --- steps


def sync_ms(folder: Path) -> float:
    """What one wait for the disk takes, in a file that grows as a journal does."""
    took = []
    with (folder / "synced").open("wb") as file:
        for _ in range(20):
            file.write(b"x" * 1000)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append(1e3 * (time.perf_counter() - began))
    return round(statistics.median(took), 2)


def steps(count: int, folder: Path, *, effect: bool) -> list[float]:
    """Milliseconds of each step beyond engine and tool."""
    clock = Clock()
    engine, tool = Looking(count, clock), look(clock, effect=effect)
    with Store.open(folder / "store.db") as store:
        run = begin(store, order(count + 1), engine, [tool])
        asyncio.run(carry_out(run, store, engine, [tool], allowed))
        run.journal.close()
    return clock.overheads()


def smolagents_steps(count: int) -> list[float]:
    """The same of smolagents' loop; empty where it is not installed."""
    try:
        import smolagents
        from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole
    except ImportError:
        return []
    clock = Clock()

    class Model(smolagents.Model):  # type: ignore[misc]
        def generate(self, *_: Any, **__: Any) -> Any:
            clock.asked.append(time.perf_counter())
            number = len(clock.asked)
            name, arguments = ("look", {"n": number}) if number <= count else ("final_answer", {"answer": "Done."})
            function = ChatMessageToolCallFunction(name=name, arguments=arguments)
            call = ChatMessageToolCall(function=function, id=str(number), type="function")
            clock.answered.append(time.perf_counter())
            return ChatMessage(role=MessageRole.ASSISTANT, content="I look.", tool_calls=[call])

    class Look(smolagents.Tool):  # type: ignore[misc]
        name, description, output_type = "look", "Look at a page.", "string"
        inputs = {"n": {"type": "integer", "description": "which"}}  # noqa: RUF012

        def forward(self, n: int) -> str:
            began = time.perf_counter()
            text = f"{n}\n{PAGE}"
            clock.tool.append(time.perf_counter() - began)
            return text

    logging.disable(logging.CRITICAL)
    agent = smolagents.ToolCallingAgent([Look()], Model(), max_steps=count + 2, verbosity_level=-1)
    agent.run("Look.")
    return clock.overheads()


# --- many at once


class Calling(Around):
    """The local engine. Whatever it says, it has asked for the calculator; the requests are noted."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.requests: dict[str, list[Request]] = {}
        self.tokens = 0

    async def sample(self, request: Request) -> list[Trace]:
        (trace,) = await super().sample(request)
        chain = self.requests.setdefault(request.messages[0]["content"], [])
        chain.append(request)
        self.tokens += trace.tokens
        call = json.dumps({"name": "calculator", "arguments": {"expression": f"{len(chain)} * 12345"}})
        answer = f"{trace.answer}\n<tool_call>\n{call}\n</tool_call>"
        return [replace(trace, answer=answer, thinking_status="closed", finish="stop")]


async def many(engine: Engine, problems: Sequence[Problem], turns: int, folder: Path) -> tuple[float, Calling]:
    """Seconds of all agents, and what they asked."""
    calling, (toolset,) = Calling(engine), await open_tools(["calculator"])

    async def one(problem: Problem, at: int) -> None:
        with Journal.create(folder / f"{time.monotonic_ns()}-{at}", {"run": problem.id}) as journal:
            await work(
                problem,
                calling,
                tools=toolset.tools,
                sampling=Sampling(max_tokens=TOKENS, temperature=1.0),
                approve=allowed,
                limits=Limits(steps=turns),
                manner=Manner(False, 0, instructed=False, described=False),
                journal=journal,
            )

    began = time.perf_counter()
    await asyncio.gather(*(one(problem, at) for at, problem in enumerate(problems)))
    return time.perf_counter() - began, calling


async def bare(engine: Engine, chains: Sequence[Sequence[Request]]) -> tuple[float, int]:
    """The same requests, as many at a time."""

    async def one(chain: Sequence[Request]) -> int:
        return sum([(await engine.sample(request))[0].tokens for request in chain])

    began = time.perf_counter()
    tokens = sum(await asyncio.gather(*map(one, chains)))
    return time.perf_counter() - began, tokens


def batching(turns: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Tokens a second with agents and without, in turns."""

    async def trial() -> dict[str, Any]:
        engine = open_engine("tiny")
        problems = mixture(AGENTS, split="test", seed=3)
        await many(engine, problems, 1, folder)  # what is imported, compiled and allocated at the first call
        with_agents, without, work_share = [], [], []
        for _ in range(rounds):
            began = time.process_time()
            seconds, calling = await many(engine, problems, turns, folder)
            between = time.process_time()
            alone, tokens = await bare(engine, list(calling.requests.values()))
            assert tokens == calling.tokens, "the same requests have the same tokens"
            with_agents.append(tokens / seconds)
            without.append(tokens / alone)
            work_share.append((time.process_time() - between) / (between - began))
        await engine.aclose()
        ratios = [ours / theirs for ours, theirs in zip(with_agents, without, strict=True)]
        return {
            "batching_kept": round(statistics.median(ratios), 3),
            "of_the_processors_time": round(statistics.median(work_share), 3),
            "tokens_per_s": round(statistics.median(with_agents)),
            "tokens_per_s_bare": round(statistics.median(without)),
            "agents": AGENTS,
            "turns": sum(map(len, calling.requests.values())) // AGENTS,
        }

    return asyncio.run(trial())


# --- long


def long(folder: Path, *, measured: bool) -> dict[str, Any]:
    """200 steps in one trajectory; `measured`: their memory, else their time."""
    clock, ends, held = Clock(), list[float](), list[int]()
    engine = Looking(10 * LONG, clock, context=8000, told="nothing yet, " * 20)
    tool = look(clock, page=PAGE * 8)

    def ended(step: Step) -> None:
        ends.append(time.perf_counter())
        if measured and step.number + 1 in (50, LONG):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])

    async def trial() -> Any:
        with Store.open(folder / f"long-{measured}.db") as store:
            wanted = order(LONG)
            run = begin(store, wanted, engine, [tool])
            made = await work(
                wanted.problem,
                engine,
                tools=[tool],
                sampling=wanted.sampling,
                approve=allowed,
                limits=wanted.limits,
                manner=wanted.manner,
                journal=run.journal,
                on_step=ended,
            )
            run.journal.close()
            return made

    if measured:
        tracemalloc.start()
    made = asyncio.run(trial())
    parts = [step.part for step in made.steps]
    if measured:
        tracemalloc.stop()
        return {"growth_mb": round((held[1] - held[0]) / 1e6, 2)}
    took = [after - before for before, after in itertools.pairwise(ends)]
    early, late = statistics.median(took[50:100]), statistics.median(took[LONG - 51 : LONG - 1])
    return {
        "slower_late": round(late / early, 3),
        "ms_of_steps_50_to_100": round(1e3 * early, 2),
        "ms_of_the_last_50": round(1e3 * late, 2),
        "summed_up": parts.count("summary"),
        "long_steps": len(parts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds")
    quick = parser.parse_args().quick
    count = 60 if quick else 200
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        steps(10, folder, effect=False)  # imports what is imported at the first call
        for name, effect in (("step_ms", False), ("effect_step_ms", True)):
            found = steps(count, folder, effect=effect)
            figures |= {
                name: round(statistics.median(found), 2),
                f"{name}_p95": round(sorted(found)[int(len(found) * 0.95)], 2),
            }
            print(name, figures[name], f"p95 {figures[f'{name}_p95']}", flush=True)
        figures["sync_ms"] = sync_ms(folder)
        if theirs := smolagents_steps(count):
            figures["smolagents_step_ms"] = round(statistics.median(theirs), 2)
            figures["over_smolagents"] = round(figures["smolagents_step_ms"] / figures["step_ms"], 2)
            print("smolagents", figures["smolagents_step_ms"], flush=True)
        for measured in (False, True):
            figures |= long(folder, measured=measured)
        print("long", figures["slower_late"], figures["growth_mb"], flush=True)
        figures |= batching(2 if quick else 8, 2 if quick else 5, folder)
    holds = all(figures[name] <= goal for name, goal in GOALS.items() if name != "batching_kept")
    holds = holds and figures["batching_kept"] >= GOALS["batching_kept"]
    finish("agent", figures, GOALS, holds)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
