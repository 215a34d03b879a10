"""A run of the agent: its place in the store, its journal, and what is needed to go on with it, to run it again over
what its tools gave, and to take back what it did."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from thinksmith.agent.contract import Approve, Step, Tool, ToolFault, Watcher
from thinksmith.agent.idstalk import IdsTalk
from thinksmith.agent.journal import Journal, Place
from thinksmith.agent.loop import Manner, work
from thinksmith.agent.meter import Limits
from thinksmith.agent.opening import split
from thinksmith.agent.outcome import Trajectory, notes_of
from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError, one_line
from thinksmith.records import Attempt, Problem, Sampling, Verdict
from thinksmith.store.keeper import Keeper
from thinksmith.store.store import Store

KIND = "agent"
_UNJUDGED = Verdict("bad_gold", reason="a step of an agent has no gold answer")


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is started with. `tools` are specs, `yes` the names of tools that need not be asked about. `history`:
    chat messages, or the `ids` themselves, for models that were trained so."""

    task: str
    model: str
    tools: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    manner: Manner = field(default_factory=Manner)
    yes: tuple[str, ...] = ()
    history: Literal["messages", "ids"] = "messages"

    @property
    def problem(self) -> Problem:
        name = sha256(self.task.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return Problem(f"agent/{name}", self.task, kind="task")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Order:
        sampling = dict(value["sampling"])
        sampling |= {"stop": tuple(sampling["stop"]), "stop_ids": tuple(sampling["stop_ids"])}
        return cls(
            value["task"],
            value["model"],
            tuple(value["tools"]),
            Sampling(**sampling),
            Limits(**value["limits"]),
            Manner(**value["manner"]),
            tuple(value["yes"]),
            value["history"],
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is at work in this process: close its journal."""

    id: str
    order: Order
    journal: Journal


def folder_of(store: Store, run_id: str) -> Path:
    """Where a run's journal is: beside the store's file, or in the user's data folder for one in PostgreSQL."""
    if "://" in store.where:
        return user_data_path("thinksmith", appauthor=False) / "agents" / run_id
    return Path(store.where).parent / "agents" / run_id


def begin(store: Store, order: Order, engine: Engine, tools: Sequence[Tool]) -> Run:
    """A new run. Raises UserError where it cannot be written, and for tools that it must not have."""
    check_specs(store, order.tools)
    head = {
        "order": order.to_json(),
        "secret": secrets.token_hex(16),
        "described": [
            {"name": tool.name, "group": tool.group, "kind": tool.kind, "fence": tool.fence}
            | {"description": tool.description, "parameters": dict(tool.parameters)}
            for tool in tools
        ],
    }
    info = engine.info
    run_id = store.start_run(KIND, _title(order.task), info.name, info.weights_hash, {"order": head["order"]})
    return Run(run_id, order, Journal.create(folder_of(store, run_id), {"run": run_id, **head}))


def check_specs(store: Store, specs: Sequence[str]) -> None:
    """Raises UserError for tools that reach what keeps the runs, and for a password that would be kept with them."""
    place = folder_of(store, "x").resolve().parent
    for spec in split(specs):
        name, _, rest = spec.partition(":")
        root = Path(rest).expanduser().resolve()
        if name.strip() == "files" and (root in (place, *place.parents) or place in root.parents):
            raise UserError(f"{root} holds the runs themselves, in {place}: name a folder beside it, or another store")
        if re.search(r"://[^/@:\s]*:[^/@\s]+@|[?&]password=", rest, re.IGNORECASE):
            raise UserError(f"{name}: leave the password out of the URL, it would be kept with the run: PGPASSWORD or "
                            "~/.pgpass tells it")  # fmt: skip


def open_run(store: Store, name: str) -> Run:
    """A run that was begun, by its id or the beginning of it, or `last`. Raises UserError for one of another kind."""
    found = store.run(name)
    if found.kind != KIND:
        raise UserError(f"{found.id} is no run of an agent but of kind {found.kind}: thinksmith runs lists them")
    journal = Journal.open(folder_of(store, found.id))
    return Run(found.id, Order.from_json(journal.head["order"]), journal)


async def carry_out(
    run: Run, store: Store, engine: Engine, tools: Sequence[Tool], approve: Approve, watcher: Watcher | None = None
) -> Trajectory:
    """Work on the run's task from where its journal stands, to the end. Each step is an attempt in the store."""
    order = run.order
    steps = _Steps(store, run.id, order.problem)
    try:
        trajectory = await work(
            order.problem,
            engine,
            tools=tools,
            sampling=order.sampling,
            approve=approve,
            limits=order.limits,
            manner=order.manner,
            secret=bytes.fromhex(run.journal.head["secret"]),
            talk=IdsTalk(engine) if order.history == "ids" else None,
            journal=run.journal,
            watcher=watcher,
            on_step=steps.add,
        )
        await steps.stored()
    finally:
        steps.flush()
    if trajectory.steps and trajectory.steps[-1].trace.finish == "error":
        return trajectory  # the engine failed: the run is not over, and may be gone on with
    await asyncio.to_thread(_end, run, store, trajectory)  # the disk is waited for, and others may be at work
    return trajectory


def _end(run: Run, store: Store, trajectory: Trajectory) -> None:
    told = {"answer": trajectory.answer, "why": trajectory.why, "tokens": trajectory.tokens}
    told |= {"seconds": trajectory.seconds, "cost": trajectory.cost}
    run.journal.end(trajectory.answer, trajectory.why)
    store.finish_run(run.id, told | notes_of(trajectory))


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of one effect: `line` says it."""

    place: Place
    line: str
    ok: bool


async def undo(journal: Journal, tools: Sequence[Tool]) -> tuple[Undone, ...]:
    """Take back what the run did, the last first, as far as its tools can."""
    by_name = {tool.name: tool for tool in tools}
    found = []
    for place in sorted(journal.begun, reverse=True):
        begun, result = journal.begun[place], journal.results.get(place)
        if place in journal.undone or (result is not None and not result.effect):
            continue
        tool = by_name.get(begun.call["name"])
        if tool is None or tool.undo is None:
            found.append(Undone(place, f"{begun.summary}: cannot be undone", False))
            continue
        try:
            line = await tool.undo(begun.record, lambda name, place=place: journal.kept(place, name))  # type: ignore[misc]
        except (ToolFault, UserError, OSError) as error:
            found.append(Undone(place, f"{begun.summary}: not undone: {one_line(error)}", False))
            continue
        journal.undo(place)
        found.append(Undone(place, line, True))
    return tuple(found)


class _Steps:
    """Stores steps beside the work: nobody waits for the disk, since the journal has them already."""

    def __init__(self, store: Store, run_id: str, problem: Problem) -> None:
        self._keeper, self._problem = Keeper(store, run_id), problem
        self._waiting: set[asyncio.Task[None]] = set()

    def add(self, step: Step) -> None:
        self._keeper.check()
        if step.trace.finish == "error":
            return  # it is asked again, and the store never changes an attempt
        attempt = Attempt(self._problem, step.trace, _UNJUDGED, step.number, KIND, _notes(step))
        task = asyncio.create_task(self._keeper.keep([attempt]))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def stored(self) -> None:
        await asyncio.gather(*self._waiting)

    def flush(self) -> None:
        for task in self._waiting:
            task.cancel()
        self._keeper.flush()


def _notes(step: Step) -> dict[str, Any]:
    return {
        "step": step.number,
        "part": step.part,
        "why": step.why,
        "step_seconds": step.seconds,
        "calls": [asdict(each) for each in step.observations],
    }


def _title(task: str) -> str:
    line = " ".join(task.split())
    return line if len(line) <= 80 else line[:79] + "…"
