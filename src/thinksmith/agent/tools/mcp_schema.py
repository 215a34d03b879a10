"""What a stranger's server says about its tools, made harmless: names, descriptions, and schemas of bounded cost.

A schema is rebuilt from the keywords below and nothing else. Left out, since they could hold up whoever checks a call
or say nothing to a model: `pattern` and `format` (regular expressions without end), `$ref` beyond the document, and
recursion (what refers to itself holds anything from the second time on), `allOf`, `if`, `not`. The server checks its
arguments itself; what is checked here is for the model's sake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from thinksmith.agent.observing import clean, harmless

LONGEST_NAME = 60  # OpenAI takes 64; a number may follow where two servers have one name
_NODES = 500  # sub-schemas in all
_DEEP = 12
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_PROPERTY = re.compile(r"[\w.$:@/+ -]{1,100}")
_MADE_UP = {"type": "object", "properties": {}, "additionalProperties": True}


class Unusable(Exception):
    """A schema that is none, in a few words."""


def described(text: str | None, longest: int = 1_000) -> str:
    """A stranger's words as one line of bounded length, with nothing that a template could take for its own."""
    line = " ".join(harmless(clean((text or "")[: 4 * longest])).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def tool_name(server: str, name: str, taken: frozenset[str]) -> str:
    """SERVER_TOOL of letters, digits, `_` and `-`, at most 60 long, and not among those `taken`."""
    made = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{server}_{name}").strip("_")[:LONGEST_NAME] or "tool"
    number, unique = 1, made
    while unique in taken:
        number += 1
        unique = f"{made[: LONGEST_NAME - len(str(number)) - 1]}_{number}"
    return unique


def usable(schema: object) -> tuple[dict[str, Any], str]:
    """The schema as far as it can be used, and why not; then any object will do, and the server is the judge."""
    try:
        return _Rebuilding(schema).root(), ""
    except Unusable as fault:
        return dict(_MADE_UP), str(fault)


class _Rebuilding:
    """One schema on its way. `_left`: sub-schemas that it may still have."""

    def __init__(self, schema: object) -> None:
        self._document, self._left = schema, _NODES

    def root(self) -> dict[str, Any]:
        made = self._made(self._document, 0, ())
        if made.get("type") != "object":
            raise Unusable("it is not of an object")
        open_ended = "properties" not in made
        return {"properties": {}, "additionalProperties": open_ended} | made

    def _made(self, schema: object, depth: int, within: tuple[str, ...]) -> dict[str, Any]:
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            raise Unusable(f"{type(schema).__name__} instead of a schema")
        self._left -= 1
        if self._left < 0 or depth > _DEEP:
            raise Unusable("it is too large")
        if "$ref" in schema:
            return self._referred(schema["$ref"], depth, within)
        made: dict[str, Any] = {}
        if "type" in schema:
            made["type"] = _type(schema["type"])
        if isinstance(schema.get("description"), str):
            made["description"] = described(schema["description"], 300)
        self._values(schema, made)
        self._parts(schema, made, depth, within)
        return made

    def _referred(self, ref: object, depth: int, within: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise Unusable("it refers to something elsewhere")
        if ref in within:
            return {}
        found: object = self._document
        for step in ref.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or step not in found:
                raise Unusable(f"it refers to {ref[:60]!r}, which is not there")
            found = found[step]
        return self._made(found, depth + 1, (*within, ref))

    def _values(self, schema: Mapping[str, Any], made: dict[str, Any]) -> None:
        choices = [schema["const"]] if "const" in schema else schema.get("enum")
        if choices is not None:
            if not isinstance(choices, list) or not choices:
                raise Unusable("its enum is no list")
            if len(choices) <= 200 and all(_scalar(each) for each in choices):
                made["enum"] = choices
        for key in (*_COUNTS, *_BOUNDS):
            if key in schema:
                if isinstance(schema[key], bool) or not isinstance(schema[key], int | float):
                    raise Unusable(f"its {key} is no number")
                if key in _BOUNDS or (isinstance(schema[key], int) and schema[key] >= 0):
                    made[key] = schema[key]

    def _parts(self, schema: Mapping[str, Any], made: dict[str, Any], depth: int, within: tuple[str, ...]) -> None:
        properties = schema.get("properties")
        if properties is not None:
            if not isinstance(properties, Mapping) or not all(_PROPERTY.fullmatch(str(name)) for name in properties):
                raise Unusable("its properties have no names that can be used")
            made["properties"] = {name: self._made(part, depth + 1, within) for name, part in properties.items()}
            made["additionalProperties"] = schema.get("additionalProperties") is True or "patternProperties" in schema
        required = schema.get("required")
        if required is not None:
            if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
                raise Unusable("its required is no list of names")
            made["required"] = [name for name in dict.fromkeys(required) if name in made.get("properties", {})]
        if isinstance(schema.get("items"), Mapping):
            made["items"] = self._made(schema["items"], depth + 1, within)
        choices = schema.get("anyOf", schema.get("oneOf"))
        if choices is not None:
            if not isinstance(choices, list) or not choices:
                raise Unusable("its anyOf is no list")
            made["anyOf"] = [self._made(each, depth + 1, within) for each in choices]


def _type(found: object) -> str | list[str]:
    if isinstance(found, str) and found in _TYPES:
        return found
    if isinstance(found, list) and found and all(each in _TYPES for each in found if isinstance(each, str)):
        kinds = [each for each in found if isinstance(each, str)]
        if len(kinds) == len(found):
            return list(dict.fromkeys(kinds))
    raise Unusable(f"its type is {described(str(found), 40)!r}")


def _scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 200)
