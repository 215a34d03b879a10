"""`thinksmith race QUESTION --models a,b,c`: the same question to several models at once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from thinksmith.audit import Audit
    from thinksmith.chat.lanes import Lane
    from thinksmith.engines.contract import Delta, Engine
    from thinksmith.records import Problem


def race(
    question: Annotated[str, typer.Argument(metavar="TEXT", help="The question.")],
    models: Annotated[str, typer.Option(metavar="A,B,…", help="Models, as thinksmith models lists them.")],
    gold: Annotated[str, typer.Option(metavar="TEXT", help="The right answer, if it is known.")] = "",
    kind: Annotated[str, typer.Option(help="How answers are compared with it.")] = "math",
    think: Annotated[int | None, typer.Option(min=0, metavar="N", help="Most tokens of the thinking.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of a completion.")] = 2048,
    temperature: Annotated[float | None, typer.Option(min=0, metavar="T", help="[default: each model's own]")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the sampling.")] = 0,
    show: Annotated[Literal["table", "all", "json"], typer.Option(help="all has the traces too.")] = "table",
) -> None:
    """Ask several models or sizes the same: traces, tokens, seconds and audit side by side."""
    import asyncio

    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.cli.lanes_view import watch
    from thinksmith.cli.screen import console
    from thinksmith.errors import UserError
    from thinksmith.records import Problem

    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names or not question.strip():
        raise UserError("a race needs a question and models: thinksmith race QUESTION --models tiny,ollama/qwen3:8b")
    problem = Problem("race/question", question.strip(), gold or None, kind)
    given = {"max_thinking_tokens": think, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    settings = {name: value for name, value in given.items() if value is not None}
    lanes = [_lane(name, problem, settings) for name in names]
    if sum(lane.local for lane in lanes) > 1:
        print(
            "thinksmith: models of this process run one after the other, so their seconds are honest", file=sys.stderr
        )
    interrupted = False
    try:
        asyncio.run(watch(lanes, console(stderr=True)))
    except KeyboardInterrupt:
        interrupted = True
    _keep(lanes, problem)
    _show(lanes, problem, show)
    if interrupted:
        raise Interrupted("interrupted; what was finished is shown and kept")
    if not any(lane.phase == "done" for lane in lanes):
        raise typer.Exit(1)


def _lane(name: str, problem: Problem, settings: Mapping[str, Any]) -> Lane:
    """A model that cannot be opened fails in its lane, as one that cannot answer does."""
    from thinksmith.chat.lanes import Lane
    from thinksmith.engines import is_remote

    entrant = _Entrant(name, problem, settings)
    local = not is_remote(name) and not name.startswith("replay/")
    return Lane(name, local, entrant.ask, entrant.prepare)


class _Entrant:
    """A model of the race: opened when its turn comes, and closed behind it."""

    def __init__(self, name: str, problem: Problem, settings: Mapping[str, Any]) -> None:
        self._name, self._problem, self._settings = name, problem, settings
        self._engine: Engine

    async def prepare(self) -> None:
        import asyncio

        from thinksmith.engines import open_engine

        self._engine = await asyncio.to_thread(open_engine, self._name)

    async def ask(self) -> AsyncIterator[Delta]:
        from dataclasses import replace

        from thinksmith.records import Request

        sampling = replace(self._engine.info.sampling, **self._settings)
        try:
            async for delta in self._engine.stream(Request(messages=self._problem.messages, sampling=sampling)):
                yield delta
        finally:
            await self._engine.aclose()


def _keep(lanes: Sequence[Lane], problem: Problem) -> None:
    """Every trace goes into the store, a run a model."""
    from thinksmith.records import Attempt
    from thinksmith.store.store import Store
    from thinksmith.verify import verify

    with Store.open() as store:
        for lane in lanes:
            if lane.trace:
                run_id = store.start_run("race", " ".join(problem.text.split())[:60], lane.trace.model or lane.name)
                store.add(run_id, [Attempt(problem, lane.trace, verify(problem, lane.trace))])
                store.finish_run(run_id, {})


def _show(lanes: Sequence[Lane], problem: Problem, show: str) -> None:
    from thinksmith.audit import audit
    from thinksmith.cli.screen import clean, console, print_table

    audits = {lane.name: audit(lane.trace, problem) for lane in lanes if lane.trace}
    if show == "json":
        _print_json(lanes, problem, audits)
        return
    screen = console()
    if show == "all":
        for lane in lanes:
            screen.print(f"── {lane.name} ──", style="bold")
            if lane.thinking:
                screen.print(clean(lane.thinking), style="dim")
            screen.print(clean(lane.answer or lane.error) + "\n")
    columns = ("model", "answer", ">thinking", ">answer", ">first", ">seconds", ">tokens/s", ">cost", "")
    print_table(screen, columns, [_row(lane, problem, audits) for lane in lanes])


def _row(lane: Lane, problem: Problem, audits: Mapping[str, Audit]) -> list[str]:
    from thinksmith.cli.screen import one_line
    from thinksmith.verify import verify
    from thinksmith.verify.extract import extract

    trace = lane.trace
    if trace is None or lane.phase == "failed":
        return [lane.name, "failed", *[""] * 6, one_line(lane.error or "it was stopped")]
    found = extract(trace.answer)
    said = one_line(found.text if found else trace.answer)[:40] or (
        "thinking was cut off" if trace.thinking_status == "truncated" else "none"
    )
    if problem.answer is not None:
        said = f"{'✓' if verify(problem, trace).correct else '✗'} {said}"
    speed = trace.tokens / trace.seconds if trace.seconds else 0.0
    cost = "" if trace.usage is None or not trace.usage.cost else f"${trace.usage.cost:.4f}"
    first = "" if lane.first is None else f"{lane.first:.2f} s"
    counts = [
        f"{trace.thinking_tokens:,}",
        f"{trace.answer_tokens:,}",
        first,
        f"{trace.seconds:.1f} s",
        f"{speed:,.0f}",
    ]
    return [lane.name, said, *counts, cost, _audited(audits[lane.name])]


def _audited(found: Audit) -> str:
    """The audit in a few words."""
    words = []
    if found.equations:
        words.append(f"{sum(each.true for each in found.equations)} of {len(found.equations)} equations true")
    words += [name for name, has in (("checks", found.has_check), ("goes back", found.has_backtrack)) if has]
    if found.loop:
        words.append("repeats itself")
    if found.disagreement:
        words.append("answers otherwise than it thought")
    return ", ".join(words)


def _print_json(lanes: Sequence[Lane], problem: Problem, audits: Mapping[str, Audit]) -> None:
    from dataclasses import asdict
    from json import dumps

    from thinksmith.cli.screen import write
    from thinksmith.verify import verify

    for lane in lanes:
        told: dict[str, Any] = {"model": lane.name, "error": lane.error, "first_seconds": lane.first}
        if lane.trace:
            told |= {"trace": asdict(lane.trace), "verdict": asdict(verify(problem, lane.trace))}
            told["audit"] = audits[lane.name].to_dict()
        write(sys.stdout, dumps(told, ensure_ascii=False, default=str))
