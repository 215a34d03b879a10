"""Answers by a schema, and calls that must be made: whole, exact, and nobody else's affair."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import cache
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thinksmith.engines import open_engine
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.engines.local.guide import Guide, Plan
from thinksmith.engines.local.sampler import row_key, uniform
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.policy.tools import tool_calls_in
from thinksmith.records import Message, Request, Sampling, Trace
from thinksmith.thinking import split

llguidance = pytest.importorskip("llguidance")

SCHEMA = {
    "type": "object",
    "properties": {
        "sum": {"type": "integer", "maximum": 999},
        "sure": {"type": "boolean"},
        "why": {"enum": ["a", "no idea"]},
    },
    "required": ["sum", "sure"],
    "additionalProperties": False,
}
TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"days": {"$ref": "#/$defs/small"}, "wet": {"type": "boolean"}},
                "required": ["days"],
                "$defs": {"small": {"type": "integer", "minimum": 1, "maximum": 7}},
            },
        },
    },
    {"type": "function", "function": {"name": "stop_all", "description": "ends"}},
)


@cache
def tiny(native: bool = True) -> LocalEngine:
    engine = open_engine("tiny", slots=16, native=native)
    assert isinstance(engine, LocalEngine)
    return engine


@pytest.fixture(scope="module", params=[True, False], ids=["native", "transformers"])
def engines(request, checkpoints):
    found = {
        kind: LocalEngine(load_policy(str(path), device="cpu"), slots=8, native=request.param)
        for kind, path in checkpoints.items()
    }
    return found | {"tiny": tiny(request.param)}


def ask(
    number: int = 3,
    *,
    n: int = 1,
    prefill: str = "",
    first: int = 0,
    tools: Any = (),
    choice: str = "auto",
    schema: Any = None,
    **sampling: Any,
) -> Request:
    sampling = {"temperature": 1.0, "max_tokens": 90, "seed": number, "max_thinking_tokens": 8} | sampling
    messages = (Message(role="user", content=f"What is {number} * 34?"),)
    return Request(
        messages,
        prefill=prefill,
        n=n,
        first=first,
        sampling=Sampling(**sampling),
        tools=tools,
        tool_choice=choice,
        schema=schema,
    )


def is_whole(trace: Trace, schema: Any) -> None:
    assert trace.finish in ("stop", "length"), trace.error
    if trace.finish == "stop":
        jsonschema.validate(json.loads(trace.answer), schema)


# --- any schema

NAMES = st.sampled_from(["a", "b_c", "Größe", "x y", "</think>"])
SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "integer", "minimum": -5, "maximum": 50},
            {"type": "boolean"},
            {"type": "null"},
            {"type": "string", "maxLength": 4},
            {"type": "string", "pattern": "^[a-c]{1,3}$"},
            {"enum": [1, "two", None, [3]]},
            {"const": {"k": "é"}},
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "format": "date"},
            {"type": ["integer", "null"], "minimum": 0, "maximum": 9},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(lambda items, most: {"type": "array", "items": items, "maxItems": most}, inner, st.integers(1, 2)),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
        st.builds(
            lambda properties, count: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[:count],
                "additionalProperties": False,
            },
            st.dictionaries(NAMES, inner, max_size=3),
            st.integers(0, 3),
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS, seed=st.integers(0, 999), kind=st.sampled_from(["Qwen2", "Qwen3", "Llama", "tiny"]))
def test_a_whole_answer_fulfils_any_schema(engines, schema, seed, kind):
    for trace in engines[kind].sample_all([ask(seed, n=2, schema=schema, max_thinking_tokens=4, max_tokens=70)])[0]:
        is_whole(trace, schema)
        assert trace.thinking_status == "closed"


def test_answers_are_whole_where_there_is_room(engines):
    """And not only those that validate because they were cut: a bounded schema ends by itself."""
    for kind in ("tiny", "Qwen3"):
        traces = engines[kind].sample_all([ask(5, n=4, schema=SCHEMA, max_tokens=150)])[0]
        assert [trace.finish for trace in traces] == ["stop"] * 4
        assert len({trace.answer for trace in traces}) > 1
        for trace in traces:
            is_whole(trace, SCHEMA)


def test_any_object_and_what_is_cut_says_length():
    traces = tiny().sample_all([ask(1, n=6, schema={}, max_tokens=60)])[0]
    for trace in traces:
        assert trace.answer.lstrip().startswith("{")
        is_whole(trace, {"type": "object"})
    (cut,) = tiny().sample_all([ask(1, schema=SCHEMA, max_tokens=32)])[0]
    assert cut.finish == "length"
    assert cut.answer


def test_a_name_that_reads_like_a_special_token_is_spelled(engines):
    schema = {
        "type": "object",
        "properties": {"</think>": {"type": "boolean"}},
        "required": ["</think>"],
        "additionalProperties": False,
    }
    for trace in engines["Qwen2"].sample_all([ask(1, n=2, schema=schema, max_tokens=60)])[0]:
        assert trace.finish == "stop"
        is_whole(trace, schema)


# --- against a plain reference


def allowed_by_text(policy: Policy, matcher: Any, tokenizer: Any, opened: str, tokens: list[int]) -> list[bool]:
    """Which tokens may come, by what the whole turn would then be: split as text, with its answer the beginning of one
    that the grammar has (or the turn at its end where it is whole). Asked of every token, one after the other."""
    vocabulary, found = tokenizer, []
    before = [vocabulary.decode_bytes([token]) for token in tokens]
    for token in range(policy.vocab_size):
        if token in policy.eos_ids:
            parts = split(opened + b"".join(before).decode(errors="ignore"), policy.tags)
            found.append(parts.status == "closed" and fits(matcher, tokenizer, parts.answer, whole=True))
            continue
        raw = b"".join([*before, vocabulary.decode_bytes([token])])
        text = opened + raw.decode(errors="ignore")
        held = len(raw) - len(raw.decode(errors="ignore").encode())
        parts = split(text, policy.tags)
        ok = parts.status == "truncated" or (
            not held and not vocabulary.is_special_token(token) and fits(matcher, tokenizer, parts.answer)
        )
        found.append(ok or (parts.status == "closed" and token in policy.encode(policy.tags.end)))
    return found


def fits(matcher: Any, tokenizer: Any, answer: str, whole: bool = False) -> bool:
    tokens = tokenizer.greedy_tokenize(answer)
    fresh = matcher.deep_copy()
    return fresh.validate_tokens(tokens) == len(tokens) and (
        not whole or (fresh.consume_tokens(tokens) and fresh.is_accepting())
    )


def test_each_token_is_what_sampling_from_masked_logits_gives(engines):
    """The draw itself by its definition: softmax of the training forward's logits over what may come, inverse of the
    cumulative distribution at the uniform number of (seed, sample, position)."""
    for kind in ("tiny", "Qwen2"):
        engine = engines[kind]
        policy = engine._policy
        request = ask(7, n=2, schema=SCHEMA, max_thinking_tokens=4, max_tokens=45)
        for number, trace in enumerate(engine.sample_all([request])[0]):
            plan = engine._plan(ask(7, schema=SCHEMA), trace.opened)
            ids = torch.tensor([trace.prompt_ids + trace.token_ids])
            with torch.no_grad():
                logits = policy.model(ids).logits[0].double()
            at_least_one = 0
            for at, token in enumerate(trace.token_ids):
                logits_V = logits[trace.prompt_tokens - 1 + at].clone()
                assert abs(logits_V.log_softmax(-1)[token] - trace.logprobs[at]) < 1e-4  # unfiltered
                if at in trace.forced or at < trace.thinking_tokens:
                    continue
                at_least_one += 1
                mask = torch.tensor(mask_behind(policy, plan, trace.token_ids[trace.thinking_tokens : at]))
                probabilities = logits_V.masked_fill(~mask, -torch.inf).softmax(-1).cumsum(-1)
                key = torch.tensor([row_key(7, number)])
                aim = uniform(key, torch.tensor([at])).double()
                low = probabilities[token - 1] if token else 0.0
                assert low - 1e-5 <= aim <= probabilities[token] + 1e-5
            assert at_least_one > 5


def mask_behind(policy: Policy, plan: Plan, tokens: Any) -> list[bool]:
    """What a new parser allows behind these tokens of the answer."""
    matcher = plan.grammars.matcher(ask(schema=SCHEMA), True).deep_copy()
    assert matcher.consume_tokens(list(tokens))
    bits = matcher.compute_bitmask()
    return [bool(bits[token // 8] >> token % 8 & 1) for token in range(policy.vocab_size)]


ALPHABET = [
    "<",
    "/",
    "think",
    ">",
    "</think>",
    "<think>",
    '"',
    "'",
    "`",
    "\n",
    "\n\n",
    " ",
    "{",
    "}",
    "sum",
    ":",
    "1",
    "ab",
]


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(thought=st.lists(st.sampled_from(ALPHABET), max_size=7))
def test_what_may_come_in_a_thinking_is_what_leaves_an_answer_possible(thought):
    """Also where its end tag comes in pieces, in quotes, or with more in the same token."""
    engine = tiny()
    policy = engine._policy
    plan = engine._plan(ask(schema=SCHEMA), "<think>\n")
    matcher, tokenizer = plan.grammars.matcher(ask(schema=SCHEMA), False), plan.grammars.tokenizer
    guide, tokens = Guide(plan), []
    for token in [token for text in thought for token in policy.encode(text)]:
        expected = allowed_by_text(policy, matcher, tokenizer, "<think>\n", tokens)
        assert may(guide, policy) == expected or undecided(guide)
        if not expected[token]:
            return
        guide.after(token)
        tokens.append(token)
        assert not guide.error
        if not guide.thinks:
            return


def may(guide: Guide, policy: Policy) -> list[bool]:
    bits = guide.allow()
    if bits is None:
        banned = {*guide.ban(), *policy.eos_ids}
        return [token not in banned for token in range(policy.vocab_size)]
    return [bool(bits[token // 32] >> token % 32 & 1) for token in range(policy.vocab_size)]


def undecided(guide: Guide) -> bool:
    """Behind a tag in an opening quote: `split` calls it the end, whatever will come. Only that is left out here."""
    return guide._splitter.held == guide._tags.end


def test_a_tag_in_quotes_is_followed_by_the_quote_or_by_an_answer():
    engine = tiny()
    policy, plan = engine._policy, engine._plan(ask(schema=SCHEMA), "<think>\n")
    guide = Guide(plan)
    for token in policy.encode('say "</think>'):
        guide.after(token)
    starts = {plan.grammars.vocabulary.bytes[at][:1] for at, ok in enumerate(may(guide, policy)) if ok}
    assert starts == {b'"', b"{", b"\n"}
    for rest, state in (('" on', None), ('{"sum": 1, "sure": true}', True)):
        other = Guide(plan)
        for token in (*policy.encode('say "</think>'), *policy.encode(rest)):
            other.after(token)
        assert not other.error
        assert (other.allow() is None) == (state is None)


def test_without_a_thinking_no_tag_comes_into_the_answer(tokenizer, checkpoints):
    """Where the template opens none, an end tag in a text would make all before it a thinking."""
    policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}A: "
    engine = LocalEngine(policy, slots=16)
    schema = {"type": "string", "maxLength": 30}
    for trace in engine.sample_all([ask(2, n=6, schema=schema, max_tokens=40)])[0]:
        assert trace.thinking_status == "none"
        assert trace.answer == trace.completion
        is_whole(trace, schema)
    guide = Guide(engine._plan(ask(schema=schema), ""))
    for token in policy.encode('"</think'):
        guide.after(token)
    ok = may(guide, policy)
    assert not any(ok[token] for token in guide._vocabulary.starting(b">"))
    assert ok[policy.encode("a")[0]]


def test_a_model_that_opens_its_thinking_itself_may_and_may_not(checkpoints):
    policy = load_policy(str(checkpoints["Qwen3"]), device="cpu")
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}A: {# <think> </think> #}"
    engine = LocalEngine(policy, slots=16)
    start = policy.encode("<think>")
    guide = Guide(engine._plan(ask(schema=SCHEMA), ""))
    ok = may(guide, policy)
    begins = {policy.decode([at]) for at, yes in enumerate(ok) if yes}
    assert start[0] in [at for at, yes in enumerate(ok) if yes]
    assert begins <= {"<think>", "<", "{"} | {b for b in begins if b.startswith("{")}
    for token in start:
        guide.after(token)
    assert guide.thinks
    assert guide.allow() is None
    spelled = Guide(engine._plan(ask(schema=SCHEMA), ""))
    for token in (policy.encode("<")[0], *policy.encode("th"), *policy.encode("ink")):
        assert may(spelled, policy)[token]
        spelled.after(token)
    spelled.after(policy.encode(">")[0])
    assert spelled.thinks
    for trace in engine.sample_all([ask(4, n=6, schema=SCHEMA, max_tokens=100)])[0]:
        is_whole(trace, SCHEMA)


# --- with all else that a request may ask for


def test_alone_among_others_streamed_and_by_number_the_same(engines):
    """Mixed with rows that have no law, which stay what they were."""
    engine = engines["Qwen2"]
    free = [ask(number, n=2, max_thinking_tokens=None, max_tokens=30) for number in range(3)]
    lawful = [
        ask(number, n=3, schema=SCHEMA, stop=("sure",) if number % 2 else (), top_k=20, max_tokens=90)
        for number in range(2)
    ]
    alone = [engine.sample_all([request])[0] for request in (*free, *lawful)]
    together = engine.sample_all([*free, *lawful])
    key = [[(t.token_ids, t.logprobs, t.finish) for t in traces] for traces in alone]
    assert key == [[(t.token_ids, t.logprobs, t.finish) for t in traces] for traces in together]
    third = engine.sample_all([replace(lawful[0], n=1, first=2)])[0][0]
    assert third.token_ids == alone[3][2].token_ids

    async def streamed() -> tuple[str, Trace]:
        deltas = [delta async for delta in engine.stream(replace(lawful[0], n=1, first=1))]
        return "".join(d.text for d in deltas if d.part == "answer"), deltas[-1].trace

    told, trace = asyncio.run(streamed())
    assert told == trace.answer
    assert trace.token_ids == alone[3][1].token_ids


def test_rows_that_begin_again_give_the_same(monkeypatch):
    from thinksmith.engines.local.batch import Batch
    from thinksmith.engines.local.rows import Row

    requests = [ask(number, n=4, schema=SCHEMA, max_tokens=70) for number in range(3)]
    before = [[t.token_ids for t in traces] for traces in tiny().sample_all(requests)]
    restarts = []
    original = Row.restart
    monkeypatch.setattr(Row, "restart", lambda row: (restarts.append(row), original(row)))
    monkeypatch.setattr(Batch, "_budget", lambda self: 16)
    monkeypatch.setattr(Batch, "_foreseen", lambda self, row: 1)
    small = open_engine("tiny", slots=16)
    assert [[t.token_ids for t in traces] for traces in small.sample_all(requests)] == before
    assert restarts


def test_a_prefill_may_begin_the_answer():
    traces = tiny().sample_all([ask(3, n=3, schema=SCHEMA, prefill='12.\n</think>\n\n{"sum": 4')])[0]
    for trace in traces:
        assert trace.answer.startswith('{"sum": 4')
        assert trace.thinking == "12."
        is_whole(trace, SCHEMA)
    with pytest.raises(UserError, match="cannot begin with 'Yes'"):
        tiny().sample_all([ask(3, schema=SCHEMA, prefill="12.\n</think>\n\nYes")])


def test_budgets_and_minima_hold_beside_the_grammar():
    (trace,) = tiny().sample_all([ask(3, schema=SCHEMA, max_thinking_tokens=0)])[0]
    assert trace.thinking == ""
    assert trace.forced[:1] == (0,)
    is_whole(trace, SCHEMA)
    for wait in ("Wait", ""):
        (trace,) = tiny().sample_all(
            [ask(3, schema=SCHEMA, min_thinking_tokens=60, max_thinking_tokens=80, wait=wait)]
        )[0]
        assert trace.thinking_tokens >= 60
        is_whole(trace, SCHEMA)


def test_greedy_penalties_and_the_likeliest_are_of_the_whole_vocabulary():
    for sampling in ({"temperature": 0.0}, {"repetition_penalty": 1.3, "min_p": 0.02}):
        (trace,) = tiny().sample_all([ask(6, schema=SCHEMA, top_logprobs=2, **sampling)])[0]
        is_whole(trace, SCHEMA)
        outside = [at for at, best in enumerate(trace.top_logprobs) if trace.token_ids[at] not in dict(best)]
        assert outside  # somewhere the grammar forbade the two likeliest, and they are told all the same
        assert all(best[0][1] > trace.logprobs[at] for at, best in enumerate(trace.top_logprobs) if at in outside)


# --- calls


def calls_of(trace: Trace) -> Any:
    text, calls = tool_calls_in(trace.answer, TOOLS)
    assert text == ""
    for call in calls:
        tool = next(t for t in TOOLS if t["function"]["name"] == call["name"])
        jsonschema.validate(
            call["arguments"], tool["function"].get("parameters", {"type": "object", "maxProperties": 0})
        )
    return calls


TEMPLATES = {
    "hermes": "",
    "mistral": "{# [TOOL_CALLS] #}",
    "mistral 11": "{# [TOOL_CALLS] [ARGS] #}",
    "deepseek r1": "{# <｜tool▁call▁begin｜> ```json #}",
    "deepseek 3.1": "{# <｜tool▁call▁begin｜> #}",
    "llama": "{# <|python_tag|> #}",
}


@pytest.mark.parametrize("way", TEMPLATES)
def test_a_call_that_must_be_made_is_made_in_the_templates_way(checkpoints, way):
    policy = load_policy(str(checkpoints["Qwen3"]), device="cpu")
    policy.tokenizer.chat_template += TEMPLATES[way] + "{# tools: it has them and shows none, they are long #}"
    engine = LocalEngine(policy, slots=16)
    requests = [ask(1, n=3, tools=TOOLS, choice=choice, max_tokens=220) for choice in ("required", "weather")]
    for request, traces in zip(requests, engine.sample_all(requests), strict=True):
        whole = [calls_of(trace) for trace in traces if trace.finish == "stop"]
        assert whole or request.tool_choice == "required"
        assert all(whole)
        if request.tool_choice != "required":
            assert {call["name"] for calls in whole for call in calls} == {request.tool_choice}
            assert all(len(calls) == 1 for calls in whole)
    marks = {"hermes": "<tool_call>", "llama": '"parameters"', "mistral 11": "[ARGS]"}
    assert marks.get(way, "") in engine.sample_all([requests[1]])[0][0].answer


def test_a_schema_beside_tools_leaves_both_open():
    plan = tiny()._plan(ask(schema=SCHEMA, tools=TOOLS), "<think>\n\n</think>\n\n")
    policy = tiny()._policy
    starts = {plan.grammars.vocabulary.bytes[at][:1] for at, ok in enumerate(may(Guide(plan), policy)) if ok}
    assert starts == {b"{", b"<"}
    plan = tiny()._plan(ask(schema=SCHEMA, tools=TOOLS, choice="none"), "<think>\n\n</think>\n\n")
    starts = {plan.grammars.vocabulary.bytes[at][:1] for at, ok in enumerate(may(Guide(plan), policy)) if ok}
    assert starts == {b"{"}


def test_tools_are_shown_unless_nobody_may_call_them():
    (shown, hidden, plain) = (
        tiny().sample_all([ask(tools=TOOLS if choice else (), choice=choice or "auto", max_tokens=1)])[0][0]
        for choice in ("auto", "none", "")
    )
    assert '"weather"' in tiny().decode(shown.prompt_ids)
    assert hidden.prompt_ids == plain.prompt_ids


# --- what cannot be


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (ask(schema={"type": "foo"}), "cannot follow this schema: failed to compile JSON schema: Invalid type: foo"),
        (ask(schema={"enum": []}), "Unsatisfiable"),
        (ask(schema={"$ref": "https://a.b/c"}), "cannot follow this schema"),
        (ask(schema={"type": "string", "pattern": "(?=a)b"}), "look-around"),
        (ask(schema={"minimum": float("nan")}), "no JSON"),
        (ask(schema={"const": object()}), "no JSON"),
        (ask(tools=TOOLS, choice="nobody"), "none of auto, none, required, weather, stop_all"),
        (ask(choice="required"), "there are no tools"),
        (ask(first=-1), "first at least 0"),
    ],
)
def test_a_mistake_is_one_line(request_, why):
    for run in (lambda: tiny().sample_all([request_]), lambda: asyncio.run(tiny().sample(request_))):
        with pytest.raises(UserError, match=why) as caught:
            run()
        assert "\n" not in str(caught.value)


def test_a_schema_without_end_is_refused_and_harms_nobody():
    deep: Any = {}
    for _ in range(3000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(UserError):
        tiny().sample_all([ask(schema=deep)])
    assert tiny().sample_all([ask(schema=SCHEMA)])[0][0].finish == "stop"


def test_rows_without_a_law_never_ask_for_one(monkeypatch):
    monkeypatch.setattr(Plan, "check", lambda self: pytest.fail("a plan for a request without a law"))
    monkeypatch.setattr(Guide, "allow", lambda self: pytest.fail("a mask for a row without a law"))
    assert tiny().sample_all([ask(tools=TOOLS)])[0][0].finish in ("stop", "length")


# --- the prompt's own log-probabilities, and numbers of samples


def test_a_texts_own_logprobs_are_those_of_its_sampling():
    engine = tiny()
    (trace,) = engine.sample_all([ask(9, max_tokens=30, max_thinking_tokens=None, top_logprobs=3)])[0]
    ids = trace.prompt_ids + trace.token_ids

    async def beside() -> Any:
        running = asyncio.ensure_future(engine.sample(ask(2, n=8, max_tokens=60)))
        found = await engine.prompt_logprobs(ids, 3)
        await running
        return found

    told = asyncio.run(beside())
    assert told.logprobs[0] is None
    assert told.top[0] is None
    assert len(told.logprobs) == len(ids)
    for at, logprob in enumerate(trace.logprobs):
        assert told.logprobs[trace.prompt_tokens + at] == pytest.approx(logprob, abs=1e-4)
        for (mine, value), (theirs, other) in zip(
            told.top[trace.prompt_tokens + at], trace.top_logprobs[at], strict=True
        ):
            assert mine == theirs
            assert value == pytest.approx(other, abs=1e-4)
    for ids, why in (((), "needs ids"), ((10**6,), "needs ids"), ((5,) * 10**5, "the context ends at")):
        with pytest.raises(UserError, match=why):
            asyncio.run(engine.prompt_logprobs(ids))
    assert asyncio.run(engine.prompt_logprobs((5,))).logprobs == (None,)


def test_sample_i_is_the_same_among_n_and_alone():
    request = ask(8, n=4, max_tokens=20)
    together = tiny().sample_all([request])[0]
    for number, trace in enumerate(together):
        assert tiny().sample_all([replace(request, n=1, first=number)])[0][0].token_ids == trace.token_ids
