"""The generating side of `gym/NAME`: a program of its own that writes reasoning-gym's items to stdout, a JSON line
each.

It is a separate process because the package's generators reach beyond themselves: some depend on the order of Python's
sets (so the hash seed must be fixed before Python starts), some draw from the global random generators or set numpy's
seed, one sets decimal's precision, one prints. Here none of this touches the caller, and a seed gives the same items
every time.

Started by problems/gym.py with a request as its argument: {"name": …, "options": {…}, "seed": …}. The first line that
comes back is {"version": …} or {"error": …}; then items without end, until the reader closes the pipe.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from dataclasses import MISSING, fields
from importlib import import_module
from importlib.metadata import version
from typing import Any, TextIO

from thinksmith.errors import UserError, one_line
from thinksmith.problems.spec import did_you_mean

CHUNK = 500
"""Items of one data set; then another is made with a new seed. Some sets lay out all of their items when they are
made."""
RESERVED = ("seed", "size")
_FAILURES = 200


def main() -> int:
    """Write the lines that the request asks for. The exit code means nothing: what went wrong is the last line."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # one generator prints
    request = json.loads(sys.argv[1])
    try:
        generate(request["name"], request["options"], request["seed"], out)
    except UserError as error:
        _line(out, {"error": str(error)})
    except BrokenPipeError:
        os._exit(0)  # the reader has enough; nothing can be flushed any more
    return 0


def generate(name: str, options: dict[str, str], seed: int, out: TextIO) -> None:
    """Items without end. Raises UserError for an option that the data set does not take."""
    known = import_module("reasoning_gym.factory").DATASETS
    _line(out, {"version": version("reasoning-gym")})
    if name not in known:
        raise UserError(f"gym/{name}: this version of reasoning-gym has no such data set")
    dataset_class, config_class = known[name]
    settings = checked(name, config_class, options)
    chunk, failures = 0, 0
    while True:
        start = int.from_bytes(hashlib.sha256(f"{seed}:{name}:{chunk}".encode()).digest()[:4], "big") >> 1
        dataset = _dataset(name, dataset_class, config_class, {**settings, "seed": start, "size": CHUNK})
        for index in range(CHUNK):
            random.seed(start + index)  # for the generators that draw from the global one
            try:
                item = dataset[index]
            except Exception as error:  # a generator's own bug, such as a division by zero: the item is left out
                failures += 1
                if failures > _FAILURES:
                    raise UserError(f"gym/{name}: too many of its items fail: {one_line(error)}") from None
                continue
            _line(out, {key: item[key] for key in ("question", "answer", "metadata")})
        chunk += 1


def checked(name: str, config_class: Any, options: dict[str, str]) -> dict[str, Any]:
    """The options as their fields want them. Raises UserError."""
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(config_class)
    }
    simple = [
        key for key, value in defaults.items() if isinstance(value, bool | int | float | str) and key not in RESERVED
    ]
    result: dict[str, Any] = {}
    for key, text in options.items():
        if key not in simple:
            known = ", ".join(simple) or "none"
            if key in RESERVED:
                raise UserError(f"gym/{name}: {key} is not an option; the number and the seed are asked for elsewhere")
            if key in defaults:
                raise UserError(f"gym/{name}: {key} is no single value and cannot be set; these can: {known}")
            raise UserError(
                f"gym/{name} has no option {key!r}{did_you_mean(key, simple, otherwise=f'; it has: {known}')}"
            )
        result[key] = _value(f"gym/{name}: {key}={text!r}", text, defaults[key])
    return result


def _value(shown: str, text: str, default: object) -> bool | int | float | str:
    """An option's text as the type of its default."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UserError(f"{shown} must be true or false")
        return text.lower() == "true"
    kind = int if isinstance(default, int) else float
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"{shown} must be a {'whole ' if kind is int else ''}number") from None


def _dataset(name: str, dataset_class: Any, config_class: Any, settings: dict[str, Any]) -> Any:
    try:
        config = config_class(**settings)
        if hasattr(config, "validate"):
            config.validate()
        return dataset_class(config=config)
    except (AssertionError, ValueError, TypeError) as error:
        raise UserError(f"gym/{name}: {one_line(error)}") from None


def _plain(value: object) -> object:
    """What JSON has no word for: numpy's numbers and arrays as Python's, else the text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _line(out: TextIO, record: dict[str, Any]) -> None:
    out.write(json.dumps(record, default=_plain) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
