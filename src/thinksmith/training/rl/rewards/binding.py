"""From a reward's name and options to a function that scores; all that a recipe may have wrong is told here.

What a function is, is read from the names of its parameters (`how`):

1. It is no class and has a parameter `prompts`, `completions` or `completion_ids`, or none but `**kwargs`: a reward
   function of TRL's.
2. Its first parameter is `attempts`: it takes all attempts of a step and returns a list.
3. It is a class, or its first parameter has a default, is given as an option, or is annotated as a number or a text, or
   it has no parameters: a factory. It is called once with the options; what it returns is the reward, by rules 1, 2, 4.
4. Else it takes one attempt, whatever its first parameter is called.

All other parameters are options: a recipe may give them by name.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from thinksmith.errors import UserError, one_line
from thinksmith.training.rl.rewards.named import REWARDS

Option = bool | int | float | str
How = Literal["trl", "all", "each", "factory"]
TRL_DATA = ("prompts", "completions", "completion_ids")
_PLAIN: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}


class Bound(NamedTuple):
    """A reward with its options inside. `how` it is called: with each attempt, or with all; TRL's is left to `trl`."""

    function: Callable[..., Any]
    how: How


def find(name: str) -> Callable[..., Any]:
    """The reward of this name, or at this import path (`module:attribute`). Raises UserError."""
    if name in REWARDS:
        return REWARDS[name]
    module_name, colon, path = name.partition(":")
    if not colon:
        known = ", ".join(REWARDS)
        raise UserError(
            f"unknown reward {name!r}; {_meant(name, REWARDS)}known are {known}; your own: 'module:function'"
        )
    found: Any = _module(name, module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except Exception:  # a module may look its names up when asked, and fail
            near = _meant(part, [each for each in dir(found) if not each.startswith("_")]) or "name a function in it"
            raise UserError(f"reward {name!r}: {module_name} has no {part!r}; {near.strip()}") from None
    if not callable(found):
        raise UserError(f"reward {name!r} is no function but {type(found).__name__}; name a function of an attempt")
    return found  # type: ignore[no-any-return]


def _module(name: str, module_name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # at the end: a folder that happens to be called `datasets` must not hide the library
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(
            f"reward {name!r}: cannot import {module_name!r} ({why}); it must be installed or lie in {here}"
        ) from None


def bind(name: str, target: Callable[..., Any], options: Mapping[str, Any], *, max_tokens: int = 0) -> Bound:
    """The reward with its options. An option `max_tokens` that is not given becomes `max_tokens`, if that is not 0.

    Raises UserError for an unknown option, one that misses, and one of another type or value.
    """
    how = how_called(name, target, options)
    known = {
        key: each
        for i, (key, each) in enumerate(_parameters(name, target).items())
        if not _is_data(how, i, key) and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }
    given = dict(options)
    if "max_tokens" in known and max_tokens:
        given.setdefault("max_tokens", max_tokens)
    _check(name, given, known)
    missing = [key for key, each in known.items() if each.default is each.empty and key not in given]
    if missing and how != "trl":  # whose parameters may be columns of the data
        raise UserError(f"reward {name!r} needs the option {missing[0]!r}: give it a table with it")
    if how in ("each", "all") and inspect.iscoroutinefunction(target):
        raise UserError(f"reward {name!r} is async, which only functions in TRL's form may be; make it an ordinary one")
    if how != "factory":
        return Bound(partial(target, **given) if given else target, how)
    return _made(name, target, given)


def _made(name: str, target: Callable[..., Any], given: Mapping[str, Any]) -> Bound:
    """What a factory makes of the options."""
    try:
        made = target(**given)
    except Exception as error:
        raise UserError(f"reward {name!r}: {one_line(error)}") from None
    if not callable(made):
        kind = type(made).__name__
        raise UserError(f"reward {name!r} makes no function but {kind}; call its first parameter attempt")
    how = how_called(name, made, {})
    if how == "factory":
        raise UserError(f"reward {name!r} makes a function without a parameter for the attempt; give it one")
    return Bound(made, how)


def how_called(name: str, target: Callable[..., Any], options: Mapping[str, Any]) -> How:
    """By the rules at the top of this file."""
    parameters = _parameters(name, target)
    if isinstance(target, type):
        return "factory"
    kinds = {each.kind for each in parameters.values()}
    if set(TRL_DATA) & set(parameters) or kinds == {inspect.Parameter.VAR_KEYWORD}:
        return "trl"
    first = next(iter(parameters.values()), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        return "factory"
    if first.name == "attempts":
        return "all"
    if first.name == "attempt" or first.kind is first.VAR_POSITIONAL:
        return "each"
    optional = first.default is not first.empty or first.name in options or _plain(first)
    return "factory" if optional else "each"


def _plain(parameter: inspect.Parameter) -> bool:
    """Whether it is annotated as a number or a text, which no attempt is."""
    return isinstance(parameter.annotation, type) and parameter.annotation in _PLAIN


def _is_data(how: How, index: int, key: str) -> bool:
    """Is this parameter what the reward is called with, and so no option?"""
    return how != "factory" and (key in TRL_DATA if how == "trl" else index == 0)


def _parameters(name: str, target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    for resolve in (True, False):  # annotations that cannot be resolved are only not checked
        try:
            return inspect.signature(target, eval_str=resolve).parameters
        except Exception:
            continue
    raise UserError(f"reward {name!r} has no signature to read; wrap it in a function of an attempt")


def _check(name: str, given: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> None:
    for key, value in given.items():
        if key not in known:
            has = f"its options are {', '.join(known)}" if known else "it has no options"
            raise UserError(f"reward {name!r}: unknown option {key!r}; {_meant(key, known)}{has}")
        wanted = known[key].annotation
        allowed = _PLAIN.get(wanted) if isinstance(wanted, type) else None
        if allowed and (not isinstance(value, allowed) or (isinstance(value, bool) and wanted is not bool)):
            raise UserError(f"reward {name!r}: option {key!r} must be {wanted.__name__}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"reward {name!r}: option {key!r} is {value}; give a number")


def _meant(word: str, known: Any) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
