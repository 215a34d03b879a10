"""Tools, calls and what came of them, as templates get them; and turns that are gone on with."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.engines import open_engine
from thinksmith.engines.going_on import prefill_of
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.engines.replay import ReplayEngine
from thinksmith.policy.load import load_policy
from thinksmith.policy.messages import for_template, with_ids
from thinksmith.policy.policy import Policy
from thinksmith.policy.tools import tool_calls_in
from thinksmith.records import Message, Problem, Request, Sampling, Trace
from thinksmith.thinking import CHANNEL, THINK, split

TOOLS: Any = (
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    },
)
LOOP: Any = (
    {"role": "user", "content": "Rain in Rome or Oslo?"},
    {
        "role": "assistant",
        "content": "I look.",
        "thinking": "Two calls.",
        "tool_calls": [
            {"name": "weather", "arguments": {"city": "Rome"}, "id": "call_1xyz"},
            {"name": "weather", "arguments": {"city": "Oslo"}},
        ],
    },
    {"role": "tool", "content": "dry", "tool_call_id": "call_1xyz"},
    {"role": "tool", "content": "rain"},
    {"role": "user", "content": "So?"},
)
# What Qwen3's template does, in short.
KNOWS = (
    "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}[{{ m.role }}{% if m.role == 'tool' %} {{ m.tool_call_id }} {{ m.name }}{% endif %}]"
    "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}"
    "{% for c in m.tool_calls %}<{{ c.id }}:{{ c.function.name }} {{ c.function.arguments | tojson }}>{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@cache
def tiny() -> LocalEngine:
    engine = open_engine("tiny")
    assert isinstance(engine, LocalEngine)
    return engine


def with_template(checkpoints: Any, template: str) -> Policy:
    policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    policy.tokenizer.chat_template = template
    return policy


def test_a_template_that_knows_tools_gets_them_whole(checkpoints: Any) -> None:
    text = with_template(checkpoints, KNOWS).render(LOOP, tools=TOOLS).text
    tool = json.dumps(TOOLS[0])
    assert text == (
        f"<tools>{tool}</tools>[user]Rain in Rome or Oslo?[assistant](Two calls.)I look."
        '<call_1xyz:weather {"city": "Rome"}><call_2:weather {"city": "Oslo"}>'
        "[tool call_1xyz weather]dry[tool call_2 weather]rain[user]So?[assistant]"
    )
    assert with_template(checkpoints, KNOWS).render(LOOP[:1]).text == "[user]Rain in Rome or Oslo?[assistant]"


def test_a_template_that_knows_none_is_told_in_words() -> None:
    text = tiny()._policy.render(LOOP, tools=TOOLS).text
    system, user, assistant, results, again, _ = (part.partition("\n") for part in text.split("<|im_start|>")[1:])
    assert (system[0], user[0], assistant[0], results[0], again[0]) == ("system", "user", "assistant", "user", "user")
    assert json.dumps(TOOLS[0]) in system[2]
    said, calls = tool_calls_in(assistant[2].removesuffix("<|im_end|>\n"))
    assert said == "I look."
    assert [call["arguments"]["city"] for call in calls] == ["Rome", "Oslo"]
    assert results[2] == ("<tool_response>\ndry\n</tool_response>\n<tool_response>\nrain\n</tool_response><|im_end|>\n")
    with_system = tiny()._policy.render(({"role": "system", "content": "Be brief."}, *LOOP[:1]), tools=TOOLS).text
    assert with_system.count("<|im_start|>system") == 1
    assert with_system.index("Be brief.") < with_system.index("# Tools")


def test_plain_messages_are_what_they_were() -> None:
    messages: Any = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "thinking": "c"}]
    assert for_template(messages, (), "no tools here") == (messages, None)


def test_mistrals_ids_have_nine_characters() -> None:
    chat = with_ids(LOOP, short=True)
    ids = [call["id"] for call in chat[1]["tool_calls"]]
    assert all(len(each) == 9 and each.isalnum() for each in ids)
    assert [message["tool_call_id"] for message in chat[2:4]] == ids
    assert LOOP[1]["tool_calls"][0]["id"] == "call_1xyz"  # the caller's stay


@given(st.lists(st.booleans(), min_size=1, max_size=4), st.permutations(range(4)))
def test_results_find_their_calls(named: list[bool], order: list[int]) -> None:
    calls: list[Any] = [
        {"name": f"f{at}", "arguments": {}} | ({"id": f"id{at}"} if yes else {}) for at, yes in enumerate(named)
    ]
    if all(named):
        results: list[Any] = [
            {"role": "tool", "content": "", "tool_call_id": f"id{at}"} for at in order if at < len(named)
        ]
        names = [f"f{at}" for at in order if at < len(named)]
    else:
        results, names = [{"role": "tool", "content": ""} for _ in named], [f"f{at}" for at in range(len(named))]
    chat = with_ids([Message(role="assistant", content="", tool_calls=calls), *results])
    assert [message["name"] for message in chat[1:]] == names
    assert len({message["tool_call_id"] for message in chat[1:]}) == len(named)


# --- going on


@pytest.mark.parametrize(
    ("message", "opened"),
    [
        ({"content": "It is 4", "thinking": "2 + 2"}, "<think>\n2 + 2\n</think>\n\nIt is 4"),
        ({"content": "", "thinking": "2 + 2 ="}, "<think>\n2 + 2 ="),
        ({"content": "It is"}, "<think>\n\n</think>\n\nIt is"),
        ({"content": "<think>\nmine\n</think>\n\nIt"}, "<think>\nmine\n</think>\n\nIt"),
        ({"content": ""}, "<think>\n"),
    ],
)
def test_an_assistants_message_is_gone_on_with(message: Any, opened: str) -> None:
    """The template opens a thinking; it stands there once, whatever the message brings."""
    engine = tiny()
    messages = (Message(role="user", content="What is 2 + 2?"),)
    prefill = prefill_of(engine, {"role": "assistant", **message})
    request = Request(messages, prefill=prefill, sampling=Sampling(max_tokens=12, temperature=0))
    (trace,) = engine.sample_all([request])[0]
    assert trace.opened == opened
    assert engine.decode(trace.prompt_ids).endswith(f"<|im_start|>assistant\n{opened}")
    assert engine.decode(trace.prompt_ids).count("<think>") == 1
    parts = split(opened, THINK)
    assert trace.thinking.startswith(parts.thinking)
    assert trace.answer.startswith(parts.answer)
    assert (trace.thinking_status == "truncated") == (parts.status == "truncated") or trace.answer


def test_where_no_thinking_is_opened_an_answer_goes_on_as_it_is(checkpoints: Any) -> None:
    plain = LocalEngine(with_template(checkpoints, "{% for m in messages %}{{ m.content }}{% endfor %}A:"))
    replay = ReplayEngine([(Problem("p", "q"), Trace("t", "a"))], "replay/x")
    for engine in (plain, replay):
        assert prefill_of(engine, {"role": "assistant", "content": "It is"}) == "It is"
    assert not plain.opens_thinking
    assert tiny().opens_thinking


def test_a_format_with_a_tag_before_the_answer() -> None:
    class Channels:
        tags = CHANNEL
        opens_thinking = False

        def decode(self, ids: Any) -> str:
            return ""

    begun = prefill_of(Channels(), {"role": "assistant", "content": "four", "thinking": "2 + 2"})  # type: ignore[arg-type]
    parts = split(begun, CHANNEL)
    assert (parts.thinking, parts.answer, parts.status) == ("2 + 2", "four", "closed")


def test_a_prefill_of_a_thought_stays_within_the_thinking_that_is_opened() -> None:
    rendered = tiny()._policy.render([Message(role="user", content="?")], "So <think> is")
    assert rendered.opened == "<think>\nSo <think> is"
