"""Episodes for tests: an engine whose model calls the calculator half of the time, and an agent that fails."""

from __future__ import annotations

from typing import Any

from thinksmith.agent.evaluated import agent
from thinksmith.engines.around import Around
from thinksmith.engines.contract import Engine
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.thinking import split


def failing(
    sampling: Sampling,
    *,
    tools: str = "",
    steps: int = 8,
    planning: bool = False,
    reflect_every: int = 0,
    instructed: bool = True,
    described: bool = True,
    history: str = "ids",
    sample: int = 0,
) -> Strategy:
    """The agent, of which every third attempt fails; with `tools` "user" by a mistake of the user's."""

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        if sample % 3 == 2:
            raise UserError("no such tool") if tools == "user" else ConnectionError("the tool's server is gone")
        options: dict[str, Any] = {"planning": planning, "reflect_every": reflect_every, "history": history}
        played = agent(sampling, tools="calculator", steps=steps, instructed=False, described=False, **options)
        return await played(problem, engine)

    return strategy


class Calling(Around):
    """A local engine whose model calls the calculator at the first turn of every other trajectory. What it says there
    has the log-probabilities that the model gives it."""

    def __init__(self, engine: LocalEngine) -> None:
        super().__init__(engine)
        self.local = engine
        self.calls = 0

    async def sample(self, request: Request) -> list[Trace]:
        if not request.messages or request.sampling.seed % 2:
            return await super().sample(request)
        self.calls += 1
        policy = self.local.policy
        expression = request.messages[-1]["content"].removeprefix("What is ").removesuffix("?")
        call = f'{{"name": "calculator", "arguments": {{"expression": "{expression}"}}}}'
        said = f"I ask.\n</think>\n\n<tool_call>\n{call}\n</tool_call>"
        prompt = policy.render(request.messages).ids
        ids = (*policy.encode(said), policy.encode("<|im_end|>")[0])
        found = await self.local.prompt_logprobs((*prompt, *ids))
        read = split("<think>\n" + said, policy.tags)
        logprobs = tuple(value or 0.0 for value in found.logprobs[len(prompt) :])
        return [
            Trace(
                read.thinking, read.answer, token_ids=ids, logprobs=logprobs, prompt_ids=prompt, completion=said,
                opened="<think>\n", thinking_tokens=6, answer_tokens=len(ids) - 6, sampling=request.sampling,
            )
        ]  # fmt: skip
