"""Do the arguments of a call fulfil the tool's schema?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def misfit(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What is wrong with arguments, by their schema; "" for nothing. No schema leads to another place: a `$ref` that is
    not in the schema itself is never fetched."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    try:
        found = list(Draft202012Validator(dict(schema), registry=Registry()).iter_errors(dict(arguments)))
    except Exception as error:  # the schema is at fault, in any of many ways
        return f"its schema cannot be used ({type(error).__name__}), so it cannot be called"
    if not found:
        return ""
    first = min(found, key=lambda error: list(map(str, error.path)))
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first.path).lstrip(".")
    properties = schema.get("properties")
    taken = ", ".join(properties) if isinstance(properties, Mapping) and properties else "none"
    return f"{where + ': ' if where else ''}{_short(first.message)}; it takes: {taken}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "…"
