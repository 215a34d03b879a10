"""An AutoGen agent with two tools, over a model that `thinksmith serve` serves.

pip install autogen-agentchat "autogen-ext[openai]"
python autogen_agent.py --model ollama/qwen3:8b
"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ["AUTOGEN_DISABLE_RUNTIME_TRACING"] = "true"  # no spans, wherever the environment would have them sent

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ThoughtEvent
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient


async def price_of(item: str) -> float:
    """The price of one piece, in euros. Known are bolt and flange."""
    return {"bolt": 0.35, "flange": 17.25}[item]


async def multiply(a: float, b: float) -> float:
    """The product of two numbers."""
    return a * b


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8383/v1")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--question", default="What do 12 flanges cost, in euros?")
    parser.add_argument("--no-tools", action="store_true")
    options = parser.parse_args()

    can = ModelInfo(
        vision=False,
        function_calling=True,
        json_output=True,
        structured_output=True,
        family=ModelFamily.UNKNOWN,
    )
    client = OpenAIChatCompletionClient(model=options.model, base_url=options.url, api_key="none", model_info=can)
    agent = AssistantAgent(
        "clerk",
        client,
        tools=[] if options.no_tools else [price_of, multiply],
        max_tool_iterations=6,
        reflect_on_tool_use=False,
    )
    result = await agent.run(task=options.question)
    for message in result.messages:
        if isinstance(message, ThoughtEvent):
            print("reasoning:", message.content)
    print("answer:", result.messages[-1].content)
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
