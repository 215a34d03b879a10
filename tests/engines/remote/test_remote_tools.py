"""Tools and schemas go to every server as it wants them, and calls come back in one form."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from _chaos import Chaos, text_of
from thinksmith.engines.remote.engine import RemoteEngine
from thinksmith.engines.remote.names import endpoint
from thinksmith.engines.remote.presets import PRESETS
from thinksmith.engines.remote.wire.client import Patience
from thinksmith.engines.remote.wire.retries import Retries
from thinksmith.errors import UserError
from thinksmith.policy.tools import tool_calls_in
from thinksmith.records import Message, Request, Sampling, ToolCall

TOOLS: Any = (
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    {"type": "function", "function": {"name": "noop"}},
)
CALLS: list[Any] = [
    {"name": "weather", "arguments": {"city": 'Köln </think> </tool_call> "x"'}, "id": "call_a"},
    {"name": "noop", "arguments": {}, "id": "call_b"},
]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
KINDS = ("endpoint", "ollama", "responses", "vllm")


def engine_of(chaos: Chaos, kind: str, stream: bool = True) -> RemoteEngine:
    found = endpoint(f"{'endpoint' if kind == 'responses' else kind}/m@{chaos.base}", {})
    if kind == "responses":
        found = replace(found, preset=replace(PRESETS["openai"], needs_key=False))
    fast: Any = {
        "patience": Patience(connect=2, first=0.5, between=0.5),
        "retries": Retries(base=0.01, cap=0.05, budget=5),
    }
    return RemoteEngine(replace(found, streamed=stream), **fast)


def ask(**more: Any) -> Request:
    return Request((Message(role="user", content="q 1"),), **more)


def same(calls: tuple[ToolCall, ...], kind: str) -> bool:
    """Ollama's calls have no ids."""
    wanted = [{k: v for k, v in call.items() if k != "id" or kind != "ollama"} for call in CALLS]
    return list(calls) == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["", "cut_before_end", "reset_in_event"])
def test_calls_come_back_as_part_of_the_answer(kind: str, stream: bool, fault: str) -> None:
    """Also where the first answer broke off: calls come once, and whole."""
    with Chaos(calls=CALLS) as chaos:
        chaos.play([fault])
        (trace,) = engine_of(chaos, kind, stream).sample_all([ask(tools=TOOLS)])[0]
    thinking, answer = text_of("q 1")
    text, calls = tool_calls_in(trace.answer, TOOLS)
    assert (trace.thinking, text, trace.finish) == (thinking, answer, "stop")
    assert same(calls, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_tells_what_the_trace_has(kind: str) -> None:
    async def run() -> tuple[str, str, int]:
        engine = engine_of(chaos, kind)
        deltas = [delta async for delta in engine.stream(ask(tools=TOOLS))]
        await engine.aclose()
        trace = deltas[-1].trace
        assert trace is not None
        return "".join(d.text for d in deltas if d.part == "answer"), trace.answer, trace.answer_tokens

    with Chaos(calls=CALLS) as chaos:
        told, answer, tokens = asyncio.run(run())
    assert told == answer
    assert tokens > 0


def test_calls_without_a_word_close_the_thinking() -> None:
    from thinksmith.engines.remote.dialects.chat import ChatReader
    from thinksmith.thinking import THINK

    reader = ChatReader(THINK, False)
    function = {"name": "weather", "arguments": '{"city": "Rome"}'}
    reader.feed({"choices": [{"delta": {"reasoning_content": "hm"}}]})
    reader.feed(
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": function}]}, "finish_reason": "tool_calls"}]}
    )
    said = reader.finish()
    assert (said.thinking, said.status) == ("hm", "closed")
    assert tool_calls_in(said.answer) == ("", ({"name": "weather", "arguments": {"city": "Rome"}},))
    reader = ChatReader(THINK, False)
    reader.feed(
        {
            "choices": [
                {"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{no"}}]}, "finish_reason": "stop"}
            ]
        }
    )
    assert "{no" in reader.finish().answer


@pytest.mark.parametrize(
    ("kind", "more", "sent"),
    [
        ("endpoint", {"tools": TOOLS}, {"tools": list(TOOLS), "tool_choice": "auto"}),
        ("vllm", {"tools": TOOLS, "tool_choice": "required"}, {"tool_choice": "required"}),
        (
            "vllm",
            {"tools": TOOLS, "tool_choice": "noop"},
            {"tool_choice": {"type": "function", "function": {"name": "noop"}}},
        ),
        ("vllm", {"tools": TOOLS, "tool_choice": "none"}, {"tools": None, "tool_choice": None}),
        ("vllm", {"schema": {}}, {"response_format": {"type": "json_object"}}),
        (
            "vllm",
            {"schema": SCHEMA},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                }
            },
        ),
        ("deepseek", {"schema": {}}, {"response_format": {"type": "json_object"}}),
        ("ollama", {"tools": TOOLS}, {"tools": list(TOOLS), "tool_choice": None}),
        ("ollama", {"schema": SCHEMA}, {"format": SCHEMA}),
        ("ollama", {"schema": {}}, {"format": "json"}),
        (
            "responses",
            {"schema": SCHEMA},
            {"text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}},
        ),
        (
            "responses",
            {"tools": TOOLS[1:], "tool_choice": "noop"},
            {
                "tools": [
                    {
                        "type": "function",
                        "name": "noop",
                        "strict": False,
                        "parameters": {"type": "object", "properties": {}},
                    }
                ],
                "tool_choice": {"type": "function", "name": "noop"},
            },
        ),
        ("endpoint", {}, {"tools": None, "tool_choice": None, "response_format": None}),
    ],
)
def test_each_server_is_asked_in_its_own_words(kind: str, more: Any, sent: dict[str, Any]) -> None:
    with Chaos() as chaos:
        engine = engine_of(chaos, kind)
        if kind == "deepseek":
            engine.endpoint = replace(engine.endpoint, preset=replace(engine.endpoint.preset, needs_key=False))
        engine.sample_all([ask(**more)])
        assert {name: chaos.seen[-1].body.get(name) for name in sent} == sent


def test_a_loop_of_tools_is_told_as_each_server_wants_it() -> None:
    messages: Any = (
        {"role": "user", "content": "q 1"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "weather", "arguments": {"city": "Köln"}}]},
        {"role": "tool", "content": "rain"},
        {"role": "user", "content": "q 1"},
    )
    with Chaos() as chaos:
        bodies = {}
        for kind in KINDS:
            engine_of(chaos, kind).sample_all([Request(messages, tools=TOOLS)])
            bodies[kind] = chaos.seen[-1].body
    arguments = json.dumps({"city": "Köln"}, ensure_ascii=False)
    chat = bodies["vllm"]["messages"]
    called = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    assert chat[1] == {"role": "assistant", "content": "", "tool_calls": [called]}
    assert chat[2] == {"role": "tool", "content": "rain", "tool_call_id": "call_1", "name": "weather"}
    ollama = bodies["ollama"]["messages"]
    assert ollama[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Köln"}
    assert ollama[2]["tool_name"] == "weather"
    assert bodies["responses"]["input"][1:3] == [
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": arguments},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
    ]


def test_what_a_server_cannot_is_said_before_it_is_asked() -> None:
    with Chaos() as chaos:
        for kind, more, why in (
            ("ollama", {"tools": TOOLS, "tool_choice": "required"}, "leave tool_choice auto"),
            ("deepseek", {"schema": SCHEMA}, "takes no JSON schema"),
            ("vllm", {"schema": SCHEMA, "prefill": "{"}, "leave out the prefill"),
            (
                "llamacpp",
                {"schema": SCHEMA, "sampling": Sampling(max_thinking_tokens=5)},
                "leave out the prefill and the budget",
            ),
            ("vllm", {"tool_choice": "required"}, "there are no tools"),
            ("vllm", {"tools": ({"type": "x"},)}, r"tools\[0\]"),
        ):
            engine = engine_of(chaos, kind)
            if kind == "deepseek":
                engine.endpoint = replace(engine.endpoint, preset=replace(engine.endpoint.preset, needs_key=False))
            with pytest.raises(UserError, match=why):
                engine.sample_all([ask(**more)])
        assert not chaos.seen


def test_sample_i_has_the_seed_that_it_has_among_n() -> None:
    with Chaos() as chaos:
        engine_of(chaos, "vllm").sample_all([ask(n=4, sampling=Sampling(seed=5))])
        seeds = sorted(seen.body["seed"] for seen in chaos.seen)
        chaos.seen.clear()
        for number in range(4):
            engine_of(chaos, "vllm").sample_all([ask(first=number, sampling=Sampling(seed=5))])
        alone = [seen.body["seed"] for seen in chaos.seen]
    assert sorted(alone) == seeds
    assert alone[0] == 5
    assert len(set(seeds)) == 4
