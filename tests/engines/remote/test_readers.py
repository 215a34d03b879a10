"""Readers of every API's answers: whatever JSON comes, they bring text or one fault."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from thinksmith.engines.remote.dialects.chat import ChatReader
from thinksmith.engines.remote.dialects.ollama import OllamaReader
from thinksmith.engines.remote.dialects.piece import Turn
from thinksmith.engines.remote.dialects.responses import ResponsesReader
from thinksmith.engines.remote.wire.client import Client
from thinksmith.engines.remote.wire.faults import Fault
from thinksmith.thinking import THINK, split

FIELDS = (
    "choices", "delta", "message", "content", "reasoning", "reasoning_content", "thinking", "reasoning_details",
    "text", "logprobs", "logprob", "token_logprobs", "tool_calls", "function", "id", "name", "arguments", "index",
    "finish_reason", "usage", "prompt_tokens", "completion_tokens", "timings", "completion_tokens_details",
    "reasoning_tokens", "prompt_tokens_details", "cached_tokens", "done", "done_reason", "eval_count", "response",
    "type", "output", "status", "incomplete_details", "reason", "error", "code", "object", "summary",
    "input_tokens", "output_tokens", "detail",
)  # fmt: skip
WORDS = ("response", "stop", "length", "thinking", "reasoning", "message", "function_call", "response.completed")
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from([*WORDS, "</think>"])
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=20,
)
tables = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)
choices = st.fixed_dictionaries({}, optional={"delta": tables, "message": tables, "logprobs": values, "text": values})
events = st.one_of(
    tables,
    st.fixed_dictionaries({"choices": st.lists(choices, max_size=2)}, optional={"usage": values, "timings": values}),
    st.fixed_dictionaries({"message": tables}, optional={"done": values, "logprobs": values}),
    st.fixed_dictionaries({"type": st.just("response.completed"), "response": tables}),
)


@settings(max_examples=400, deadline=None)
@given(sent=st.lists(events, max_size=4), kind=st.sampled_from([ChatReader, OllamaReader, ResponsesReader]))
@example(sent=[{"message": {}, "logprobs": 1}], kind=OllamaReader)
@example(sent=[{"choices": [{"logprobs": {"content": 10**400}}]}], kind=ChatReader)
@example(sent=[{"choices": [{"logprobs": {"token_logprobs": [10**400, -1, None]}}]}], kind=ChatReader)
@example(sent=[{"type": "response.completed", "response": {"output": 3}}], kind=ResponsesReader)
def test_whatever_comes_is_text_or_one_fault(sent: list[dict[str, Any]], kind: Any) -> None:
    reader, client = kind(THINK, False), Client("http://x")
    try:
        for event in sent:
            client._look(event)
            reader.feed(event)
    except Fault:
        pass
    said = reader.finish()
    parts = split(said.completion)
    assert (parts.thinking, parts.answer) == (said.thinking, said.answer)
    assert min(said.prompt_tokens, said.cached_tokens, said.thinking_tokens, said.answer_tokens) >= 0


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("aé日🙂🧠\n"), max_size=30), cuts=st.lists(st.integers(0, 60), max_size=8))
def test_halves_of_a_character_come_together(text: str, cuts: list[int]) -> None:
    """JSON may write a character as two escapes (\\ud83d\\ude42), and a server may cut between them."""
    units = [
        text.encode("utf-16-le")[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, 2 * _units(text), 2)
    ]
    places = sorted({0, len(units), *(cut % (len(units) + 1) for cut in cuts)})
    turn = Turn(THINK, False)
    for start, end in pairwise(places):
        turn.say("".join(units[start:end]))
    assert turn.finish()[1] == text


def test_half_a_character_that_stays_one_is_no_text_that_breaks_what_comes_after() -> None:
    turn = Turn(THINK, False)
    turn.think("so \ud83d", "reasoning")
    turn.say("\ude00 \udc00 x\ud83d")
    _, text = turn.finish()
    assert text.encode()  # nothing is left that UTF-8 cannot carry
    assert text.count("\ufffd") == 2


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
