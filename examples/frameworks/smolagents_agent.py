"""A smolagents agent with two tools, over a model that `thinksmith serve` serves.

pip install "smolagents[openai]"
python smolagents_agent.py --model ollama/qwen3:8b
"""

from __future__ import annotations

import argparse
import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before smolagents is imported

from smolagents import OpenAIModel, ToolCallingAgent, tool


@tool
def price_of(item: str) -> float:
    """The price of one piece, in euros.

    Args:
        item: the item's name, such as bolt or flange
    """
    return {"bolt": 0.35, "flange": 17.25}[item]


@tool
def multiply(a: float, b: float) -> float:
    """The product of two numbers.

    Args:
        a: the first factor
        b: the second factor
    """
    return a * b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8383/v1")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--question", default="What do 12 flanges cost, in euros?")
    options = parser.parse_args()

    model = OpenAIModel(options.model, api_base=options.url, api_key="none")
    agent = ToolCallingAgent([price_of, multiply], model, max_steps=6, verbosity_level=0)
    answer = agent.run(options.question)
    for step in agent.memory.steps:
        message = getattr(step, "model_output_message", None)  # the steps in which the model spoke
        if message is not None:
            # smolagents has no field for it; the server's reply, which it keeps, has.
            print("reasoning:", message.raw.choices[0].message.reasoning_content)
    print("answer:", answer)


if __name__ == "__main__":
    main()
