"""`thinksmith agent TASK --tools files:./reports,sql:shop.db`: a task, done with tools; and what became of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from rich.console import Console

    from thinksmith.agent.contract import Tool
    from thinksmith.agent.journal import Journal
    from thinksmith.agent.meter import Limits
    from thinksmith.agent.outcome import Trajectory
    from thinksmith.agent.replaying import Recorded
    from thinksmith.agent.running import Order, Run
    from thinksmith.cli.agent_view import AgentView
    from thinksmith.engines.contract import Engine
    from thinksmith.store.store import Store

_LIMITS = ("steps", "tokens", "seconds", "cost")
_SAMPLING = ("temperature", "max_tokens", "max_thinking_tokens", "seed")
_MANNER = ("planning", "reflect_every")
_FLAGS = {"max_thinking_tokens": "--think", "planning": "--no-plan"}
_RECORDED = "recorded:"  # the tools of a replay, in its order
_MAX_TOKENS = 4096
_LEAST_LEFT = 1024  # tokens for a thought and what it is told then; trained models may need less


def agent(
    task: Annotated[str, typer.Argument(metavar="TASK|-", help="What is to be done; - reads standard input.")] = "",
    tools: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOOLS",
            help="files:FOLDER, sql:FILE_OR_URL, http:HOST, python, calculator, mcp:COMMAND_OR_URL or your "
            "MODULE:FUNCTION, with commas between them.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="As thinksmith models lists them, a folder or a hub id. [default: as it says there]"
        ),
    ] = "",
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Most steps. [default: 30]")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, metavar="N", help="Most sampled tokens; 0: no limit.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Most time, without waiting for you; 0: no limit.")
    ] = None,
    cost: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="Most dollars, by the price table; 0: no limit.")
    ] = None,
    yes: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Tools, or groups of them, that are allowed unasked: files_write,python"),
    ] = None,
    no_plan: Annotated[bool, typer.Option("--no-plan", help="Without a plan at the beginning.")] = False,
    reflect_every: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Steps between looks back; 0: none. [default: 8]")
    ] = None,
    show_thinking: Annotated[bool, typer.Option("--show-thinking", help="All of the thinking, not a line.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Also write a page of every step.")] = None,
    resume: Annotated[str, typer.Option(metavar="RUN", help="Go on with a run that was stopped; last is one.")] = "",
    replay: Annotated[str, typer.Option(metavar="RUN", help="Ask the model again, over what tools gave then.")] = "",
    undo: Annotated[str, typer.Option(metavar="RUN", help="Take back what a run did, as far as can be.")] = "",
    temperature: Annotated[float | None, typer.Option(min=0, metavar="T", help="[default: the model's own]")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help=f"Most tokens of a step. [default: {_MAX_TOKENS}]")
    ] = None,
    think: Annotated[int | None, typer.Option(min=0, metavar="N", help="Most tokens of a step's thinking.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the sampling. [default: 0]")] = None,
) -> None:
    """Have a model do a task with tools: it plans, calls them, looks at what they gave, and answers.

    Reading runs. Writing, running code and sending ask first; without a terminal they are refused, unless --yes names
    them. Every step is kept: a run that was stopped goes on with --resume, and --undo takes back its edits of files.
    """
    from thinksmith.cli.screen import console
    from thinksmith.errors import UserError
    from thinksmith.store.store import Store

    flags = {
        "task": task, "tools": tools, "model": model or None, "yes": yes, "planning": False if no_plan else None,
        "reflect_every": reflect_every, "steps": steps, "tokens": tokens, "seconds": seconds, "cost": cost,
        "temperature": temperature, "max_tokens": max_tokens, "max_thinking_tokens": think, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in flags.items() if value not in (None, "", [])}
    modes = [name for name, value in (("--resume", resume), ("--replay", replay), ("--undo", undo)) if value]
    if len(modes) > 1:
        raise UserError(f"{modes[0]} and {modes[1]}: give one of them")
    if report:  # told before an hour is spent on what could not be written
        from thinksmith.evaluate.agent_page import check_page

        check_page(report)
    with Store.open() as store:
        if undo:
            _undo(store, undo, console(), given)
            return
        begin = _resumed if resume else _replayed if replay else _new
        work = begin(store, resume or replay, given)
        if work is not None:
            work.store, work.screen = store, console()
            work.show_thinking, work.report = show_thinking, report
            _go(work)
        else:
            _tell_finished(store, resume, report)


@dataclass
class _Work:
    """A run that is to be worked on; `run` is there where it was begun before."""

    engine: Engine
    order: Order
    run: Run | None = None
    store: Store = field(init=False)
    screen: Console = field(init=False)
    show_thinking: bool = False
    report: Path | None = None
    view: AgentView | None = None
    recorded: Recorded | None = None


# --- what is to be done


def _new(store: Store, _: str, given: Mapping[str, Any]) -> _Work:
    from thinksmith.agent.running import Order
    from thinksmith.engines.remote.settings import default_model

    task = _task(given.get("task", ""))
    model = given.get("model") or default_model(os.environ)
    order = Order(task, model, _specs(given.get("tools", ())), yes=_names(given.get("yes", ())))
    return _asked_by(order, given)


def _replayed(store: Store, name: str, given: Mapping[str, Any]) -> _Work:
    """The same task again, over what its tools gave."""
    from dataclasses import replace

    from thinksmith.agent.running import Order, open_run
    from thinksmith.errors import UserError

    for flag in ("task", "tools", "yes"):
        if flag in given:
            raise UserError(f"--replay keeps the task and what its tools gave: leave {_flag(flag)} out")
    source = open_run(store, _latest(store, name))
    source.journal.close()
    order = source.order
    tools = (f"{_RECORDED}{source.id}",)
    if given.get("model", order.model) != order.model:
        other = Order(order.task, given["model"], tools, limits=order.limits)
        if order.manner.instructed:  # else it is the manner that the first model was trained in
            other = replace(other, manner=order.manner)
        return _asked_by(other, given)
    kept = replace(order, tools=tools, yes=(), **_changed(order, given))
    return _Work(_open(kept), kept)


def _resumed(store: Store, name: str, given: Mapping[str, Any]) -> _Work | None:
    """The run from where it stands; None for one that is finished."""
    from dataclasses import replace

    from thinksmith.agent.running import open_run
    from thinksmith.errors import UserError

    run = open_run(store, _latest(store, name))
    if run.journal.ended is not None:
        run.journal.close()
        return None
    _check_same(run, given)
    limits = replace(run.order.limits, **{key: given[key] for key in _LIMITS if key in given})
    if limits != run.order.limits:
        _check_enough(limits, run.journal)
    order = replace(run.order, limits=limits, yes=(*run.order.yes, *_names(given.get("yes", ()))))
    engine = _open(order)
    made_by, now = store.run(run.id).weights_hash, engine.info.weights_hash
    if made_by and now and made_by != now:
        raise UserError(f"{run.id} was begun with other weights than {order.model} has now: begin anew")
    return _Work(engine, order, replace(run, order=order))


def _asked_by(order: Order, given: Mapping[str, Any]) -> _Work:
    """A new run. Where no flag says otherwise the model is asked as its makers advise, or as it was trained."""
    from dataclasses import replace

    from thinksmith.agent.trained import manner_of

    trained = manner_of(order.model)
    if trained:
        limits = order.limits if "steps" in given else replace(order.limits, steps=trained.steps)
        order = replace(order, manner=trained.manner, history=trained.history, limits=limits)
    limits = replace(order.limits, **{key: given[key] for key in _LIMITS if key in given})
    engine = _open(replace(order, limits=limits))
    advised = replace(engine.info.sampling, max_tokens=_MAX_TOKENS)
    order = replace(order, sampling=advised)
    return _Work(engine, replace(order, **_changed(order, given)))


def _changed(order: Order, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an order with what the flags say otherwise."""
    from dataclasses import replace

    names = {"limits": _LIMITS, "sampling": _SAMPLING, "manner": _MANNER}
    return {
        part: replace(getattr(order, part), **{key: given[key] for key in keys if key in given})
        for part, keys in names.items()
    }


def _open(order: Order) -> Engine:
    """The engine of an order. UserError for a limit in dollars where nobody knows a price."""
    from thinksmith.engines import open_engine
    from thinksmith.engines.contract import Priced
    from thinksmith.errors import UserError

    engine = open_engine(order.model)
    if order.limits.cost and not (isinstance(engine, Priced) and engine.cost(1000, 1000) is not None):
        raise UserError(f"--cost: there is no price for {order.model}, so nobody can tell: limit --tokens instead")
    return engine


def _task(text: str) -> str:
    from thinksmith.cli.texts import STANDARD_INPUT, read_text
    from thinksmith.errors import UserError

    task = read_text(STANDARD_INPUT).strip() if text == STANDARD_INPUT else text.strip()
    if not task:
        raise UserError('there is no task: write one, such as thinksmith agent "What is 27 * 34?" --tools calculator')
    try:
        task.encode()
    except UnicodeEncodeError:
        raise UserError("the task is not UTF-8 text: convert it to UTF-8") from None
    return task


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


def _specs(texts: Sequence[str]) -> tuple[str, ...]:
    """The single specs of --tools, files by their whole paths: a run may be resumed from another folder."""
    from thinksmith.agent.opening import split

    return tuple(map(_absolute, split(texts)))


def _absolute(spec: str) -> str:
    name, _, rest = spec.partition(":")
    if name.strip() not in ("files", "sql") or "://" in rest or not rest.strip():
        return spec
    path = os.path.abspath(os.path.expanduser(rest.strip()))
    return spec if "," in path else f"{name.strip()}:{path}"  # a comma would end it


def _latest(store: Store, name: str) -> str:
    """`last` is the last run of an agent, whatever else ran since."""
    from thinksmith.agent.running import KIND
    from thinksmith.errors import UserError

    if name != "last":
        return name
    found = next((run.id for run in store.runs() if run.kind == KIND), "")
    if not found:
        raise UserError(f"no agent has run yet in {store.where}")
    return found


def _flag(name: str) -> str:
    return "the task" if name == "task" else _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _check_same(run: Run, given: Mapping[str, Any]) -> None:
    """UserError where a flag says something else than the run was begun with; only its limits may change, and what is
    allowed."""
    from thinksmith.errors import UserError

    order = run.order
    then: dict[str, Any] = {"task": order.task, "model": order.model, "tools": order.tools}
    for part, keys in (("sampling", _SAMPLING), ("manner", _MANNER)):
        then |= {key: getattr(getattr(order, part), key) for key in keys}
    for key, value in given.items():
        if key in then and (_specs(value) if key == "tools" else value) != then[key]:
            run.journal.close()
            raise UserError(f"{run.id} was begun with another {_flag(key).removeprefix('the ')}: leave it out")


def _check_enough(limits: Limits, journal: Journal) -> None:
    """UserError for limits that the run has passed already."""
    from thinksmith.agent.meter import LEAST
    from thinksmith.errors import UserError

    thoughts = journal.thoughts.values()
    usages = [thought.trace.usage for thought in thoughts if thought.trace.usage]
    tokens = sum(each.trace.tokens for each in thoughts) + sum(usage.lost_tokens for usage in usages)
    seconds = sum(each.seconds for each in thoughts) + sum(each.seconds for each in journal.results.values())
    cost = sum(usage.cost or 0.0 for usage in usages)
    passed = {
        "steps": (limits.steps < len(thoughts), f"{len(thoughts)} steps"),
        "tokens": (0 < limits.tokens < tokens + limits.kept + LEAST, f"{tokens:,} tokens"),
        "seconds": (0 < limits.seconds <= seconds, f"{seconds:.0f} seconds"),
        "cost": (0 < limits.cost <= cost, f"${cost:,.4g}"),
    }
    for name, (over, used) in passed.items():
        if over:
            journal.close()
            raise UserError(f"--{name} {getattr(limits, name):g}: {used} are used already, so allow more")


# --- doing it


def _go(work: _Work) -> None:
    """Work to the end, and tell it. UserError with the way on where the engine failed."""
    import asyncio

    from thinksmith.cli.agent_view import counted, print_end
    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.errors import UserError

    try:
        trajectory = asyncio.run(_carried_out(work))
    except KeyboardInterrupt:
        raise Interrupted(_stopped(work)) from None
    except UserError as error:
        if work.run is None or work.view is None or "--resume" in str(error):
            raise
        raise UserError(f"{error}; {_way_on(work.run.id)}") from error
    finally:
        if work.run:
            work.run.journal.close()
    assert work.run is not None
    missed = work.recorded.missed if work.recorded else 0
    notes = [f"{counted(missed, 'call')} not made in the run that is replayed, so nothing came of it"] if missed else []
    print_end(work.screen, trajectory, work.run.id, notes=notes)
    if work.report:
        _write(work.report, work.run, trajectory, work.screen)
    if trajectory.steps and trajectory.steps[-1].trace.finish == "error":
        raise UserError(f"{trajectory.why}; {_way_on(work.run.id)}")


def _way_on(run_id: str) -> str:
    return f"thinksmith agent --resume {run_id} goes on"


def _stopped(work: _Work) -> str:
    if work.run is None:
        return "interrupted before anything was done"
    from thinksmith.cli.agent_view import counted

    steps = counted(work.view.steps if work.view else 0, "step")
    return f"interrupted: {steps} kept; {_way_on(work.run.id)}"


async def _carried_out(work: _Work) -> Trajectory:
    from contextlib import AsyncExitStack

    from rich.text import Text

    from thinksmith.agent.running import begin, carry_out
    from thinksmith.cli.agent_view import AgentView
    from thinksmith.cli.approving import AtTerminal, allowed, bare

    async with AsyncExitStack() as opened:
        opened.push_async_callback(work.engine.aclose)
        tools = await _tools(work, opened)
        yes = allowed(work.order.yes, tools)
        if work.run is None:
            _check_room(work.engine, work.order, tools)
        run = work.run = work.run or begin(work.store, work.order, work.engine, tools)
        names = ", ".join(tool.name for tool in tools) or "none"
        work.screen.print(Text(bare(f"{run.id} with {work.engine.info.name}, tools: {names}"), "dim"))
        known = {result.call.get("id", "") for result in run.journal.results.values()}
        view = work.view = AgentView(
            work.screen, show_thinking=work.show_thinking, done=len(run.journal.thoughts), known=known
        )
        with view:
            return await carry_out(
                run, work.store, work.engine, tools, AtTerminal(work.screen, yes, aside=view.aside), view
            )


async def _tools(work: _Work, opened: AsyncExitStack) -> Sequence[Tool]:
    from thinksmith.agent.opening import open_tools

    specs = work.order.tools
    if specs and specs[0].startswith(_RECORDED):
        return await _recorded(work, specs[0].removeprefix(_RECORDED))
    toolsets = await open_tools(specs)
    for toolset in toolsets:
        opened.push_async_callback(toolset.aclose)
    return [tool for toolset in toolsets for tool in toolset.tools]


async def _recorded(work: _Work, source: str) -> Sequence[Tool]:
    """What the tools gave in another run, without what this one was given before it was stopped."""
    from contextlib import suppress

    from thinksmith.agent.contract import ToolFault
    from thinksmith.agent.replaying import Recorded
    from thinksmith.agent.running import open_run

    with open_run(work.store, source).journal as journal:
        work.recorded = Recorded(journal)
    tools = {tool.name: tool for tool in work.recorded.tools()}
    for _, result in sorted(work.run.journal.results.items()) if work.run else ():
        tool = tools.get(result.call["name"])
        if tool is not None:
            with suppress(ToolFault):
                await tool.call(result.call["arguments"], None)
    return list(tools.values())


def _check_room(engine: Engine, order: Order, tools: Sequence[Tool]) -> None:
    """UserError where what the model is told at the beginning leaves it no room."""
    import json

    from thinksmith.agent.texts import PLAN, SYSTEM
    from thinksmith.engines.contract import Encodes
    from thinksmith.errors import UserError

    context, manner = engine.info.context_length, order.manner
    if not context:
        return
    text = order.task + (SYSTEM if manner.instructed else "") + (PLAN if manner.planning else "")
    if manner.described:
        text += json.dumps([tool.description_for_model for tool in tools])
    tokens = len(engine.encode(text)) if isinstance(engine, Encodes) else len(text) // 4
    if tokens + (_LEAST_LEFT if manner.instructed else 0) > context:
        what = "the task" + (" and its tools" if tools and manner.described else "")
        raise UserError(
            f"{engine.info.name} has a context of {context:,} tokens, and {what} alone take about {tokens:,}: name a "
            "model with a longer one (--model)"
        )


# --- afterwards


def _tell_finished(store: Store, name: str, report: Path | None) -> None:
    """A run that need not be gone on with: why it ended, on standard error, and its answer."""
    from thinksmith.agent.running import open_run
    from thinksmith.cli.approving import bare, still
    from thinksmith.cli.screen import console

    run = open_run(store, _latest(store, name))
    with run.journal as journal:
        ended = journal.ended or {}
        typer.echo(f"thinksmith: {run.id} is finished, so nothing is left to do: {bare(ended['why'])}", err=True)
        console().print(still(ended["answer"]).strip() or "(no answer)")
        if report:
            from thinksmith.evaluate.agent_page import trajectory_of

            _write(report, run, trajectory_of(run), console())


def _write(report: Path, run: Run, trajectory: Trajectory, screen: Console) -> None:
    from thinksmith.evaluate.agent_page import write_page

    write_page(report, run, trajectory)
    screen.print(f"{'report':<9} {report}")


def _undo(store: Store, name: str, screen: Console, given: Mapping[str, Any]) -> None:
    """A line for each thing that was done, the last first. Exit code 1 where one could not be taken back."""
    import asyncio

    from rich.text import Text

    from thinksmith.agent.running import Undone, open_run, undo
    from thinksmith.cli.approving import bare
    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.errors import UserError

    if given:
        raise UserError(f"--undo takes nothing else: leave {_flag(next(iter(given)))} out")
    run = open_run(store, _latest(store, name))

    async def take_back() -> Sequence[Undone]:
        from contextlib import AsyncExitStack

        from thinksmith.agent.opening import open_tools

        async with AsyncExitStack() as opened:
            toolsets = await open_tools([spec for spec in run.order.tools if _may_undo(spec)])
            for toolset in toolsets:
                opened.push_async_callback(toolset.aclose)
            return await undo(run.journal, [tool for toolset in toolsets for tool in toolset.tools])

    with run.journal:
        try:
            found = asyncio.run(take_back()) if run.journal.begun else ()
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted: thinksmith agent --undo {run.id} goes on") from None
    if not found:
        screen.print(f"{run.id}: nothing is left to take back")
    for each in found:
        screen.print(Text("✓ " if each.ok else "✗ ", "green" if each.ok else "red") + Text(bare(each.line)))
    if not all(each.ok for each in found):
        raise typer.Exit(1)


def _may_undo(spec: str) -> bool:
    """Whose tools can take something back: files, and the user's own. No server is started for the others."""
    from thinksmith.agent.opening import TOOLSETS

    name = spec.partition(":")[0].strip()
    return name == "files" or (name not in TOOLSETS and not spec.startswith(_RECORDED))
