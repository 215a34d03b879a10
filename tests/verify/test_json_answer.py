"""Kind `json`: equality by value, schemas, and everything that is almost JSON."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.records import Problem, Trace
from thinksmith.verify import check_gold, verify
from thinksmith.verify.json_answer import read

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}


def verdict(text: str, gold: str | None = None, **meta: object):
    return verify(Problem("p", "?", gold, "json", meta), Trace("", text, "none"))


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ('{"a": 1, "b": [true, null]}', '{"b": [true, null], "a": 1.0}'),
        ("[1, 2]", " [1.0, 2e0]\n"),
        ("100", "1e2"),
        ('"ä"', '"\\u00e4"'),
        ("0", "-0.0"),
        ("9007199254740993", "9007199254740993"),
        ("{}", "Here it is:\n```json\n{}\n```\nGood luck!"),
        ("{}", "```\n[]\n```\nNo, rather:\n```\n{}"),
    ],
)
def test_equal(gold, answer):
    assert verdict(answer, gold).status == "correct"


@pytest.mark.parametrize(
    ("gold", "answer", "why"),
    [
        ('{"a": 1}', '{"a": 2}', "a differs"),
        ('{"a": {"b": [0, 1]}}', '{"a": {"b": [0, 2]}}', "a.b[1] differs"),
        ('{"a": 1}', "{}", "lacks the key 'a'"),
        ("{}", '{"a": 1}', "has the key 'a' too many"),
        ("[1, 2]", "[2, 1]", "[0] differs"),
        ("[1]", "[1, 1]", "2 members, not 1"),
        ("1", "true", "differs"),
        ("0", "false", "differs"),
        ("1", '"1"', "differs"),
        ("null", "0", "differs"),
        ("9007199254740993", "9007199254740992.0", "differs"),
    ],
)
def test_different_and_where(gold, answer, why):
    found = verdict(answer, gold)
    assert found.status == "wrong"
    assert why in found.reason


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 1}', "twice"),
        ("NaN", "NaN is no JSON"),
        ("[Infinity]", "Infinity"),
        ("1e999", "too large"),
        ("-1e999", "too large"),
        ("9" * 1_001, "digits"),
        ("[" * 65 + "]" * 65, "deeper"),
        ("[" * 50_000, "deeper"),
        ('{"a":' * 20_000, "deeper"),
        ("[" + "1," * 60_000 + "1]", "longer"),
        ("{'a': 1}", "no JSON"),
        ("[1,]", "no JSON"),
        ("{} {}", "no JSON"),
        ("// note\n{}", "no JSON"),
        ("{1: 2}", "no JSON"),
        ("\ufeff{}", "no JSON"),
        ("１", "no JSON"),
        ("\x00", "no JSON"),
    ],
)
def test_what_is_not_read_is_wrong_where_it_was_given_as_data(text, why):
    found = verdict(f"```json\n{text}\n```", "{}")
    assert found.status == "wrong"
    assert why in found.reason
    assert verdict(text, "{}").status == "no_answer"  # all there was, and it is no JSON


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"name": "Ann"}, None),
        ({"name": "Ann", "age": 7.0}, None),
        ({"name": "ann"}, "name breaks the schema"),
        ({"name": "Ann", "age": -1}, "age breaks the schema: -1 is less than the minimum of 0"),
        ({"name": "Ann", "age": 1.5}, "age breaks"),
        ({"age": 1}, "'name' is a required property"),
        ({"name": "Ann", "job": "pilot"}, "'job' was unexpected"),
        ([], "the value breaks"),
    ],
)
def test_schema(value, why):
    for schema in (PERSON, json.dumps(PERSON)):
        found = verdict(json.dumps(value), None, schema=schema)
        assert found.status == ("correct" if why is None else "wrong")
        assert (why or "") in found.reason


def test_schema_and_gold_must_both_agree():
    assert verdict('{"name": "Ann"}', '{"name": "Ann"}', schema=PERSON).status == "correct"
    assert verdict('{"name": "Eve"}', '{"name": "Ann"}', schema=PERSON).status == "wrong"
    assert check_gold(Problem("p", "?", '{"name": "ann"}', "json", {"schema": PERSON})) is None
    thorough = check_gold(Problem("p", "?", '{"name": "ann"}', "json", {"schema": PERSON}), thorough=True)
    assert "name breaks the schema" in thorough


@pytest.mark.parametrize(
    ("gold", "meta", "why"),
    [
        (None, {}, "neither a gold answer nor a schema"),
        ("{", {}, "no JSON"),
        ('{"a": 1, "a": 2}', {}, "twice"),
        (None, {"schema": 3}, "no JSON object"),
        (None, {"schema": "{"}, "the schema is no JSON"),
        (None, {"schema": {"type": "objekt"}}, "the schema is none"),
        (None, {"schema": {"pattern": "("}}, "the schema is none"),
        (None, {"schema": {"$ref": "#"}}, "refers to itself"),
        (None, {"schema": {"$ref": "#/$defs/x"}}, "cannot be applied"),
        (None, {"schema": {"properties": {"rare": {"$ref": "nowhere"}}}}, "cannot be applied"),
    ],
)
def test_gold_that_cannot_be_used(gold, meta, why):
    found = verdict("{}", gold, **meta)
    assert found.status == "bad_gold"
    assert why in found.reason


def test_a_remote_reference_is_never_fetched():
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]

        def listen() -> None:
            with contextlib.suppress(TimeoutError):
                asked.append(server.accept())

        listener = threading.Thread(target=listen)
        listener.start()
        found = verdict("{}", None, schema={"$ref": f"http://127.0.0.1:{port}/schema.json"})
        listener.join()
    assert found.status == "bad_gold"
    assert asked == []


def test_references_inside_the_schema_and_to_the_meta_schema_are_followed():
    nested = {
        "$id": "https://example.org/root",
        "$defs": {"part": {"$id": "part", "$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"}},
        "properties": {"n": {"$ref": "part"}},
    }
    assert verdict('{"n": 1}', None, schema=nested).status == "correct"
    assert verdict('{"n": "1"}', None, schema=nested).status == "wrong"
    meta = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    assert verdict('{"type": "object"}', None, schema=meta).status == "correct"
    assert verdict('{"type": "objekt"}', None, schema=meta).status == "wrong"


def test_a_schema_whose_pattern_runs_for_ever_ends_at_the_deadline():
    assert verdict(json.dumps("a" * 64), None, schema={"pattern": "^(a+)+$b"}).status == "timeout"


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@settings(deadline=None)
@given(values, values)
def test_equality_is_that_of_python_but_for_true_and_one(a, b):
    assert verdict(json.dumps(a, indent=1), json.dumps(a)).status == "correct"
    assert read(json.dumps(a)) == a
    if a != b:
        assert verdict(json.dumps(b), json.dumps(a)).status == "wrong"
