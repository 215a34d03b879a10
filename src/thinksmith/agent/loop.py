"""The agent's loop, a strategy: plan, act, observe, reflect, answer.

The history is linear and the trajectory is the messages (as in mini-swe-agent, github.com/SWE-agent/mini-swe-agent);
thinking and acting alternate as in ReAct (Yao et al. 2022, arXiv:2210.03629), with a plan that the model writes and
revises, and a look back where nothing new comes (after Shinn et al. 2023, arXiv:2303.11366).

All that the loop does follows from what was sampled and observed. So a run that was killed goes on by going through the
same loop again, with the journal answering what it knows (`journal.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from thinksmith.agent import texts
from thinksmith.agent.acting import Acting
from thinksmith.agent.calls import Reply, read_reply, signature
from thinksmith.agent.contract import Approve, Decision, Intent, Observation, Part, Plan, Step, Tool, Watcher
from thinksmith.agent.journal import Journal, Thought
from thinksmith.agent.looking_back import LookingBack
from thinksmith.agent.meter import Limits, Meter
from thinksmith.agent.outcome import Trajectory
from thinksmith.agent.plans import MOST, plan_in
from thinksmith.agent.reading_on import Wholes
from thinksmith.agent.talk import MessagesTalk, Talk
from thinksmith.agent.watching import Silent
from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Message, Problem, Request, Sampling, ToolCall, Trace
from thinksmith.strategies.single import problem_seed


@dataclass(frozen=True, slots=True)
class Manner:
    """How an agent goes about it. `planning`: it writes a plan first. `reflect_every` steps, and after a failure or
    where nothing new came, it looks back (0: never; then the first repetition ends it). `observation`: characters of a
    result that are shown. `context`: tokens (0: as many as the engine says). `instructed`: it is told how to work, and
    where data begins and ends; `described`: its prompt says which tools there are. Models that were trained for their
    tools need neither."""

    planning: bool = True
    reflect_every: int = 8
    observation: int = 8000
    context: int = 0
    instructed: bool = True
    described: bool = True


_LIMITS, _MANNER = Limits(), Manner()


async def work(
    problem: Problem,
    engine: Engine,
    *,
    tools: Sequence[Tool],
    sampling: Sampling,
    approve: Approve,
    limits: Limits = _LIMITS,
    manner: Manner = _MANNER,
    sample: int = 0,
    secret: bytes = b"",
    talk: Talk | None = None,
    journal: Journal | None = None,
    watcher: Watcher | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Trajectory:
    """Work on `problem` until there is an answer, or a limit is reached: then the answer is what is known so far.

    The seeds of the steps are functions of (`sampling.seed`, problem, `sample`, step) alone. `secret` is what whoever
    writes data cannot know. With a `watcher` the model is streamed. `on_step` gets every step when it is over. A
    model's failure ends the trajectory (`why` says so); a failure of the connection is an exception. Raises UserError
    for two tools of one name, and where the journal cannot be written.
    """
    agent = _Agent(problem, engine, tools, approve, limits, manner, talk, journal, watcher, secret)
    agent.sampling, agent.sample, agent.on_step = sampling, sample, on_step
    if manner.planning:
        await agent.step("plan", texts.PLAN.format(most=MOST))
        agent.hear(texts.GO)
    while not agent.over:
        if why := agent.looking_back.due():
            await agent.step("reflect", texts.REFLECT.format(why=why), why)
            agent.hear(texts.ON)
        elif agent.full():
            await agent.sum_up()
        else:
            await agent.step("act")
    if not agent.answered and agent.may_ask:
        await agent.step("answer", texts.ANSWER.format(why=agent.over), agent.over)
    return agent.trajectory()


class _Agent:
    """One trajectory at work. `over`: why it ends, empty while it goes on; `answered`: the model ended it itself."""

    def __init__(
        self,
        problem: Problem,
        engine: Engine,
        tools: Sequence[Tool],
        approve: Approve,
        limits: Limits,
        manner: Manner,
        talk: Talk | None,
        journal: Journal | None,
        watcher: Watcher | None,
        secret: bytes,
    ) -> None:
        self._problem, self._engine, self._approve = problem, engine, approve
        self._journal, self._streams, self._watcher = journal, watcher is not None, watcher or Silent()
        self.sampling, self.sample = Sampling(), 0
        self.on_step: Callable[[Step], None] = lambda step: None
        self._context = manner.context or engine.info.context_length
        # A character is a third of a token at most: so one observation takes at most a third of the context.
        shown = min(manner.observation, self._context) if self._context else manner.observation
        wholes = Wholes(journal)
        every = [*tools, wholes.tool(max(shown - 200, 200))] if tools and manner.instructed else list(tools)
        self._tools = {tool.name: tool for tool in every}
        if len(self._tools) < len(every):
            raise UserError("two tools have the same name: leave one of them out")
        self._described = [tool.description_for_model for tool in every] if manner.described else []
        self._acting = Acting(
            self._allowed, self._watcher, journal, wholes, shown=shown, marks=manner.instructed, secret=secret
        )
        self._talk: Talk = talk or MessagesTalk()
        self._talk.hear(_opening(problem, texts.SYSTEM if manner.instructed else ""))
        self._meter = Meter(limits)
        self.looking_back = LookingBack(manner.reflect_every)
        self._steps: list[Step] = []
        self._plan: Plan = ()
        self._taken_out = 0  # steps whose observations are out of the history
        self._said = ""  # the last text that was no call
        self.over, self.answered, self._broken = "", False, False

    # --- a step

    async def step(self, part: Part, prompt: str = "", why: str = "") -> None:
        """Ask, and do what is asked for: only in the part `act` are there calls."""
        if prompt:
            self.hear(prompt)
        number, began = len(self._steps), time.perf_counter()
        self._watcher.begins(number, part, why)
        trace, recalled = await self._think(number, part, why)
        if trace is None:
            return
        reply = read_reply(trace, self._tools, number)
        if part != "act":
            reply = Reply(reply.text)
        self._say(trace, reply)
        observations = [await self._acting(asked, (number, at)) for at, asked in enumerate(reply.asked)]
        self._talk.hear([_heard(each) for each in observations])
        recalled += sum(each.seconds for each in observations) if recalled else 0.0
        step = Step(number, part, trace, tuple(observations), recalled or time.perf_counter() - began, why)
        self._hold(step)
        self._meter.add(trace, recalled)
        self._follow(step, reply)
        self._watcher.ended(step)
        self.on_step(step)

    async def _think(self, number: int, part: Part, why: str) -> tuple[Trace | None, float]:
        """The trace; and the seconds that it took, where it is the journal's. None: the time was over."""
        if self._journal and number in self._journal.thoughts:
            known = self._journal.thoughts[number]
            return known.trace, known.seconds
        seed = problem_seed(self.sampling.seed, f"{self._problem.id}\0step {number}", self.sample)
        most = self._meter.most(self.sampling.max_tokens, ends=part == "answer")
        choice = "auto" if part == "act" or not self._described else "none"
        request = self._talk.request(replace(self.sampling, seed=seed, max_tokens=most), self._described, choice)
        began, left = time.perf_counter(), self._meter.seconds_left
        try:
            async with asyncio.timeout(left):
                trace = await self._asked(request)
        except TimeoutError:
            self.over = self._meter.closed
            if not self.over:
                raise  # not our clock's: the connection's
            return None, 0.0
        if self._journal and trace.finish != "error":  # asked again, an engine may well answer
            self._journal.thought(number, Thought(part, why, trace, time.perf_counter() - began))
        return trace, 0.0

    async def _asked(self, request: Request) -> Trace:
        if not self._streams:
            (trace,) = await self._engine.sample(request)
            return trace
        async for delta in self._engine.stream(request):
            self._watcher.delta(delta)
            if delta.trace is not None:
                return delta.trace
        raise RuntimeError(f"the stream of {self._engine.info.name} ended without a trace")

    async def _allowed(self, tool: Tool, call: ToolCall, intent: Intent | None) -> Decision:
        with self._meter.waiting():
            return await self._approve(tool, call, intent)

    def _hold(self, step: Step) -> None:
        """Keep the step. Each prompt holds all before it, so where the history is messages only the last is kept."""
        if self._steps and isinstance(self._talk, MessagesTalk):
            last = self._steps[-1]
            self._steps[-1] = replace(last, trace=replace(last.trace, prompt_ids=(), top_logprobs=None))
        self._steps.append(step)

    def hear(self, prompt: str) -> None:
        self._talk.hear([Message(role="user", content=prompt)])

    def _say(self, trace: Trace, reply: Reply) -> None:
        calls = [asked.call for asked in reply.asked]
        # Some templates refuse an empty turn.
        message = Message(role="assistant", content=reply.text or ("" if calls else "(no answer)"))
        if trace.thinking:
            message["thinking"] = trace.thinking
        if calls:
            message["tool_calls"] = calls
        self._talk.say(trace, message)

    # --- what follows from it

    def _follow(self, step: Step, reply: Reply) -> None:
        trace = step.trace
        if plan := plan_in(reply.text, ticked=step.part == "act"):
            self._plan = plan
            self._watcher.planned(plan)
        self._said = reply.text or self._said
        if trace.finish == "error":
            self._broken, self.over = True, f"the engine failed: {trace.error or 'it does not say why'}"
        elif step.part == "act":
            self._acted(step, reply)
        if not self.over:
            self.over = "it went round in circles" if self.looking_back.circles else self._meter.spent

    def _acted(self, step: Step, reply: Reply) -> None:
        """Is it an answer? Else: what is it known by, and did something fail?"""
        trace, failed = step.trace, [each for each in step.observations if not each.ok]
        cut = trace.thinking_status == "truncated" or trace.finish in ("length", "budget")
        if reply.asked:
            gave = [f"{each.ok}{_gave(each)}" for each in step.observations]
            self.looking_back.acted(signature(reply.asked) + "".join(gave), failed[-1].call["name"] if failed else "")
        elif reply.text and not cut:
            self.answered, self.over = True, "it answered"
        else:
            told = texts.CUT_OFF.format(tokens=trace.tokens) if cut else texts.EMPTY
            self.looking_back.acted(told)
            self.hear(told)

    def full(self) -> bool:
        """Is the context so full that the next reply may not fit, and is there something that can be taken out?"""
        room = min(self.sampling.max_tokens, self._context // 4)
        if not self._context or self._talk.tokens + room <= self._context * 3 // 4:
            return False
        return any(step.observations for step in self._steps[self._taken_out :])

    async def sum_up(self) -> None:
        """Have the observations so far summed up, then take them out."""
        old = [each for step in self._steps[self._taken_out :] for each in step.observations]
        stubs = {each.call["id"]: texts.TAKEN_OUT.format(more=_where(each)) for each in old}
        room = min(self.sampling.max_tokens, self._context // 4)
        if self._talk.tokens + room > self._context:  # not even the summary would fit: the older half goes unseen
            self._talk.take_out({each.call["id"]: stubs[each.call["id"]] for each in old[: (len(old) + 1) // 2]})
        await self.step("summary", texts.SUMMARY.format(words=max(room // 3, 30)), "the context was full")
        self._taken_out = len(self._steps)
        if not self._talk.take_out(stubs):
            self.over = self.over or "the context is full"
        self.hear(texts.ON)

    @property
    def may_ask(self) -> bool:
        """Is there room for a last answer?"""
        return not self._broken and not self._meter.closed

    def trajectory(self) -> Trajectory:
        meter = self._meter
        return Trajectory(
            self._problem,
            tuple(self._steps),
            self._plan,
            self._said,
            self.over,
            self.answered,
            meter.tokens,
            meter.seconds,
            meter.cost,
            self.looking_back.repeats,
        )


def _opening(problem: Problem, system: str) -> list[Message]:
    """The task, after how to work; a system message of the problem's own goes on with it."""
    messages = list(problem.messages)
    if not system:
        return messages
    if messages[0]["role"] == "system":
        system = f"{system}\n\n{messages.pop(0)['content']}"
    return [Message(role="system", content=system), *messages]


def _heard(observation: Observation) -> Message:
    call = observation.call
    return Message(role="tool", content=observation.text, tool_call_id=call.get("id", ""), name=call["name"])


def _gave(observation: Observation) -> str:
    """What the call gave, without the marks around it: they differ from step to step."""
    lines = observation.text.split("\n")
    return "\n".join(lines[1:-1] if len(lines) > 2 and lines[0].startswith("[data from") else lines)


def _where(observation: Observation) -> str:
    return f'; read_more(handle="{observation.handle}", start=0) shows it' if observation.handle else ""
