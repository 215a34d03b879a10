"""`thinksmith ask TEXT`: one question, its thinking and its answer; `--replay` samples the answer again."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from thinksmith.engines.contract import Engine
    from thinksmith.records import Attempt, Problem, Request, Trace
    from thinksmith.store.store import Store, StoredAttempt

Show = Literal["answer", "all", "json"]
_NAME = 60  # characters of the question by which its run is listed


def ask(
    text: Annotated[str, typer.Argument(metavar="TEXT|-", help="The question; - reads standard input.")] = "",
    show: Annotated[Show, typer.Option(help="What is printed; json has all of the trace.")] = "all",
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="As thinksmith models lists them, a folder or a hub id. [default: as it says there]"
        ),
    ] = "",
    think: Annotated[int | None, typer.Option(min=0, metavar="N", help="Most tokens of the thinking.")] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, metavar="T", help="0 takes the likeliest token. [default: the model's own, or 0.6]"),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most tokens, thinking and answer together. [default: 1024]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="The same seed gives the same tokens. [default: 0]")
    ] = None,
    prefill: Annotated[str, typer.Option(metavar="TEXT", help="Text with which the model's turn begins.")] = "",
    replay: Annotated[
        str, typer.Option(metavar="ATTEMPT", help="Keep this attempt's thinking (its number, or last); answer again.")
    ] = "",
    n: Annotated[int, typer.Option("-n", min=1, metavar="N", help="How many answers, with --replay.")] = 5,
) -> None:
    """Ask a question: streams the thinking, then the answer. Every attempt is kept in the store."""
    from thinksmith.errors import UserError
    from thinksmith.store.store import Store

    given = {"max_thinking_tokens": think, "temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    settings = {name: value for name, value in given.items() if value is not None}
    if replay and (text or prefill):
        raise UserError("--replay asks no new question: leave out the question and --prefill")
    question = "" if replay else _question(text)
    with Store.open() as store:
        if replay:
            _replay(store, replay, n, settings, model, show)
        else:
            from thinksmith.engines.remote.settings import default_model

            _ask(store, question, settings, model or default_model(os.environ), prefill, show)


def _question(text: str) -> str:
    from thinksmith.cli.texts import STANDARD_INPUT, read_text
    from thinksmith.errors import UserError

    question = read_text(STANDARD_INPUT).strip() if text == STANDARD_INPUT else text.strip()
    if not question:
        raise UserError('there is no question: write one, such as thinksmith ask "What is 27 * 34?"')
    try:
        question.encode()
    except UnicodeEncodeError:
        raise UserError("the question is not UTF-8 text: convert it to UTF-8") from None
    return question


def _ask(store: Store, question: str, settings: Mapping[str, Any], model: str, prefill: str, show: Show) -> None:
    import asyncio
    from dataclasses import replace

    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.cli.screen import one_line
    from thinksmith.engines import open_engine
    from thinksmith.records import Problem, Request

    _note_limits(model, question)
    engine = open_engine(model)
    problem = Problem(f"ask/{sha256(question.encode()).hexdigest()[:12]}", question)
    sampling = replace(engine.info.sampling, **settings)
    request = Request(messages=problem.messages, prefill=prefill, sampling=sampling)
    try:
        trace = asyncio.run(_stream(engine, request, show))
    except KeyboardInterrupt:
        raise Interrupted("interrupted; an answer that is not finished is not kept") from None
    ((number, attempt),) = _keep(store, "ask", one_line(question)[:_NAME], engine, [(problem, trace)])
    if show == "json":
        _print_json(number, attempt)
    _note_missing(trace)


def _note_limits(model: str, question: str) -> None:
    """Say what an embedded model does not know, before it tries."""
    from thinksmith import models

    if model.split(":")[0] not in models.EMBEDDED:
        return
    from thinksmith.problems.scope import KNOWN, outside

    if reason := outside(question):
        _note(f"{model} knows {KNOWN}; this question {reason}: name a real model with --model")


def _note_missing(trace: Trace) -> None:
    from thinksmith.errors import UserError

    if trace.finish == "error":
        raise UserError(f"the model failed: {trace.error or 'it gave no reason'}")
    if trace.thinking_status == "truncated":
        _note(
            f"nothing was answered: the thinking was cut off at {trace.tokens:,} tokens; allow more with --max-tokens"
        )
    elif trace.finish == "length":
        _note(f"the answer was cut off at {trace.tokens:,} tokens; allow more with --max-tokens")
    elif not trace.answer.strip():
        _note("nothing was answered: the model ended its turn after thinking")
    for note in trace.usage.notes if trace.usage else ():
        _note(note)


def _note(text: str) -> None:
    print(f"thinksmith: {text}", file=sys.stderr, flush=True)


async def _stream(engine: Engine, request: Request, show: Show) -> Trace:
    """Print what comes, as it comes, and return the trace."""
    from thinksmith.cli.transcript import Transcript

    transcript = Transcript(thinking=show == "all") if show != "json" else None
    try:
        async for delta in engine.stream(request):
            if delta.trace:
                if transcript:
                    transcript.end()
                return delta.trace
            if delta.part == "reset":
                _note("the connection broke: the model begins again, and what stands above does not count")
                if transcript:
                    transcript.again()
            elif transcript and delta.part != "done":
                transcript.write(delta.part, delta.text)
        raise RuntimeError("the engine's stream ended without a trace")
    finally:
        await engine.aclose()


def _replay(store: Store, name: str, n: int, settings: Mapping[str, Any], model: str, show: Show) -> None:
    import asyncio
    from dataclasses import replace

    from thinksmith.cli.interrupt import Interrupted
    from thinksmith.engines import open_engine
    from thinksmith.errors import UserError
    from thinksmith.strategies.replay import replay_request

    stored = _latest_ask(store) if name == "last" else store.attempt(name)
    before = stored.attempt.trace
    request = replay_request(before, n, replace(before.sampling, **settings))
    engine = open_engine(model or before.model)
    made_by, now = store.run(stored.run_id).weights_hash, engine.info.weights_hash
    if made_by and now and made_by != now:
        raise UserError(
            f"attempt {stored.id} was made by other weights than {engine.info.name} has: name its own model"
        )
    try:
        traces = asyncio.run(_sample(engine, request))
    except KeyboardInterrupt:
        raise Interrupted("interrupted; answers that are not finished are not kept") from None
    kept = _keep(store, "replay", f"attempt {stored.id}", engine, [(stored.attempt.problem, trace) for trace in traces])
    if show == "json":
        for number, attempt in kept:
            _print_json(number, attempt)
    else:
        _print_answers(stored, [attempt for _, attempt in kept], thinking=show == "all")


async def _sample(engine: Engine, request: Request) -> list[Trace]:
    try:
        return await engine.sample(request)
    finally:
        await engine.aclose()


def _latest_ask(store: Store) -> StoredAttempt:
    from thinksmith.errors import UserError

    for run in store.runs():
        if run.kind == "ask" and run.attempts:
            return list(store.attempts(run.id))[-1]
    raise UserError("nothing was asked yet, so there is nothing to replay: ask first, or name an attempt's number")


def _keep(
    store: Store, kind: str, name: str, engine: Engine, tries: Sequence[tuple[Problem, Trace]]
) -> list[tuple[int, Attempt]]:
    """The attempts with their numbers in the store, as a run of their own."""
    from dataclasses import asdict

    from thinksmith.records import Attempt
    from thinksmith.verify import verify

    strategy = "replay" if kind == "replay" else "single"
    attempts = [
        Attempt(problem, trace, verify(problem, trace), sample, strategy)
        for sample, (problem, trace) in enumerate(tries)
    ]
    config = {"sampling": asdict(attempts[0].trace.sampling)}
    run_id = store.start_run(kind, name, engine.info.name, engine.info.weights_hash, config)
    numbers = store.add(run_id, attempts)
    store.finish_run(run_id, {})
    return list(zip(numbers, attempts, strict=True))


def _print_json(number: int, attempt: Attempt) -> None:
    from json import dumps

    from thinksmith.store.attempts import attempt_to_json

    print(dumps({"id": number, **attempt_to_json(attempt)}))


def _print_answers(stored: StoredAttempt, attempts: Sequence[Attempt], *, thinking: bool) -> None:
    """The answers, each with its verdict if there is a gold answer, and how often each came."""
    from collections import Counter

    from thinksmith.cli.screen import clean, console, one_line, status
    from thinksmith.verify.extract import extract

    out = console()
    if thinking:
        out.print(clean(stored.attempt.trace.thinking), style="dim")
        out.print()
    gold = stored.attempt.problem.answer is not None
    tally: Counter[str] = Counter()
    for attempt in attempts:
        answer = attempt.trace.answer.strip()
        out.print(one_line(answer) or "(no answer)", *([" ", status(attempt.verdict.status)] if gold else []), sep=" ")
        found = extract(answer)
        tally[found.text if found else "no answer"] += 1
    out.print(", ".join(f"{one_line(answer)} ×{count}" for answer, count in tally.most_common()), style="bold")
