"""The words that schemas are written with: short functions for JSON Schema's phrases.

A field that may be left out may be null too, as OpenAI's clients mean it; so the plain names here allow null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

ANYTHING: Schema = {}
NAME: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": ["boolean", "null"]}
TEXT: Schema = {"type": ["string", "null"]}
MAYBE_TABLE: Schema = {"type": ["object", "null"]}


def whole(low: int | None = None, high: int | None = None, about: str = "") -> Schema:
    """A whole number, or null."""
    return _bounded({"type": ["integer", "null"]}, low, high, about)


def number(low: float | None = None, high: float | None = None, about: str = "") -> Schema:
    """A number, or null."""
    return _bounded({"type": ["number", "null"]}, low, high, about)


def _bounded(schema: Schema, low: float | None, high: float | None, about: str) -> Schema:
    if low is not None:
        schema["minimum"] = low
    if high is not None:
        schema["maximum"] = high
    return said(schema, about)


def said(schema: Mapping[str, Any], about: str) -> Schema:
    """With a description."""
    return {**schema, "description": about} if about else dict(schema)


def one_of(*values: Any, about: str = "") -> Schema:
    """One of these, or null."""
    return said({"enum": [*values, None]}, about)


def off(about: str = "refused where it is set: nothing here can do it") -> Schema:
    """A field that must not be set: what says nothing is passed over."""
    return {"enum": [None, False, 0, "", [], {}], "description": about}


def ignored(about: str = "passed over: it changes nothing of an answer") -> Schema:
    return {"description": about}


def array(of: Schema, low: int = 0, high: int | None = None) -> Schema:
    """An array, not null."""
    found: Schema = {"type": "array", "items": of}
    if low:
        found["minItems"] = low
    if high is not None:
        found["maxItems"] = high
    return found


def maybe(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def texts(most: int) -> Schema:
    """A text, an array of texts, or null; none empty."""
    return {"anyOf": [NAME, array(NAME, high=most), {"type": "null"}]}


def table(properties: Mapping[str, Schema], required: Sequence[str] = (), about: str = "") -> Schema:
    """An object; other fields than these may stand in it."""
    found: Schema = {"type": "object", "properties": dict(properties)}
    if required:
        found["required"] = list(required)
    return said(found, about)


def told(properties: Mapping[str, Schema], *optional: str) -> Schema:
    """An object of an answer: all fields are there but the `optional` ones, and no others."""
    needed = [name for name in properties if name not in optional]
    return {**table(properties, needed), "additionalProperties": False}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(schema: Schema) -> dict[str, Any]:
    """The content of a body of JSON."""
    return {"application/json": {"schema": schema}}
