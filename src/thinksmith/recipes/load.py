"""Reads recipes: TOML files that a pydantic model checks. A flag of the command line overrides a key of the file."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from thinksmith.errors import UserError

HERE = Path(__file__).parent
FOLDERS = ("distill/", "lessons/")
"""Of recipes for other commands than grpo; their names begin so."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
RecipeModel = TypeVar("RecipeModel", bound=BaseModel)


def find(name: str) -> Path:
    """A recipe by path, or by the name of one that ships with thinksmith. Raises UserError when there is neither."""
    for path in (Path(name), Path(name) / "recipe.toml", HERE / f"{name}.toml"):
        try:
            if path.is_file():
                return path
        except OSError as error:  # too long a name, or a folder that may not be looked into
            raise UserError(f"no recipe {name[:100]!r}: {error.strerror}") from None
    folder = next((each for each in FOLDERS if name.startswith(each)), "")
    shipped = ", ".join(sorted(f"{folder}{path.stem}" for path in (HERE / folder).glob("*.toml")))
    raise UserError(f"no recipe {name!r}: give a TOML file, a run folder, or one of: {shipped}")


def load(name: str, model: type[RecipeModel], overrides: Mapping[Any, Any] | None = None) -> RecipeModel:
    """The checked recipe. `overrides` maps keys, dotted (`training.lr`) or as their parts, to values; None values are
    ignored."""
    path = find(name)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    return checked(data, model, overrides, str(path))


def checked(
    data: dict[str, Any], model: type[RecipeModel], overrides: Mapping[Any, Any] | None = None, where: str = "the flags"
) -> RecipeModel:
    """The recipe of `data` and the flags, as `load` has it; `where` begins the line of a mistake."""
    for key, value in (overrides or {}).items():
        if value is not None:
            _set(data, key.split(".") if isinstance(key, str) else list(key), value)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error, model, data)}") from None


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            return  # the file has a value where a table belongs, as the model will say
    data[keys[-1]] = value


def _explain(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any]) -> str:
    """The first complaint as one line: with what the key's description says, or for an unknown key what was meant."""
    errors = error.errors()
    first = errors[0]
    places = [_place(one["loc"], data) if one["type"] != "missing" else one["loc"] for one in errors]
    where = ".".join(map(str, places[0]))
    tops = {place for place in places if not any(place[:depth] in places for depth in range(1, len(place)))}
    more = f" (and {len(tops) - 1} more)" if len(tops) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {where!r}; {_hint(model, first['loc'])}{more}"
    table = _table(model, first["loc"][:-1])
    field = table.model_fields.get(str(first["loc"][-1])) if table else None
    why = f": {field.description}" if field and field.description else ""
    return f"{where}: {first['msg']}, got {first['input']!r}{why}{more}"


def _place(where: tuple[int | str, ...], data: Any) -> tuple[int | str, ...]:
    """As far as it leads into the data: of a value that may be of several types, pydantic also names the type."""
    for depth, part in enumerate(where):
        if not (part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)):
            return where[:depth]
        data = data[part]
    return where


def _hint(model: type[BaseModel], where: tuple[int | str, ...]) -> str:
    """What was meant by an unknown key: one of its table, one of another table, or what other programs call so.

    For the last, a model class may have `names_elsewhere`, a function from such a name to a sentence or None.
    """
    name = str(where[-1])
    known = _keys(model, where[:-1])
    if told := getattr(model, "names_elsewhere", lambda name: None)(name):
        return str(told)
    tables: list[tuple[str, ...]] = [(), *((table,) for table in model.model_fields)]
    places = [".".join((*table, name)) for table in tables if name in _keys(model, table)]
    if places:
        return f"did you mean {places[0]!r}?"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys of the table at a path; none where there is no table."""
    table = _table(model, path)
    return list(table.model_fields) if table else []


def _table(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model of the table at a path; of a table of tables (`dict[str, Model]`) the name below it may be any."""
    found: Any = model
    for name in path:
        if get_origin(found) is dict:
            found = get_args(found)[1]
        elif isinstance(found, type) and issubclass(found, BaseModel) and str(name) in found.model_fields:
            found = found.model_fields[str(name)].annotation
            # A table that need not be there is `Table | None`.
            found = next((each for each in get_args(found) if _is_table(each)), found)
        else:
            return None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def to_toml(recipe: BaseModel) -> str:
    """The resolved recipe as TOML: every key with the value that was used."""
    data = recipe.model_dump(exclude_none=True)
    lines = [f"{_key(key)} = {_value(value)}" for key, value in data.items() if not isinstance(value, dict)]
    for key, table in data.items():
        if isinstance(table, dict):
            lines += ["", f"[{_key(key)}]", *(f"{_key(name)} = {_value(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A TOML basic string escapes as JSON does, but for the delete character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items()) + "}"
    return repr(value)
