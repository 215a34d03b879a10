"""Opens the tools that a user names: `sql:shop.db,files:./reports`.

    NAME [:WHAT] {, NAME [:WHAT]}          files:FOLDER  sql:FILE_OR_URL  http:HOST[+HOST…]  python  calculator  mcp:…
    MODULE:NAME                            your own: a typed function, a Tool, or a list of them

A comma ends a spec. In an address (`sql:postgresql://…`) and in a command (`mcp:…`) it stays where it is, unless a
known tool follows it. A path with a comma cannot be named.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from thinksmith.agent.contract import Tool, Toolset
from thinksmith.agent.tools.signature import NAME, tool_of
from thinksmith.errors import UserError, one_line
from thinksmith.problems.spec import did_you_mean

TOOLSETS = {
    "files": "thinksmith.agent.tools.files",
    "sql": "thinksmith.agent.tools.sql",
    "http": "thinksmith.agent.tools.http",
    "python": "thinksmith.agent.tools.python",
    "calculator": "thinksmith.agent.tools.calculator",
    "mcp": "thinksmith.agent.tools.mcp",
}
"""Name → the module whose `open_toolset(rest)` opens it. One entry a toolset."""

_KNOWN = re.compile(rf"\s*(?:{'|'.join(TOOLSETS)})\s*(?::|$)")
_OWN = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*:[A-Za-z_]\w*")


async def open_tools(specs: Sequence[str]) -> tuple[Toolset, ...]:
    """Open what these texts name, each of one or several specs. Whoever opens them closes them.

    A group that comes again gets a number: of two databases the second has `sql2_schema` and `sql2_query`. Raises
    UserError for what is unknown or cannot be opened, and for two tools of one name; then nothing stays open.
    """
    async with AsyncExitStack() as opened:
        groups: Counter[str] = Counter()
        toolsets = []
        for spec in split(specs):
            toolset = await _open(spec)
            opened.push_async_callback(toolset.aclose)
            toolsets.append(_numbered(toolset, groups))
        _check_names(toolsets)
        opened.pop_all()
    return tuple(toolsets)


def split(specs: Iterable[str]) -> list[str]:
    """The single specs. Raises UserError for one that comes twice."""
    found: list[str] = []
    for text in specs:
        pieces: list[str] = []
        for piece in text.split(","):
            if pieces and _holds_commas(pieces[-1]) and not _KNOWN.match(piece):
                pieces[-1] += f",{piece}"
            else:
                pieces.append(piece)
        found += [piece.strip() for piece in pieces if piece.strip()]
    for spec, times in Counter(found).items():
        if times > 1:
            shown = spec if "://" not in spec else f"{spec.partition('://')[0]}://…"  # a password may stand behind it
            raise UserError(f"{shown} comes twice: leave one out")
    return found


def _holds_commas(spec: str) -> bool:
    return "://" in spec or spec.lstrip().startswith("mcp:")


async def _open(spec: str) -> Toolset:
    name, _, rest = spec.partition(":")
    name = name.strip()
    if name in TOOLSETS:
        module = importlib.import_module(TOOLSETS[name])
        opening: Callable[[str], Awaitable[Toolset]] = module.open_toolset
        return await opening(rest)
    if _OWN.fullmatch(spec):
        return Toolset(spec, tuple(_own(spec)))
    known = f"; there are: {', '.join(TOOLSETS)}, and functions of yours as module:function"
    raise UserError(f"no tool {spec[:80]!r}{did_you_mean(name, TOOLSETS, otherwise=known)}")


# --- the user's own


def _own(spec: str) -> list[Tool]:
    """What an import path names, as tools. Only whoever starts the program says it: to import is to run."""
    name, _, attribute = spec.partition(":")
    try:
        found = getattr(importlib.import_module(name), attribute)
    except Exception as error:
        hint = did_you_mean(name, TOOLSETS, otherwise="; is its folder on PYTHONPATH?")
        raise UserError(f"cannot import {spec} ({type(error).__name__}: {one_line(error)}){hint}") from error
    return [_tool(each, spec) for each in (found if isinstance(found, list | tuple) else [found])]


def _tool(found: Any, spec: str) -> Tool:
    """A Tool as it is. Of a plain function nobody knows what it does, so it is asked about as running code is; one that
    only reads is written `tool_of(function, kind="read")`."""
    if isinstance(found, Tool):
        return found
    if callable(found):
        return tool_of(found, kind="run")
    raise UserError(f"{spec} is of type {type(found).__name__}: name a typed function, a Tool, or a list of them")


# --- names


def _numbered(toolset: Toolset, groups: Counter[str]) -> Toolset:
    """The toolset with numbers behind the groups that were there before, and in the names of their tools."""
    again = {}
    for group in {tool.group: None for tool in toolset.tools}:
        groups[group] += 1
        if groups[group] > 1:
            again[group] = f"{group}{groups[group]}"
    return replace(toolset, tools=tuple(_renamed(tool, again.get(tool.group, tool.group)) for tool in toolset.tools))


def _renamed(tool: Tool, group: str) -> Tool:
    """The tool as one of `group`, which stands at the beginning of its name if its own did."""
    name = tool.name
    if tool.group and (name == tool.group or name.startswith(f"{tool.group}_")):
        name = group + name.removeprefix(tool.group)
    return replace(tool, name=name, group=group)


def _check_names(toolsets: Sequence[Toolset]) -> None:
    seen: dict[str, str] = {}
    for toolset in toolsets:
        for tool in toolset.tools:
            if not NAME.fullmatch(tool.name):
                raise UserError(f"{toolset.spec}: no model can call a tool {tool.name[:80]!r}: give it another name")
            if tool.name in seen:
                raise UserError(f"{seen[tool.name]} and {toolset.spec} both have a tool {tool.name}: leave one out")
            seen[tool.name] = toolset.spec
