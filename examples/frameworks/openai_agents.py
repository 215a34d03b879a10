"""An agent of the OpenAI Agents SDK with two tools, over a model that `thinksmith serve` serves.

pip install openai-agents
python openai_agents.py --model ollama/qwen3:8b
"""

from __future__ import annotations

import argparse

from agents import (
    Agent,
    AsyncOpenAI,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    ReasoningItem,
    Runner,
    function_tool,
    set_tracing_disabled,
)

set_tracing_disabled(True)  # else every run is sent to OpenAI


@function_tool
def price_of(item: str) -> float:
    """The price of one piece, in euros.

    Args:
        item: the item's name, such as bolt or flange
    """
    return {"bolt": 0.35, "flange": 17.25}[item]


@function_tool
def multiply(a: float, b: float) -> float:
    """The product of two numbers."""
    return a * b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8383/v1")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--question", default="What do 12 flanges cost, in euros?")
    parser.add_argument("--api", choices=("responses", "chat"), default="responses")
    parser.add_argument("--no-tools", action="store_true")
    options = parser.parse_args()

    client = AsyncOpenAI(base_url=options.url, api_key="none")
    kind = OpenAIResponsesModel if options.api == "responses" else OpenAIChatCompletionsModel
    agent = Agent(
        name="clerk",
        model=kind(options.model, client),
        tools=[] if options.no_tools else [price_of, multiply],
    )
    result = Runner.run_sync(agent, options.question, max_turns=6)
    for item in result.new_items:
        if isinstance(item, ReasoningItem):
            texts = item.raw_item.content or item.raw_item.summary  # of responses; of chat completions
            print("reasoning:", "".join(part.text for part in texts))
    print("answer:", result.final_output)


if __name__ == "__main__":
    main()
