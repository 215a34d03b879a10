"""A typed Python function as a tool: its schema from the signature, its description from the docstring.

def weather(city: str, days: Annotated[int, "at most 14"] = 1) -> str:
    \"""The weather forecast of a city.

    city: its name, in English
    \"""

tool_of(weather)
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from thinksmith.agent.contract import Intent, Kind, Result, Tool
from thinksmith.agent.tools.docstring import described
from thinksmith.agent.tools.given import result_of
from thinksmith.agent.tools.threads import guarded, in_thread
from thinksmith.errors import UserError, one_line

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}
_DEEPEST = 16  # levels of a type: a dataclass that holds itself has no end
_TAKEN = "str, int, float, bool, list, dict[str, …], Literal, … | None, a dataclass or a TypedDict"


class _Unsupported(Exception):
    """An annotation that is no type of JSON; the message says which."""


def tool_of(
    function: Callable[..., Any],
    *,
    kind: Kind = "read",
    name: str = "",
    description: str = "",
    group: str = "",
    seconds: float = 30.0,
    repeatable: bool = False,
    fence: str = "",
) -> Tool:
    """The function as a tool; a plain one runs in a thread of its own, an `async` one in the event loop.

    Arguments are checked by the schema (whoever calls a tool does that) and given as they are; but dataclasses are made
    of their objects, and 3.0 is 3 where an int is wanted. Text is given as it is, bytes are decoded, what else comes is
    written as JSON. Raises UserError for a name that no model may use and for an annotation that JSON has no type for.
    """
    called = name or getattr(function, "__name__", "")
    if not NAME.fullmatch(called):
        raise UserError(f"a tool's name has letters, digits, _ and -, at most 64: give {called!r} another one")
    hints, parameters = _signature(function, called)
    about, told = described(inspect.getdoc(function) or "", parameters)
    schema = _object(called, parameters, hints, told)
    positional = [key for key, each in parameters.items() if each.kind is each.POSITIONAL_ONLY]

    async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        named = {key: _built(value, hints[key]) for key, value in arguments.items()}
        first = [named.pop(key) for key in positional if key in named]
        if not _is_async(function):
            return await in_thread(lambda: result_of(function(*first, **named)))
        value = await guarded(function(*first, **named))
        return result_of(value) if isinstance(value, str) else await in_thread(result_of, value)

    return Tool(
        name=called,
        description=description or about or called.replace("_", " "),
        parameters=schema,
        call=call,
        kind=kind,
        group=group or called,
        seconds=seconds,
        repeatable=repeatable,
        fence=fence,
    )


def _is_async(function: Callable[..., Any]) -> bool:
    inner = function.func if isinstance(function, functools.partial) else function
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004


# --- the schema


def _signature(function: Callable[..., Any], called: str) -> tuple[dict[str, Any], dict[str, inspect.Parameter]]:
    """(type of each parameter, parameters). Annotations that are text are read where the function was written."""
    try:
        parameters = dict(inspect.signature(function).parameters)
        inner = function.func if isinstance(function, functools.partial) else function
        typed = inner if inspect.isroutine(inner) else type(inner).__call__
        hints = get_type_hints(typed, include_extras=True)
    except (NameError, TypeError, ValueError, AttributeError, SyntaxError) as error:
        raise UserError(f"cannot read the signature of {called}: {one_line(error)}") from error
    for key, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"{called}: a tool's arguments have names, so {parameter} cannot be one of them")
        if key not in hints:
            raise UserError(f"{called}: its parameter {key} needs a type, such as `{key}: str`")
    return hints, parameters


def _object(
    called: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], told: Mapping[str, str]
) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for key, parameter in parameters.items():
        try:
            schema = _schema(hints[key])
        except _Unsupported as error:
            raise UserError(f"{called}: its parameter {key} is {error}; a tool takes {_TAKEN}") from None
        if key in told:
            schema = {**schema, "description": told[key]}
        if parameter.default is not parameter.empty and _is_json(parameter.default):
            schema = {**schema, "default": parameter.default}
        properties[key] = schema
    required = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    return _closed(properties, required)


def _closed(properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """An object that has these properties and no others."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    return {**schema, "additionalProperties": False}


def _schema(hint: Any, depth: int = 0) -> dict[str, Any]:
    """The JSON schema of a type. Raises _Unsupported."""
    if depth > _DEEPEST:
        raise _Unsupported("a type that holds itself")
    origin, args = get_origin(hint), get_args(hint)
    deeper = depth + 1
    if _is_plain(hint):
        return dict(_PLAIN[hint])
    if origin is Annotated:
        texts = [each for each in hint.__metadata__ if isinstance(each, str)]
        inner = _schema(args[0], deeper)
        return {**inner, "description": " ".join(texts)} if texts else inner
    if origin in (Required, NotRequired):
        return _schema(args[0], deeper)
    if origin is Literal:
        return _choice(args)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(each, deeper) for each in args]}
    if hint is list or origin in (list, Sequence):
        return {"type": "array", "items": _schema(args[0], deeper)} if args else {"type": "array"}
    if hint is dict or origin in (dict, Mapping):
        if args and args[0] is not str:
            raise _Unsupported(f"{_shown(hint)}, and an object's keys are text")
        return {"type": "object", "additionalProperties": _schema(args[1], deeper)} if args else {"type": "object"}
    if _is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        properties = {key: _schema(each, deeper) for key, each in hints.items()}
        return _closed(properties, [key for key in hints if _is_required(key, hints[key], hint)])
    if _is_dataclass(hint):
        return _dataclass(hint, deeper)
    raise _Unsupported(_shown(hint))


def _is_required(key: str, hint: Any, kind: Any) -> bool:
    """Of a TypedDict, which does not see through annotations that are text (python/cpython#97727)."""
    return get_origin(hint) is Required or (key in kind.__required_keys__ and get_origin(hint) is not NotRequired)


def _dataclass(kind: type, depth: int) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    needed = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return _closed({field.name: _schema(hints[field.name], depth) for field in fields}, needed)


def _choice(values: Sequence[Any]) -> dict[str, Any]:
    if not all(value is None or isinstance(value, str | int | bool) for value in values):
        raise _Unsupported(f"a Literal of {values!r}")
    if all(isinstance(value, str) for value in values):
        return {"type": "string", "enum": list(values)}
    return {"enum": list(values)}


def _is_plain(hint: Any) -> bool:
    try:
        return hint in _PLAIN
    except TypeError:  # no hash
        return False


def _is_json(value: Any) -> bool:
    try:
        return len(json.dumps(value)) < 1000
    except (TypeError, ValueError, RecursionError):
        return False


def _shown(hint: Any) -> str:
    return (hint.__qualname__ if isinstance(hint, type) else str(hint))[:100]


# --- the arguments


def _built(value: Any, hint: Any) -> Any:
    """A value that fulfils the schema of `hint`, as the function wants it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Annotated, Required, NotRequired):
        return _built(value, args[0])
    if hint is int and isinstance(value, float):
        return int(value)
    if origin in (Union, types.UnionType):
        return next((_built(value, each) for each in args if _may_be(value, each)), value)
    if args and isinstance(value, list) and origin in (list, Sequence):
        return [_built(each, args[0]) for each in value]
    if args and isinstance(value, dict) and origin in (dict, Mapping):
        return {key: _built(each, args[1]) for key, each in value.items()}
    if isinstance(value, dict) and (_is_typeddict(hint) or _is_dataclass(hint)):
        hints = get_type_hints(hint, include_extras=True)
        fields = {key: _built(each, hints[key]) for key, each in value.items()}
        return hint(**fields)
    return value


def _is_typeddict(hint: Any) -> bool:
    """Also of typing_extensions."""
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__required_keys__")


def _is_dataclass(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _may_be(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, for the members of a union."""
    from jsonschema import Draft202012Validator

    return bool(Draft202012Validator(_schema(hint)).is_valid(value))
