"""A CrewAI agent with two tools, over a model that `thinksmith serve` serves.

pip install crewai
python crewai_agent.py --model ollama/qwen3:8b
"""

from __future__ import annotations

import argparse
import os

# Before crewai is imported: no telemetry, no traces, no look for a newer version.
os.environ["CREWAI_DISABLE_TELEMETRY"] = os.environ["OTEL_SDK_DISABLED"] = "true"
os.environ["CREWAI_TRACING_ENABLED"] = "false"
os.environ["CREWAI_DISABLE_VERSION_CHECK"] = "true"

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool


@tool
def price_of(item: str) -> float:
    """The price of one piece, in euros. Known are bolt and flange."""
    return {"bolt": 0.35, "flange": 17.25}[item]


@tool
def multiply(a: float, b: float) -> float:
    """The product of two numbers."""
    return a * b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8383/v1")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--question", default="What do 12 flanges cost, in euros?")
    parser.add_argument("--no-tools", action="store_true")
    options = parser.parse_args()

    llm = LLM(model=options.model, custom_openai=True, base_url=options.url, api_key="none")
    agent = Agent(
        role="clerk",
        goal="Answer the question.",
        backstory="You work with the tools that you have.",
        llm=llm,
        tools=[] if options.no_tools else [price_of, multiply],
    )
    task = Task(description=options.question, expected_output="The answer, in one sentence.", agent=agent)
    result = Crew(agents=[agent], tasks=[task], tracing=False).kickoff()
    print("answer:", result.raw)  # CrewAI drops the reasoning


if __name__ == "__main__":
    main()
