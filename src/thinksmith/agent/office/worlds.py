"""Worlds by name: where the tasks of a problem set are done."""

from __future__ import annotations

import importlib

from thinksmith.agent.contract import World
from thinksmith.errors import UserError
from thinksmith.records import Problem

WORLDS = {"office": "thinksmith.agent.office.world"}
"""`meta["world"]` of a problem → the module whose `open_world(problem)` builds it. One entry a world."""


async def open_world(problem: Problem) -> World:
    """A fresh world for one attempt at the problem; whoever opens it closes it. Raises UserError for an unknown one."""
    name = problem.meta.get("world")
    if name not in WORLDS:
        raise UserError(f"{problem.id} is of no world that is known here ({', '.join(WORLDS)}): {str(name)[:40]!r}")
    world: World = await importlib.import_module(WORLDS[name]).open_world(problem)
    return world
