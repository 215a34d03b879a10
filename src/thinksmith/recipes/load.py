"""Reads recipes: TOML files that a pydantic model checks. A flag of the command line overrides a key of the file."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from thinksmith.errors import UserError

HERE = Path(__file__).parent
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
    shipped = ", ".join(sorted(path.stem for path in HERE.glob("*.toml")))
    raise UserError(f"no recipe {name!r}: give a TOML file, a run folder, or one of: {shipped}")


def load(name: str, model: type[RecipeModel], overrides: Mapping[str, Any] | None = None) -> RecipeModel:
    """The checked recipe. `overrides` maps dotted keys (`training.lr`) to values; None values are ignored."""
    path = find(name)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    for key, value in (overrides or {}).items():
        if value is not None:
            _set(data, key.split("."), value)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error, model)}") from None


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            return  # the file has a value where a table belongs, as the model will say
    data[keys[-1]] = value


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint as one line; for an unknown key, the nearest known one."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg']}, got {first['input']!r}{more}"
    known = _keys(model, first["loc"][:-1])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
    return f"unknown key {where!r}; {hint}{more}"


def _keys(model: type[BaseModel], table: tuple[int | str, ...]) -> list[str]:
    for name in table:
        inner = model.model_fields[str(name)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


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
    return repr(value)
