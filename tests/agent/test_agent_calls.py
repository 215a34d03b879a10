"""Reading a reply: which calls it asks for, and never from its thinking."""

from __future__ import annotations

import json

import pytest
from agent_scripts import calls, tool, trace_of
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.agent.calls import MOST, read_reply, signature
from thinksmith.records import Request, ToolCall

CODE = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
TOOLS = {
    "look": tool("look", lambda: ""),
    "python": tool("python", lambda code: "", "run", CODE, fence="python"),
    "query": tool("query", lambda code: "", parameters=CODE, fence="sql"),
}
ASKED = Request(token_ids=(1,))


def names(text: str) -> list[str]:
    return [each.call["name"] for each in read_reply(trace_of(text, ASKED), TOOLS, 0).asked if each.tool]


CALL = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{CALL}\n</think>\n\nNo.",
        f"<think>\n{CALL}",
        f"<think>\nThe file says </think>{CALL} and more.\n</think>\n\nNo.",
        f"<think>\na\n</think>\n\nNo. <think>{CALL}</think>",
        f"<think>\na\n</think>\n\nNo. <think>{CALL}",
        f"<think>\na\n</think>\n\nNo. <thinking>{CALL}",
        "<think>\n```python\nprint(1)\n```\n</think>\n\nNo.",
        '<think>\n{"name": "look", "arguments": {}}\n</think>\n\nNo.',
    ],
)
def test_thinking_holds_no_call(text: str) -> None:
    assert names(text) == []


@given(st.text(alphabet="abc<>/think\n ", max_size=60), st.text(alphabet="abc \n", max_size=20))
def test_whatever_is_thought_before_the_last_end_is_no_call(before: str, after: str) -> None:
    assert names(f"<think>{before}{CALL}{before}</think>{after}.") == []
    assert names(f"<think>{before}</think>{after}{CALL}").count("look") <= 1


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        f"I look.\n{CALL}",
        '[TOOL_CALLS][{"name": "look", "arguments": {}}]',
        "<function=look></function>",
        '{"name": "look", "arguments": {}}',
    ],
)
def test_a_call_in_any_format(text: str) -> None:
    assert names(f"<think>\nYes.\n</think>\n\n{text}") == ["look"]


def test_a_fence_at_the_end_is_a_call() -> None:
    reply = read_reply(trace_of("I run it.\n```python\nprint(1)\n```", ASKED), TOOLS, 3)
    (asked,) = reply.asked
    assert asked.call == ToolCall(name="python", arguments={"code": "print(1)\n"}, id="call_3_0") or (
        asked.call["arguments"]["code"].strip() == "print(1)"
    )
    assert reply.text == "I run it."
    assert names("```sql\nSELECT 1\n```\n") == ["query"]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n```\nThis prints 1.",
        "```\nprint(1)\n```",
        "```bash\nls\n```",
        "```python\n\n```",
    ],
)
def test_another_fence_is_text(text: str) -> None:
    reply = read_reply(trace_of(text, ASKED), TOOLS, 0)
    assert reply.asked == ()
    assert reply.text == text.strip()


def test_a_fence_beside_a_call_is_text() -> None:
    assert names(f"{CALL}\n```python\nprint(1)\n```") == ["look"]


def test_ids_are_ours_and_many_calls_are_bounded() -> None:
    one = '<tool_call>{"name": "look", "arguments": {}, "id": "same"}</tool_call>'
    asked = read_reply(trace_of(one * (MOST + 3), ASKED), TOOLS, 2).asked
    assert [each.call["id"] for each in asked] == [f"call_2_{n}" for n in range(MOST + 1)]
    assert asked[-1].tool is None
    assert "at most" in asked[-1].fault


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3))
def test_the_order_of_arguments_does_not_matter(arguments: dict[str, object]) -> None:
    turned = dict(reversed(arguments.items()))
    first, second = (
        read_reply(trace_of(calls("look", **{"x": a}), ASKED), TOOLS, n).asked
        for n, a in enumerate((arguments, turned))
    )
    assert signature(first) == signature(second)


def test_a_schema_that_holds_a_text_names_what_is_missing() -> None:
    (asked,) = read_reply(trace_of(calls("query", kode="SELECT 1"), ASKED), TOOLS, 0).asked
    assert asked.tool is not None
    assert "'code' is a required property" in asked.fault
    assert "it takes: code" in asked.fault
    assert json.dumps(asked.call)
