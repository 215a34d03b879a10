"""Chat completions as a dialect, without a server: what is read, what is refused, and that chunks join to the whole."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.records import Trace
from thinksmith.serve.asked import Piece, Refusal
from thinksmith.serve.dialect import About, Stamp
from thinksmith.serve.openai.chat import CHAT

ABOUT = About("m", "m")
STAMP = Stamp("0" * 24, 1, 0.0)
SAID = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def _body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": SAID, **fields}


def test_every_lever_is_read() -> None:
    asked = CHAT.read(
        _body(
            messages=[
                {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "short"}]},
                {"role": "assistant", "content": "a", "reasoning_content": "t"},
                {"role": "user", "content": "b"},
            ],
            n=3,
            temperature=0.5,
            top_p=0.9,
            top_k=-1,
            min_p=0.1,
            seed=-1,
            stop="x",
            max_tokens=5,
            max_completion_tokens=7,
            reasoning_effort="low",
            reasoning={"max_tokens": 9},
            thinking_token_budget=30,
            chat_template_kwargs={"enable_thinking": False},
            logprobs=True,
            top_logprobs=2,
            stream=True,
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "add"}},
            response_format={"type": "json_object"},
            user="me",
            store=True,
        )
    )
    assert asked.messages[0] == {"role": "system", "content": "be short"}
    assert asked.messages[1] == {"role": "assistant", "content": "a", "thinking": "t"}
    assert (asked.n, asked.max_tokens, asked.effort, asked.max_thinking_tokens, asked.think) == (3, 7, "low", 9, False)
    assert asked.sampling["stop"] == ("x",)
    assert asked.sampling["top_k"] == 0
    assert asked.sampling["seed"] == 2**63 - 1
    assert "max_tokens" not in asked.sampling
    assert (asked.tool_choice, asked.schema, asked.logprobs, asked.stream) == ("add", {}, True, True)


def test_what_the_client_does_not_set_is_left_to_the_model() -> None:
    assert CHAT.read(_body()).sampling == {}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"chat_template": "{{ x }}"}, "chat_template"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"thinking_token_budget": -1}, "thinking_token_budget"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        CHAT.read(_body(**fields))
    assert (caught.value.status, caught.value.field) == (400, field)
    assert CHAT.error(caught.value)["error"]["param"] == field


PARTS = st.lists(st.tuples(st.sampled_from(["thinking", "answer"]), st.text(max_size=5)), max_size=12)


@given(parts=PARTS, finish=st.sampled_from(["stop", "length", "budget"]), usage=st.booleans())
def test_chunks_join_to_the_whole(parts: list[tuple[Any, str]], finish: Any, usage: bool) -> None:
    """Independent of the chunks: the whole is made from the trace alone."""
    texts = {part: "".join(text for each, text in parts if each == part) for part in ("thinking", "answer")}
    trace = Trace(**texts, finish=finish, thinking_tokens=3, answer_tokens=2, prompt_tokens=4)
    done = Piece(0, "done", trace=trace, tokens=5)
    asked = CHAT.read(_body(stream=True, stream_options={"include_usage": usage}))
    stream = CHAT.stream(asked, ABOUT, STAMP)
    frames = stream.begin()
    for part, text in parts:
        frames += stream.feed(Piece(0, part, text))
    frames += stream.feed(done)
    frames += stream.finish()
    (choice,) = CHAT.whole(asked, [done], ABOUT, STAMP)["choices"]
    deltas = [each["delta"] for frame in frames for each in frame["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == choice["message"]["content"]
    for name in ("reasoning_content", "reasoning"):
        assert "".join(delta.get(name) or "" for delta in deltas) == choice["message"].get(name, "")
    reasons = [each["finish_reason"] for frame in frames for each in frame["choices"] if each["finish_reason"]]
    assert reasons == [choice["finish_reason"]] == ["stop" if finish == "stop" else "length"]
    assert [frame["usage"] for frame in frames if frame.get("usage")] == (
        [CHAT.whole(asked, [done], ABOUT, STAMP)["usage"]] if usage else []
    )


@given(cuts=st.lists(st.integers(0, 90), max_size=6))
def test_a_call_is_told_as_a_call_however_it_is_cut(cuts: list[int]) -> None:
    answer = 'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    trace = Trace("t", answer, answer_tokens=9)
    done = Piece(0, "done", trace=trace, tokens=9)
    asked = CHAT.read(_body(tools=[TOOL]))
    (choice,) = CHAT.whole(asked, [done], ABOUT, STAMP)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], call["function"]["arguments"]) == ("add", '{"a": 1}')
    stream = CHAT.stream(asked, ABOUT, STAMP)
    frames, borders = stream.begin(), sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    for start, end in pairwise(borders):
        frames += stream.feed(Piece(0, "answer", answer[start:end]))
    frames += stream.feed(done)
    deltas = [each["delta"] for frame in frames for each in frame["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [each["function"] for each in calls] == [call["function"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == (choice["message"]["content"] or "")
    assert frames[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_answer_that_was_taken_back_breaks_the_stream_and_a_thought_does_not() -> None:
    stream = CHAT.stream(CHAT.read(_body(stream=True)), ABOUT, STAMP)
    stream.feed(Piece(0, "thinking", "hm"))
    stream.feed(Piece(0, "reset"))
    stream.feed(Piece(0, "answer", "4"))
    with pytest.raises(Refusal, match="broke off"):
        stream.feed(Piece(0, "reset"))


def test_progress_is_marked_and_traces_come_on_request() -> None:
    from thinksmith.strategies.contract import Outcome

    traces = (Trace("a", "1", answer_tokens=1, thinking_tokens=4), Trace("b", "2", answer_tokens=1, thinking_tokens=5))
    done = Piece(
        0, "done", trace=traces[1], outcome=Outcome("2", traces, 11, "why", traces[1], {"votes": {"2": 1}}), tokens=11
    )
    asked = CHAT.read(_body(traces=True))
    whole = CHAT.whole(asked, [done], ABOUT, STAMP)
    told = whole["choices"][0]["strategy"]
    assert (told["why"], told["notes"]) == ("why", {"votes": {"2": 1}})
    assert [(each["answer"], each["chosen"]) for each in told["traces"]] == [("1", False), ("2", True)]
    assert whole["usage"]["completion_tokens"] == 11
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 10}
    (frame,) = CHAT.stream(asked, ABOUT, STAMP).feed(Piece(0, "progress", "1: 2\n"))
    assert frame["choices"][0]["delta"] == {"reasoning_content": "1: 2\n", "reasoning": "1: 2\n", "progress": True}
