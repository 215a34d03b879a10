"""The description and the dialects agree: what a request's schema forbids is refused, what it allows is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from thinksmith.serve.asked import Refusal
from thinksmith.serve.dialect import About
from thinksmith.serve.ollama import chat as ollama_chat
from thinksmith.serve.ollama import generate as ollama_generate
from thinksmith.serve.openai import chat, completions, responses
from thinksmith.serve.openapi import describe

DESCRIPTION = describe([About("tiny", "tiny"), About("other", "other")])
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
READERS: dict[str, tuple[Callable[..., Any], list[dict[str, Any]]]] = {
    "/v1/chat/completions": (
        chat.read,
        [
            {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]},
            {
                "model": "tiny",
                "messages": [
                    {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
                    {
                        "role": "assistant",
                        "content": None,
                        "reasoning_content": "hm",
                        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
                    },
                    {"role": "tool", "content": "7", "tool_call_id": "a"},
                ],
                "tools": [TOOL],
                "tool_choice": {"type": "function", "function": {"name": "add"}},
                "response_format": {"type": "json_schema", "json_schema": {"schema": {}}},
                "logprobs": True,
                "top_logprobs": 3,
                "stop": ["a"],
                "n": 2,
            },
        ],
    ),
    "/v1/completions": (
        completions.read,
        [
            {"model": "tiny", "prompt": "hi"},
            {"model": "tiny", "prompt": ["a", "b"], "echo": True, "logprobs": 1, "max_tokens": 0, "best_of": 2, "n": 1},
            {"model": "tiny", "prompt": [[1, 2], [3]], "stream_options": {"include_usage": True}},
        ],
    ),
    "/v1/responses": (
        responses.read,
        [
            {
                "model": "tiny",
                "input": "hi",
                "instructions": "be brief",
                "reasoning": {"effort": "low", "summary": "auto"},
            },
            {
                "model": "tiny",
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
                    {"type": "function_call", "call_id": "a", "name": "add", "arguments": '{"a": 1}'},
                    {"type": "function_call_output", "call_id": "a", "output": "7"},
                ],
                "tools": [{"type": "function", "name": "add", "parameters": {}}],
                "tool_choice": {"type": "function", "name": "add"},
                "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
                "top_logprobs": 2,
                "include": ["message.output_text.logprobs"],
                "metadata": {"a": "b"},
            },
        ],
    ),
    "/api/chat": (
        ollama_chat.read,
        [
            {"model": "tiny"},
            {
                "model": "tiny",
                "messages": [
                    {"role": "user", "content": "hi"},
                    {
                        "role": "assistant",
                        "content": "",
                        "thinking": "hm",
                        "tool_calls": [{"function": {"name": "add", "arguments": {}}}],
                    },
                    {"role": "tool", "content": "7", "tool_name": "add"},
                ],
                "tools": [TOOL],
                "think": "low",
                "format": {"type": "object"},
                "keep_alive": "5m",
                "options": {"temperature": 0, "num_predict": -1, "stop": ["x"]},
            },
        ],
    ),
    "/api/generate": (
        ollama_generate.read,
        [
            {"model": "tiny"},
            {
                "model": "tiny",
                "prompt": "hi",
                "system": "be brief",
                "format": "json",
                "logprobs": True,
                "top_logprobs": 1,
            },
        ],
    ),
}
BEYOND_A_SCHEMA = (  # what a Refusal says of bodies that a schema allows
    "set logprobs to true",
    "there are no tools",
    "none of auto, none",
    "have the same name",
    "must be the text of a JSON object",
    "it must be n=",
    "ask without stream",
    "is not the assistant's",
    "raw text stands alone",
    "prompts times completions",
)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.sampled_from([2**31, -(2**63), 2**70, 0.0, 1.0, 0.5, -0.5, 101.5, 1e308])
    | st.sampled_from(
        ["", "a", "auto", "none", "low", "json", "text", "user", "assistant", "tool", "function", "5m", "{}"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "name", "role", "content", "text", "function", "schema"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def schema_of(path: str) -> Draft202012Validator:
    schema = DESCRIPTION["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": DESCRIPTION["components"]})


VALIDATORS = {path: schema_of(path) for path in READERS}


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body where something could stand instead."""
    found = [at] if at else []
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*at, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            found += places(value[index], (*at, index))
    return found


def put(body: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(body))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return copy


@pytest.mark.parametrize("path", READERS)
def test_what_the_schema_forbids_is_refused_and_what_it_allows_is_read(path: str) -> None:
    read, bodies = READERS[path]
    properties = DESCRIPTION["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "properties"
    ]
    for body in bodies:
        assert not list(VALIDATORS[path].iter_errors(body))
        read(body)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(bodies))
        at = data.draw(st.sampled_from(places(body) + [(name,) for name in properties if name != "model"] * 2))
        changed = put(body, at, data.draw(JSON_VALUES))
        if "model" in at:
            return  # whether there is such a model is no question of the dialect's
        allowed = VALIDATORS[path].is_valid(changed)
        said = None
        try:
            read(changed)
        except Refusal as refusal:
            said = refusal.message
        if said is None:
            assert allowed, (changed, next(VALIDATORS[path].iter_errors(changed)).message)
        else:
            assert said
            assert "\n" not in said
            assert not allowed or any(words in said for words in BEYOND_A_SCHEMA), (said, changed)

    law()


def test_every_schema_is_one() -> None:
    for schema in DESCRIPTION["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for path, operations in DESCRIPTION["paths"].items():
        for operation in operations.values():
            assert operation["operationId"]
            assert "200" in operation["responses"], path
