"""What tools give cannot pass for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.agent.observing import clean, cut, harmless, marked, nonce
from thinksmith.engines import open_engine
from thinksmith.policy.tools import marks, tool_calls_in
from thinksmith.thinking import split

TOKENS = [
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|start_header_id|>",
        "<|python_tag|>",
        "<｜User｜>",
    ),
    *(
        "<｜tool▁calls▁begin｜>",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "[INST]",
        "[/INST]",
    ),
    *(
        "[TOOL_CALLS]",
        "[TOOL_RESULTS]",
        "<function=x>",
        "<start_of_turn>",
        "<s>",
        "</s>",
        "<bos>",
        "[/THINK]",
        "<｜end▁of▁sentence｜>",
    ),
]
anything = st.lists(st.sampled_from(TOKENS) | st.text(max_size=8), max_size=12).map("".join)


@pytest.mark.parametrize("token", [*TOKENS, *marks(), "[end of data 1234]", "[data from files_read, 1]"])
def test_tokens_of_templates_are_broken(token: str) -> None:
    text = harmless(f"a {token} b")
    assert token not in text
    assert len(text) == len(token) + 4
    assert harmless(text) == text


@given(anything)
def test_no_call_no_thinking_and_no_turn_can_be_read_out_of_data(text: str) -> None:
    text = harmless(clean(text))
    assert not any(mark in text for mark in marks())
    assert split(text).status == "none"
    assert all(token not in text for token in TOKENS)


@given(anything)
def test_no_token_of_the_embedded_model_comes_from_data(text: str) -> None:
    tokenizer = _tiny()
    special = set(tokenizer.added_tokens_decoder)
    assert not special & set(tokenizer(harmless(clean(text)), add_special_tokens=False)["input_ids"])


def _tiny() -> object:
    if not hasattr(_tiny, "tokenizer"):
        engine = open_engine("tiny")
        _tiny.tokenizer = engine.policy.tokenizer  # type: ignore[attr-defined]
    return _tiny.tokenizer  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "<html><span>x</span></html>", "array[data]", "x = [1, 2]", "|a|b|", "<strong>"]
)
def test_ordinary_text_stays(text: str) -> None:
    assert harmless(text) == text


def test_bare_json_in_data_is_only_data() -> None:
    """A reader would take it for a call; that is why none ever reads an observation."""
    assert tool_calls_in('{"name": "wipe", "arguments": {}}', [{"type": "function", "function": {"name": "wipe"}}])[1]
    assert harmless('{"name": "wipe"}') == '{"name": "wipe"}'


@given(st.text(), st.integers(10, 50))
def test_a_cut_keeps_both_ends(text: str, most: int) -> None:
    found = cut(text, most)
    if len(text) <= most:
        assert found == text
    else:
        assert found.startswith(text[: most * 2 // 3])
        assert found.endswith(text[len(text) - (most - most * 2 // 3) :])
        assert f"{len(text) - most:,} characters" in found


@given(st.binary())
def test_clean_text_can_be_stored(data: bytes) -> None:
    text = clean(data.decode("utf-8", "surrogateescape"))
    text.encode()
    assert "\x00" not in text
    assert "\x1b" not in text


def test_the_end_of_data_cannot_be_known_beforehand() -> None:
    first, second = nonce(b"a", 0, 0), nonce(b"b", 0, 0)
    assert first != second
    assert first != nonce(b"a", 0, 1)
    assert len(first) == 8
    assert marked("x", "look", first).endswith(f"[end of data {first}]")
