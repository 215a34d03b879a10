"""Calls read out of answers: every format, every chunking, and what is no call stays text."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.policy.tools import FORMATS, CallReader, check_tools, hermes, tool_calls_in
from thinksmith.records import ToolCall


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


TOOLS = (
    tool("weather", city={"type": "string"}, days={"type": "integer"}, exact={"type": "boolean"}),
    tool("run", code={"type": "string"}, tags={"type": "array"}, note={"type": ["string", "null"]}),
)
ARGUMENTS = st.dictionaries(
    st.text("abc_", min_size=1, max_size=4),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-99, 99)
        | st.text(max_size=12)
        | st.sampled_from(
            ["</tool_call>", "a } b ] {", 'say "<tool_call>"', "\\", "[TOOL_CALLS]", "line\nline", "é 日本 🙂"]
        ),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", max_size=2), inner, max_size=2),
        max_leaves=6,
    ),
    max_size=3,
)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: ToolCall(name=name, arguments=arguments), st.sampled_from(["weather", "run"]), ARGUMENTS
    ),
    min_size=1,
    max_size=3,
)
DUMPS = {
    "compact": lambda value: json.dumps(value, separators=(",", ":")),
    "plain": lambda value: json.dumps(value, ensure_ascii=False),
    "pretty": lambda value: json.dumps(value, indent=2),
}
WAYS = {
    "hermes": lambda calls, dump: "\n".join(f"<tool_call>\n{dump(dict(c))}\n</tool_call>" for c in calls),
    "hermes, all in one": lambda calls, dump: "<tool_call>" + "\n".join(dump(dict(c)) for c in calls) + "</tool_call>",
    "hermes, a list": lambda calls, dump: f"<tool_call>{dump([dict(c) for c in calls])}</tool_call>",
    "hermes, no end": lambda calls, dump: "\n".join(f"<tool_call>\n{dump(dict(c))}\n" for c in calls),
    "llama": lambda calls, dump: (
        "<|python_tag|>" + "; ".join(dump({"name": c["name"], "parameters": c["arguments"]}) for c in calls)
    ),
    "llama, by name": lambda calls, dump: "".join(
        f"<function={c['name']}>{dump(c['arguments'])}</function>" for c in calls
    ),
    "mistral": lambda calls, dump: "[TOOL_CALLS]" + dump([dict(c) for c in calls]),
    "mistral 11": lambda calls, dump: "".join(f"[TOOL_CALLS]{c['name']}[ARGS]{dump(c['arguments'])}" for c in calls),
    "mistral 11, bare": lambda calls, dump: "".join(f"[TOOL_CALLS]{c['name']}{dump(c['arguments'])}" for c in calls),
    "deepseek r1": lambda calls, dump: (
        "<｜tool▁calls▁begin｜>"
        + "\n".join(
            f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{c['name']}\n```json\n{dump(c['arguments'])}\n```<｜tool▁call▁end｜>"
            for c in calls
        )
        + "<｜tool▁calls▁end｜>"
    ),
    "deepseek v3.1": lambda calls, dump: (
        "<｜tool▁calls▁begin｜>"
        + "".join(
            f"<｜tool▁call▁begin｜>{c['name']}<｜tool▁sep｜>{dump(c['arguments'])}<｜tool▁call▁end｜>" for c in calls
        )
        + "<｜tool▁calls▁end｜>"
    ),
    "json": lambda calls, dump: "\n".join(dump(dict(c)) for c in calls),
    "json, a list": lambda calls, dump: dump([dict(c) for c in calls]),
    "json, as the API": lambda calls, dump: dump(
        [{"type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}} for c in calls]
    ),
}


def read(pieces: list[str], tools: Any = TOOLS) -> tuple[list[Any], str]:
    """What a reader tells of these pieces: calls and the texts between them, and all text."""
    reader = CallReader(tools)
    told: list[Any] = []
    for each in [found for piece in pieces for found in reader.feed(piece)] + reader.finish():
        if isinstance(each, str) and told and isinstance(told[-1], str):
            told[-1] += each
        else:
            told.append(each)
    return told, "".join(each for each in told if isinstance(each, str))


def chunks(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(places)]


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(
    calls=CALLS,
    dump=st.sampled_from(sorted(DUMPS)),
    before=st.sampled_from(["", "I will look.", "\n\n", "a < b [x]\n"]),
)
def test_every_format_gives_the_calls_back(way: str, calls: list[ToolCall], dump: str, before: str) -> None:
    if way.startswith("json"):
        before = ""
    text, found = tool_calls_in(before + WAYS[way](calls, DUMPS[dump]), TOOLS)
    assert list(found) == calls
    assert text == before.rstrip()


FRAGMENTS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "\n",
        " ",
        "<function=",
        "run>",
        "<parameter=code>",
        "</parameter>",
        "</function>",
        "{",
        "}",
        '{"name": "run", "arguments": {"code": "x"}}',
        '{"name": "nobody"}',
        "[",
        "]",
        '"',
        "\\",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[CALL_ID]",
        "weather",
        "<|python_tag|>",
        ";",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
        "text",
        "<",
        "<tool",
        "function",
        "```json",
        ",",
        '"name"',
        ":",
        "weather\n",
        "é",
    ]
)


@settings(max_examples=1500)
@given(parts=st.lists(FRAGMENTS, max_size=14), cuts=st.lists(st.integers(0, 120), max_size=8))
@example(parts=["[TOOL_CALLS]", "weather", "{", "}"], cuts=[1, 3])
@example(parts=['{"name": "run", "arguments": {"code": "x"}}', ";", "text"], cuts=[44])
def test_chunks_do_not_matter(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    whole = read([text])
    assert read(chunks(text, cuts)) == whole
    assert read(list(text)) == whole


@settings(max_examples=300)
@given(text=st.text('<>{}[]"\\ \nabc;`tol_cf=', max_size=60))
def test_what_holds_no_mark_is_text_letter_for_letter(text: str) -> None:
    if not any(mark in text for mark in ("<tool_call>", "<function=", "[TOOL_CALLS]")):
        assert tool_calls_in(text, TOOLS) == (text, ())


@given(parts=st.lists(FRAGMENTS, max_size=14))
def test_nothing_but_calls_and_space_beside_them_is_lost(parts: list[str]) -> None:
    text = "".join(parts)
    rest, calls = tool_calls_in(text, TOOLS)
    if not calls:
        assert rest == text
    left = iter("".join(text.split()))  # what is told is a subsequence of what was written
    assert all(letter in left for letter in "".join(rest.split()))


def test_parameters_in_tags_have_their_declared_types() -> None:
    answer = (
        "<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "<parameter=exact>\nTrue\n</parameter>\n<parameter=other>\n[1]\n</parameter>\n</function>\n</tool_call>\n"
        "<function=run><parameter=code>\nif a:\n    print('</parameter>')\n</parameter>"
        "<parameter=tags>[1, 2]</parameter>"
        "<parameter=note>null</parameter></function>"
    )
    text, calls = tool_calls_in(answer, TOOLS)
    assert text == ""
    assert calls[0]["arguments"] == {"city": "12", "days": 3, "exact": True, "other": "[1]"}
    assert calls[1]["arguments"] == {"code": "if a:\n    print('</parameter>')", "tags": [1, 2], "note": "null"}


def test_what_models_forget_is_put_right() -> None:
    assert tool_calls_in('<tool_call>{"name": "run", "arguments": {"code": "a\nb"}</tool_call>')[1] == (
        {"name": "run", "arguments": {"code": "a\nb"}},
    )
    assert tool_calls_in('[TOOL_CALLS]run[CALL_ID]abc123[ARGS]{"code": "1"}')[1][0].get("id") == "abc123"
    for broken in ("NaN", '"\\ud800"', '"' + "\\" + '"', "[" * 3000):
        answer = f'<tool_call>{{"name": "run", "arguments": {{"code": {broken}}}}}</tool_call>'
        assert tool_calls_in(answer, TOOLS) == (answer, ())


def test_bare_json_is_a_call_of_what_is_known_and_else_told_at_once() -> None:
    answer = '{"name": "weather", "parameters": {"city": "Rome"}}'
    assert tool_calls_in(answer, TOOLS)[1] == ({"name": "weather", "arguments": {"city": "Rome"}},)
    for text, tools in ((answer, ()), (f"It is {answer}", TOOLS), (answer.replace("weather", "Ada"), TOOLS)):
        assert tool_calls_in(text, tools) == (text, ())
    reader = CallReader(TOOLS)
    assert reader.feed('{"city') == []
    assert reader.feed('": ') == ['{"city":']
    assert tool_calls_in(answer, TOOLS, ("hermes",)) == (answer, ())


@given(calls=CALLS)
def test_what_hermes_writes_is_read_back(calls: list[ToolCall]) -> None:
    calls[0]["id"] = "call_1"
    assert tool_calls_in(hermes(calls))[1] == tuple(calls)
    tagless = hermes(calls, tagless=True)
    assert tool_calls_in(tagless)[1] == tuple(calls)
    assert tagless.count("<") == 2 * len(calls)


@pytest.mark.parametrize("way", WAYS)
def test_long_arguments_come_token_by_token_in_no_time(way: str) -> None:
    calls = [ToolCall(name="run", arguments={"code": "x = {1: '<'}\n" * 3000})]
    text = WAYS[way](calls, DUMPS["plain"])
    start = time.process_time()
    told, _ = read([text[at : at + 3] for at in range(0, len(text), 3)])
    assert told == calls
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("tools", "choice", "why"),
    [
        ([{"function": {}}], "auto", "needs a name"),
        (["x"], "auto", r"tools\[0\] must be"),
        ([tool("a b")], "auto", "needs a name"),
        ([{"function": {"name": "f", "parameters": "x"}}], "auto", "must be a JSON schema"),
        ([tool("f"), tool("f")], "auto", "same name: f"),
        ([tool("f")], "g", "none of auto, none, required, f"),
        ([], "required", "there are no tools"),
    ],
)
def test_descriptions_that_are_none(tools: Any, choice: str, why: str) -> None:
    check_tools(TOOLS, "weather")
    with pytest.raises(UserError, match=why) as caught:
        check_tools(tools, choice)
    assert "\n" not in str(caught.value)


def test_the_formats_are_those_that_are_named() -> None:
    assert {way.split(",")[0].split(" ")[0] for way in WAYS} | {"qwen_xml"} == set(FORMATS)
