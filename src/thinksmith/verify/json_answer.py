"""Kind `json`: a JSON value that is equal to the gold answer, obeys a schema, or both.

The answer is the last fenced block, or the whole text. The gold answer, where there is one, is JSON; `meta["schema"]`,
where there is one, is a JSON Schema (draft 2020-12), as an object or as text. Decided on purpose:

- Numbers are equal by value (`1`, `1.0`, `1e0`), and true is not 1. The order of an object's keys does not count, that
  of a list's members does.
- Strictly JSON: no comments, no trailing commas, no NaN or Infinity, nothing behind the value. A key that comes twice
  is refused, since readers differ in which one they take; so is a number that no double can hold (`1e999`).
- At most 100,000 characters, 64 levels and 1,000 digits a whole number.
- A `$ref` is followed inside the schema and to the published meta-schemas, and never fetched.

Schemas hold patterns, so an answer may make one run for ever: schemas are applied in a worker.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from thinksmith.records import Problem
from thinksmith.verify import workers
from thinksmith.verify.extract import Extracted
from thinksmith.verify.fences import fenced
from thinksmith.verify.judgement import BadGold, Unreadable

MAX_TEXT = 100_000
"""Characters of an answer."""
MAX_DEPTH = 64
"""Lists and objects inside each other."""
MAX_DIGITS = 1_000
"""Digits of a whole number."""


def taken(_: Problem, text: str) -> Extracted | None:
    """The last fenced block of `text`, or all of it."""
    if blocks := fenced(text):
        return Extracted(blocks[-1][1].strip(), "fenced")
    return Extracted(text.strip(), "whole") if text.strip() else None


def check(problem: Problem) -> str | None:
    """Why the gold answer or the schema cannot be used, or None. Raises what a worker raises."""
    try:
        schema = _schema(problem)
        if problem.answer is not None:
            read(problem.answer)
    except Unreadable as error:
        return f"gold answer is no JSON: {error}"
    except BadGold as error:
        return str(error)
    if schema is None:
        return "there is neither a gold answer nor a schema in meta" if problem.answer is None else None
    return _schema_fault(schema)


def judge(problem: Problem, answer: str) -> str | None:
    """None if `answer` is as it should be, else where not. Raises BadGold, Unreadable and what a worker raises."""
    if fault := check(problem):
        raise BadGold(fault)
    value = read(answer)
    if problem.answer is not None and (difference := _difference(read(problem.answer), value, "")):
        return difference
    schema = _schema(problem)
    if schema is None:
        return None
    found = workers.call("thinksmith.verify.json_answer:violation", schema, value)
    return None if found is None else str(found)


def read(text: str) -> Any:
    """The value of a JSON text. Raises Unreadable for what is none, or is beyond what is read."""
    if len(text) > MAX_TEXT:
        raise Unreadable(f"longer than {MAX_TEXT:,} characters")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        raise Unreadable(f"that is no JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise Unreadable(f"nested deeper than {MAX_DEPTH} levels") from None
    if _deeper_than(value, MAX_DEPTH):
        raise Unreadable(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise Unreadable(f"the key {twice[:50]!r} comes twice")
    return made


def _constant(name: str) -> Any:
    raise Unreadable(f"{name} is no JSON number")


def _float(written: str) -> float:
    value = float(written)
    if not math.isfinite(value):
        raise Unreadable(f"the number {written[:30]} is too large")
    return value


def _whole(written: str) -> int:
    if len(written) > MAX_DIGITS:
        raise Unreadable(f"a number of more than {MAX_DIGITS:,} digits")
    return int(written)


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [inner for each in layer for inner in _members(each)]
    return any(isinstance(each, Mapping | list) for each in layer)


def _members(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _difference(gold: Any, value: Any, where: str) -> str | None:
    """None for equal values, else the first place where they differ. At most MAX_DEPTH levels deep."""
    place = where or "the value"
    if isinstance(gold, dict) and isinstance(value, dict):
        if gold.keys() != value.keys():
            missing, more = sorted(gold.keys() - value.keys()), sorted(value.keys() - gold.keys())
            return f"{place} lacks the key {missing[0]!r}" if missing else f"{place} has the key {more[0]!r} too many"
        pairs = [(f"{where}.{key}".lstrip("."), gold[key], value[key]) for key in gold]
    elif isinstance(gold, list) and isinstance(value, list):
        if len(gold) != len(value):
            return f"{place} has {len(value)} members, not {len(gold)}"
        pairs = [(f"{where}[{index}]", *both) for index, both in enumerate(zip(gold, value, strict=True))]
    else:
        return None if _same_kind(gold, value) and gold == value else f"{place} differs"
    return next((found for each in pairs if (found := _difference(each[1], each[2], each[0]))), None)


def _same_kind(a: Any, b: Any) -> bool:
    """Both numbers, or both of one other type; True is no number here."""
    kinds = [float if isinstance(each, int | float) and not isinstance(each, bool) else type(each) for each in (a, b)]
    return kinds[0] is kinds[1]


def _schema(problem: Problem) -> str | None:
    """The schema as canonical JSON, or None. Raises BadGold."""
    schema = problem.meta.get("schema")
    if schema is None:
        return None
    try:
        schema = read(schema) if isinstance(schema, str) else schema
        written = json.dumps(schema, sort_keys=True, allow_nan=False)
    except Unreadable as error:
        raise BadGold(f"the schema is no JSON: {error}") from None
    except (TypeError, ValueError, RecursionError):
        raise BadGold("the schema is no JSON") from None
    if not isinstance(schema, Mapping | bool):
        raise BadGold("the schema is no JSON object")
    return written


@lru_cache(256)
def _schema_fault(schema: str) -> str | None:
    found = workers.call("thinksmith.verify.json_answer:fault", schema)
    return None if found is None else str(found)


# The worker's side.


def warm() -> None:
    """Import what validation needs, and use it once, before a tripwire is armed."""
    fault("true")
    violation('{"$ref": "https://json-schema.org/draft/2020-12/schema"}', {"type": "object", "pattern": "a+"})


def fault(schema: str) -> str | None:
    """A worker's task: why `schema` (JSON) can never be applied, or None."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema_specifications import REGISTRY
    from referencing.jsonschema import DRAFT202012

    read_schema = json.loads(schema)
    try:
        Draft202012Validator.check_schema(read_schema)
        root = DRAFT202012.create_resource(read_schema)
        _follow(root, REGISTRY.resolver_with_root(root))
        each_type: tuple[Any, ...] = (None, True, 0, "", [], {})
        for value in each_type:
            any(_validator(schema).iter_errors(value))
    except RecursionError:
        return "the schema refers to itself without end"
    except SchemaError as error:
        return f"the schema is none: {error.message[:200]}"
    except Exception as error:  # a reference that leads nowhere, or what the library itself cannot do
        return f"the schema cannot be applied: {type(error).__name__}: {str(error)[:200]}"
    return None


def violation(schema: str, value: Any) -> str | None:
    """A worker's task: the first way in which `value` breaks `schema` (JSON), or None."""
    try:
        error = next(iter(_validator(schema).iter_errors(value)), None)
    except RecursionError:
        raise Unreadable("nested too deeply for the schema") from None
    if error is None:
        return None
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return f"{place.lstrip('.')[:80] or 'the value'} breaks the schema: {error.message[:150]}"


def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema_specifications import REGISTRY

    # A registry of our own: the library's default one fetches what it does not know.
    return Draft202012Validator(json.loads(schema), registry=REGISTRY)


def _follow(schema: Any, resolver: Any) -> None:
    """Follow every reference in a schema (a resource), so that none leads nowhere when an answer comes."""
    if isinstance(schema.contents, dict):
        for key in ("$ref", "$dynamicRef"):
            if key in schema.contents:
                resolver.lookup(schema.contents[key])
    for inner in schema.subresources():
        _follow(inner, resolver.in_subresource(inner))
