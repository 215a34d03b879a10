"""A LangGraph agent with two tools, over a model that `thinksmith serve` serves.

pip install langgraph langchain-openai
python langgraph_agent.py --model ollama/qwen3:8b
"""

from __future__ import annotations

import argparse
import os

os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"  # nothing goes to LangSmith

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


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
    parser.add_argument("--api", choices=("responses", "chat"), default="responses")
    parser.add_argument("--no-tools", action="store_true")
    options = parser.parse_args()

    tools = [] if options.no_tools else [price_of, multiply]
    # ChatOpenAI reads reasoning from responses alone: of chat completions it keeps only the count of its tokens.
    responses = {"use_responses_api": True, "reasoning": {"summary": "auto"}} if options.api == "responses" else {}
    model = ChatOpenAI(model=options.model, base_url=options.url, api_key="none", **responses)
    if tools:
        model = model.bind_tools(tools)

    graph = StateGraph(MessagesState)
    graph.add_node("think", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    state = graph.compile().invoke({"messages": [("user", options.question)]})

    for message in state["messages"]:
        for block in message.content_blocks:
            if block["type"] == "reasoning":
                print("reasoning:", block["reasoning"])
    print("answer:", state["messages"][-1].text)


if __name__ == "__main__":
    main()
