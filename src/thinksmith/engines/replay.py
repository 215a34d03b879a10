"""Recorded attempts as an engine: a strategy is judged offline, for nothing, on what a model wrote before.

`replay/RUN` (a run of the store by its id, or `last`), `replay/FILE.jsonl` (with columns as `thinksmith verify
--file` takes them) or `replay/FOLDER` of such files; `?seed=N` for another order. A problem's attempts are given
out in an order that (seed, problem) alone decide, each once: sampling without replacement. The same sample (problem,
sampling seed, number within the request) is the same trace again, another one the next; when all are given out, a
trace says so and is an error. Nothing is ever given twice as if it were new.

What was recorded cannot be changed: a request for fewer tokens than a trace has gets its beginning, as the model
would have been cut off; a smaller budget of thinking gets an error, since nobody knows what the model would have
answered then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from thinksmith.engines.contract import Delta, EngineInfo
from thinksmith.errors import UserError
from thinksmith.records import Message, Problem, Request, Sampling, Trace
from thinksmith.thinking import detect_tags, split

PREFIX = "replay/"
ROOM = 4096


@dataclass(slots=True)
class _Pool:
    """A problem's traces in their order; `given` tells which sample of which seed has which."""

    traces: list[Trace]
    given: dict[tuple[int, int], int]


class ReplayEngine:
    """Fulfils `thinksmith.engines.contract.Engine`."""

    def __init__(self, attempts: Sequence[tuple[Problem, Trace]], name: str, seed: int = 0) -> None:
        if not attempts:
            raise UserError(f"{name} holds no attempts: name a run or a file that does")
        self._name = name
        self._pools: dict[str, _Pool] = {}
        for problem, trace in attempts:
            self._pools.setdefault(problem.text.strip(), _Pool([], {})).traces.append(trace)
        for text, pool in self._pools.items():
            keyed = [(sha256(f"{seed}\0{text}\0{at}".encode()).digest(), at) for at in range(len(pool.traces))]
            pool.traces = [pool.traces[at] for _, at in sorted(keyed)]
        self._by_length = sorted(self._pools, key=len, reverse=True)
        models = {trace.model for _, trace in attempts}
        self._sampling = next((trace.sampling for _, trace in attempts), Sampling())
        self._model = models.pop() if len(models) == 1 else ""

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(self._name, sampling=self._sampling)

    @property
    def room(self) -> int:
        return ROOM

    async def sample(self, request: Request) -> list[Trace]:
        """The next n traces of the problem. Raises UserError for one that was not recorded, for a prefill, and for an
        answer by a law of its own."""
        if request.prefill or request.token_ids:
            raise UserError(f"{self._name} has whole traces: nothing can be continued, so leave out the prefill")
        if request.schema is not None or request.tools:
            raise UserError(f"{self._name} has what was said: leave out the schema and the tools")
        pool = self._pool(request.messages)
        keys = [(request.sampling.seed, request.first + at) for at in range(request.n)]
        for key in keys:
            pool.given.setdefault(key, len(pool.given))
        return [self._trace(pool, pool.given[key], request.sampling) for key in keys]

    def _pool(self, messages: Sequence[Message]) -> _Pool:
        """By the conversation as it was, else by the longest recorded problem that the last message of the user's holds
        at its beginning or end, beside an instruction."""
        whole = "\n\n".join(message["content"] for message in messages).strip()
        if whole in self._pools:
            return self._pools[whole]
        asked = next((m["content"].strip() for m in reversed(messages) if m["role"] == "user"), "")
        if asked in self._pools:
            return self._pools[asked]
        for text in self._by_length:
            if text and (asked.startswith(text) or asked.endswith(text)):
                return self._pools[text]
        raise UserError(f"{self._name} has no attempt at this problem: {' '.join(asked.split())[:60]!r}")

    def _trace(self, pool: _Pool, at: int, sampling: Sampling) -> Trace:
        if at >= len(pool.traces):
            why = f"only {len(pool.traces)} attempts at this problem are recorded"
            return Trace("", "", "none", finish="error", error=why, model=self._name, sampling=sampling)
        trace = replace(pool.traces[at], sampling=sampling)
        most = sampling.max_thinking_tokens
        if most is not None and most < trace.thinking_tokens:
            why = f"it thought for {trace.thinking_tokens} tokens: what it would have said after {most} is not recorded"
            return Trace("", "", "none", finish="error", error=why, model=self._name, sampling=sampling)
        return _cut(trace, sampling.max_tokens) if trace.tokens > sampling.max_tokens else trace

    async def stream(self, request: Request) -> AsyncGenerator[Delta]:
        """A trace in two pieces."""
        (trace,) = await self.sample(replace(request, n=1))
        if trace.thinking:
            yield Delta("thinking", trace.thinking)
        if trace.answer:
            yield Delta("answer", trace.answer)
        yield Delta("done", trace=trace)

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        async def run() -> list[list[Trace]]:
            return [await self.sample(request) for request in requests]

        return asyncio.run(run())

    async def aclose(self) -> None:
        """There is nothing to free."""


def _cut(trace: Trace, most: int) -> Trace:
    """The beginning of a trace, of `most` tokens.

    Where characters and tokens lie to each other is not recorded, so the text is cut in proportion.
    """
    completion = trace.completion[: len(trace.completion) * most // trace.tokens]
    parts = split(completion, detect_tags(trace.text), "<think>" in trace.opened)
    ids = trace.token_ids[:most]
    thinking = min(most, trace.thinking_tokens)
    return replace(
        trace,
        thinking=parts.thinking,
        answer=parts.answer,
        thinking_status=parts.status,
        token_ids=ids,
        logprobs=trace.logprobs[:most] if trace.logprobs else None,
        top_logprobs=trace.top_logprobs[:most] if trace.top_logprobs else None,
        forced=tuple(at for at in trace.forced if at < most),
        thinking_tokens=thinking,
        answer_tokens=most - thinking,
        finish="length",
        completion=completion,
    )


def open_replay(name: str, environment: Mapping[str, str]) -> ReplayEngine:
    """The engine of `replay/RUN` or `replay/FILE`. Raises UserError."""
    from thinksmith.problems.recorded import read_recorded
    from thinksmith.store.store import Store

    source, _, options = name.removeprefix(PREFIX).partition("?")
    key, _, seed = options.partition("=")
    if options and (key != "seed" or not seed.lstrip("-").isdigit()):
        raise UserError(f"{name}: {options!r} is not known: write ?seed=N")
    if not source:
        raise UserError("replay/ names no record: write replay/RUN (thinksmith runs lists them) or replay/FILE.jsonl")
    attempts: list[tuple[Problem, Trace]]
    if "." in source or "/" in source:
        attempts = [(row.problem, row.trace) for file in _files(source) for row in read_recorded(file)]
    else:
        with Store.open() as store:
            attempts = [(each.attempt.problem, each.attempt.trace) for each in store.attempts(source)]
    return ReplayEngine(attempts, name, int(seed or 0))


def _files(source: str) -> list[str]:
    """A file, with what stands behind its name; of a folder all that can be read."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return [source]
    return [str(file) for file in sorted(folder.iterdir()) if file.name.endswith((".jsonl", ".jsonl.gz", ".parquet"))]
