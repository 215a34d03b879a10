"""The local engine: continuous batching over the policy's live weights, in this process.

One thread owns the batch. It starts with the first request, decodes while there is anything to decode, and ends soon
after. Callers hand it jobs and wait for their futures; traces are put together in the caller's thread, so the
decode loop is not held up by text.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import warnings
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from math import inf

import torch

from thinksmith.engines.contract import Delta, EngineInfo, PromptLogprobs
from thinksmith.engines.local.attention import register
from thinksmith.engines.local.batch import Batch
from thinksmith.engines.local.beats import Beats
from thinksmith.engines.local.grammar import Grammars, is_constrained
from thinksmith.engines.local.guide import Plan
from thinksmith.engines.local.memory import out_of_memory
from thinksmith.engines.local.reading import Reading
from thinksmith.engines.local.rows import Closing, Job, Row, Watch, opened_in, still_thinks, trace_of
from thinksmith.errors import UserError
from thinksmith.native.threads import let_go
from thinksmith.policy.policy import Policy
from thinksmith.policy.tools import check_tools
from thinksmith.records import Message, Request, Sampling, Trace
from thinksmith.thinking import Part, Piece, Tags

SLOTS = 256
LINGER = 1.0  # seconds that the thread waits for more before it ends
_RUNNING: weakref.WeakSet[LocalEngine] = weakref.WeakSet()  # whose thread was started


class LocalEngine:
    """Samples a policy; fulfils `thinksmith.engines.contract.Engine`.

    `slots`: the most samples decoded at one time (default 256). It decodes fewer while their keys and values would not
    fit into half of the free memory; the rest waits, and rows that turn out not to fit begin again later. `native` and
    `graphs`: False keeps it from the decoder in C on a CPU, and from CUDA graphs on a GPU.

    It reads the policy's own weights, so after a training step the next request is answered by the new ones; nothing is
    copied. Do not train while requests run. While it decodes, the model is in evaluation mode; the mode is put back.

    Why a sample ended (`Trace.finish`): `stop` at an end-of-turn id or a stop string (which is not part of the text);
    `length` at `max_tokens` or the end of the context; `budget` if the tokens ran out while, or right after, the end of
    the thinking was forced, so that no answer could come; `error` with the reason in `Trace.error`.

    When `max_thinking_tokens` are reached, `closing` and the end tag on a line of its own are forced (these tokens come
    on top of the budget) and the model goes on with its answer. Until `min_thinking_tokens` were sampled, the end tag
    and the end of turn are withheld, and `wait` is put where the model draws one. Forced tokens are in `token_ids` with
    the log-probability that the model gives them, and `forced` tells their positions.

    An answer by a `schema`, or one that must be a call of `tools`, is drawn from what its grammar allows, and so ends
    only where it is whole; the thinking before it is free, but the turn cannot end there (`guide.py`).
    Log-probabilities stay those of the model. It needs llguidance, of the extra `serve`.
    """

    def __init__(self, policy: Policy, *, slots: int | None = None, native: bool = True, graphs: bool = True) -> None:
        if slots is not None and slots < 1:
            raise UserError(f"slots must be at least 1, not {slots}")
        register(policy.model, policy.name)
        self._policy = policy
        self._slots = slots or SLOTS
        self._options = {"native": native, "graphs": graphs}
        self._batch = self._new_batch()
        self._closing: Closing | None = None
        self._grammars: Grammars | None = None
        self._making = threading.Lock()  # of the grammars
        self._changed = threading.Condition()  # guards all below
        self._inbox: deque[Job] = deque()
        self._asides: deque[tuple[Future[PromptLogprobs], Callable[[], PromptLogprobs]]] = deque()
        self._gathered: dict[asyncio.AbstractEventLoop, list[Job]] = {}  # in this turn of each
        self._beats: dict[asyncio.AbstractEventLoop, Beats] = {}
        self._pending = 0  # rows that were asked for and have not ended
        self._thread: threading.Thread | None = None
        self._closed = False
        self._cancelled = False  # a request was, and its rows are still here
        self._warned = False
        self._training: bool | None = None  # the mode that the model is put back into

    def _new_batch(self) -> Batch:
        return Batch(self._policy, self._slots, **self._options)

    @property
    def info(self) -> EngineInfo:
        policy = self._policy
        return EngineInfo(
            name=policy.name,
            weights_hash=policy.weights_hash(),
            context_length=policy.context_length,
            logprobs=True,
            prefill=True,
            token_ids=True,
            budget=True,
            sampling=policy.sampling,
            vocabulary=policy.vocab_size,
        )

    @property
    def policy(self) -> Policy:
        """The model that it samples."""
        return self._policy

    @property
    def room(self) -> int:
        """Requests that it wants now: enough that a slot never waits for one."""
        return max(0, 2 * self._slots - self._pending)

    @property
    def tags(self) -> Tags:
        """The tags of the model's thinking."""
        return self._policy.tags

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included and spaces untouched."""
        return self._policy.decode(ids)

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of `text` as it stands: nothing is put before or after it."""
        return self._policy.encode(text)

    def turn(self, messages: Sequence[Message], *, ended: bool) -> tuple[int, ...]:
        """The ids between what the assistant sampled and where it goes on after `messages`; see `Policy.turn`."""
        return self._policy.turn(messages, ended=ended)

    @property
    def opens_thinking(self) -> bool:
        """Does the model's template open a thinking when its turn begins?"""
        return self._policy.opens_thinking

    @property
    def memory(self) -> int:
        """Bytes that its buffers take now, beside the weights: keys, values and what passes are computed in."""
        return self._batch.memory

    async def sample(self, request: Request) -> list[Trace]:
        """The request's traces. Raises UserError for a request that can never work; cancelling frees its slots."""
        await self._compile(request)
        job = self._prepare(request)
        self._gather(job)
        try:
            rows = await asyncio.wrap_future(job.done)
        finally:
            job.done.cancel()
        return [trace_of(self._policy, row) for row in rows]

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        """Pieces of the one completion as they are sampled (prefill not included), then the trace."""
        if request.n != 1:
            raise UserError(f"only one completion can be streamed, not n={request.n}")
        await self._compile(request)
        loop, job = asyncio.get_running_loop(), self._prepare(request)
        (row,), reading, ended = job.rows, Reading(self._policy, job), False
        with self._beats_of(loop).follow(row) as arrived:
            job.done.add_done_callback(lambda _: _set(arrived, loop))
            self._gather(job)
            try:
                while not ended:
                    await arrived.wait()
                    arrived.clear()
                    ended = job.done.done()  # before looking: what comes now is looked at again
                    for delta in _joined(reading.last(row) if ended else reading.more(row)):
                        yield delta
                yield Delta("done", trace=trace_of(self._policy, job.done.result()[0]))
            finally:
                job.done.cancel()

    def _beats_of(self, loop: asyncio.AbstractEventLoop) -> Beats:
        """The loop's; those that nobody follows any more are forgotten."""
        mine = self._beats.get(loop) or Beats(loop)
        self._beats = {each: beats for each, beats in self._beats.items() if beats.followed} | {loop: mine}
        return mine

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        """The traces of every request, in order. Blocks; Ctrl-C cancels what is left."""
        jobs: list[Job] = []
        try:
            for request in requests:
                jobs.append(self._prepare(request))  # noqa: PERF401  what was prepared is cancelled if a later one fails
            self._enqueue(jobs)
            return [[trace_of(self._policy, row) for row in job.done.result()] for job in jobs]
        finally:
            for job in jobs:
                job.done.cancel()

    async def prompt_logprobs(self, ids: Sequence[int], top: int = 0) -> PromptLogprobs:
        """Log-probabilities of a text's own tokens, and the `top` likeliest at each place; computed between two steps
        of what runs. Raises UserError for ids that the model does not have, and for more than its context."""
        policy = self._policy
        self._check_ids(ids)
        if len(ids) > policy.context_length:
            raise UserError(f"the text has {len(ids)} tokens and the context ends at {policy.context_length}")
        done: Future[PromptLogprobs] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._asides.append((done, lambda: PromptLogprobs(*policy.scored(ids, top))))
            self._start()
        return await asyncio.wrap_future(done)

    async def aclose(self) -> None:
        """Cancel what runs and give the memory back. The engine takes no more requests."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """The same for callers without an event loop."""
        self._stop()
        self._batch.release()

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def release(self) -> None:
        """Give the cache's memory back until the next request; for before a backward pass. Nothing may be running."""
        with self._changed:
            if self._pending:
                raise RuntimeError("requests are running")
            self._batch.release()

    def _gather(self, job: Job) -> None:
        """Hand over what is asked for in one turn of the event loop at once, a batch full at most: a batch that grows
        while hundreds of prompts are rendered takes hundreds of steps that each serve few."""
        loop = asyncio.get_running_loop()
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            jobs = self._gathered.setdefault(loop, [])
            jobs.append(job)
            self._pending += len(job.rows)  # so that `room` counts it
        if len(jobs) >= self._slots:
            self._hand_over(loop)
        elif len(jobs) == 1:
            loop.call_soon(self._hand_over, loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._changed:
            jobs = self._gathered.pop(loop, [])
            self._pending -= sum(len(job.rows) for job in jobs)
        if not jobs:  # a batch was full before the loop came round
            return
        try:
            self._enqueue(jobs)
        except RuntimeError:  # closed meanwhile
            for job in jobs:
                job.done.cancel()

    async def _compile(self, request: Request) -> None:
        """Make a grammar that will be needed beside the event loop, since it may take long. Raises UserError."""
        if is_constrained(request):
            await asyncio.to_thread(self._plan, request, "")

    def _plan(self, request: Request, opened: str) -> Plan | None:
        """The law of the answer, if there is one. Raises UserError."""
        check_tools(request.tools, request.tool_choice)
        if not is_constrained(request):
            return None
        with self._making:
            self._grammars = self._grammars or Grammars(self._policy)
        return Plan(self._policy, self._grammars, request, opened).check()

    def _check_ids(self, ids: Sequence[int]) -> None:
        policy = self._policy
        if not ids or not 0 <= min(ids) <= max(ids) < policy.vocab_size:
            raise UserError(f"a prompt needs ids between 0 and {policy.vocab_size - 1} for model {policy.name}")

    def _prepare(self, request: Request) -> Job:
        """Render and check a request. Raises UserError."""
        check_sampling(request.sampling)
        if request.n < 1 or request.first < 0:
            raise UserError(f"n must be at least 1, and first at least 0, not {request.n} and {request.first}")
        policy = self._policy
        if request.messages:
            shown = () if request.tool_choice == "none" else request.tools
            check_tools(request.tools, request.tool_choice)
            rendered = policy.render(request.messages, request.prefill, tools=shown)
            prompt, opened = rendered.ids, rendered.opened
        else:
            prompt = (*request.token_ids, *policy.encode(request.prefill))
            opened = ""
        self._check_ids(prompt)
        if not request.messages:
            opened = opened_in(policy.decode(prompt), policy.tags) or request.prefill
        plan = self._plan(request, opened)
        job = Job(request, prompt, opened, still_thinks(opened, policy.tags), plan)
        job.done.add_done_callback(self._note_cancelled)
        limit = min(request.sampling.max_tokens, policy.context_length - len(prompt))
        job.rows = [Row(job, request.first + at, limit, self._watch(job)) for at in range(request.n)]
        if limit < 1:
            for row in job.rows:
                row.end("error", f"the prompt has {len(prompt)} tokens and the context ends at {policy.context_length}")
        return job

    def _watch(self, job: Job) -> Watch | None:
        if not Watch.wanted(job):
            return None
        self._closing = self._closing or Closing.of(self._policy)
        return Watch(self._policy, job, self._closing)

    def _enqueue(self, jobs: Sequence[Job]) -> None:
        let_go()  # the caller waits, or does other things than compute
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            for job in jobs:
                job.settle()
                if not job.done.done():
                    self._inbox.append(job)
                    self._pending += len(job.rows)
            if self._inbox:
                self._start()

    def _start(self) -> None:
        """Wake the thread, or begin one; `_changed` is held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="thinksmith-engine", daemon=True)
            self._thread.start()
            _RUNNING.add(self)
        self._changed.notify_all()

    @torch.no_grad()  # not inference_mode: its tensors would poison training if a model kept one
    def _run(self) -> None:
        """The thread: take what came, fill free slots, decode one token, settle what ended."""
        waiting: deque[Row] = deque()
        while self._next(waiting):
            try:
                while self._collect(waiting):
                    self._advance(waiting)
            except Exception as error:  # a mistake of ours: nobody shall wait for a thread that is no more
                self._give_up(waiting, error)
            finally:
                self._put_mode_back()

    def _next(self, waiting: deque[Row]) -> bool:
        """Wait for work; False once there was none for a while, and the thread is over."""
        let_go()  # whoever has the traces may compute next
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._asides or self._closed, LINGER)
            if (self._inbox or self._asides) and not self._closed:
                return True
            for job in self._inbox:
                job.done.cancel()
            for done, _ in self._asides:
                done.cancel()
            self._inbox.clear()
            self._asides.clear()
            self._thread = None
            return False

    def _collect(self, waiting: deque[Row]) -> bool:
        """Move new jobs' rows to the queue, and take out what was cancelled; is there anything to do?"""
        with self._changed:
            for job in self._inbox:
                waiting.extend(job.rows)
            self._inbox.clear()
            closed, cancelled = self._closed, self._cancelled
            self._cancelled = False
            asides = list(self._asides)
            self._asides.clear()
        for done, compute in asides:
            _settle(done, compute, closed)
        if not closed and not cancelled:
            return bool(waiting or self._batch.rows)
        gone = {id(row) for row in (*self._batch.rows, *waiting) if closed or row.job.done.cancelled()}
        if gone:
            out = self._batch.drop(row for row in self._batch.rows if id(row) in gone)
            out += [row for row in waiting if id(row) in gone]
            left = [row for row in waiting if id(row) not in gone]
            waiting.clear()
            waiting.extend(left)
            for row in out:
                row.job.done.cancel()
            self._count_off(len(out))
        return bool(waiting or self._batch.rows)

    def _advance(self, waiting: deque[Row]) -> None:
        if self._training is None:
            self._training = self._policy.model.training
            self._policy.model.eval()
        ended: list[Row] = []
        try:
            self._batch.admit(waiting)
            ended += self._batch.fill()
            if any(row.ready for row in self._batch.rows):
                ended += self._batch.step(waiting)
        except Exception as error:  # nobody waits on this thread: tell those who wait for its rows
            if out_of_memory(error) and self._batch.shrink(waiting):
                self._warn_of_memory()
            else:
                # In an empty batch it was the first who waits that could not come in.
                failed = list(self._batch.rows) or [waiting.popleft()]
                for row in failed:
                    if row.finish is None:
                        row.end("error", f"{type(error).__name__}: {error}")
                self._batch.drop(list(self._batch.rows))
                ended += failed
                self._batch.release()
        if not self._batch.rows and not waiting:
            self._put_mode_back()  # before anybody who has his traces goes on to train
        self._count_off(len(ended))
        for row in ended:
            row.job.settle()
        for beats in self._beats.values():  # the table is never changed, only replaced
            if beats.followed:
                beats.step()

    def _give_up(self, waiting: deque[Row], error: Exception) -> None:
        """The batch is in a state that was not foreseen: end all rows, and begin with a new one."""
        rows = [*self._batch.rows, *waiting]
        waiting.clear()
        self._batch = self._new_batch()
        for row in rows:
            if row.finish is None:
                row.end("error", f"{type(error).__name__}: {error}")
        self._count_off(len(rows))
        for row in rows:
            row.job.settle()

    def _put_mode_back(self) -> None:
        if self._training is not None:
            self._policy.model.train(self._training)
            self._training = None

    def _note_cancelled(self, done: Future[list[Row]]) -> None:
        if done.cancelled():
            with self._changed:
                self._cancelled = True

    def _warn_of_memory(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"out of memory: {self._policy.name} is sampled in smaller batches from now on",
                RuntimeWarning,
                stacklevel=2,
            )

    def _count_off(self, rows: int) -> None:
        with self._changed:
            self._pending -= rows


def _set(event: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """From another thread."""
    with suppress(RuntimeError):  # the loop is closed: nobody listens any more
        loop.call_soon_threadsafe(event.set)


def _joined(pieces: Sequence[Piece]) -> list[Delta]:
    """Neighbours of the same part are one."""
    found: list[tuple[Part, list[str]]] = []
    for part, text in pieces:
        if not found or found[-1][0] != part:
            found.append((part, []))
        found[-1][1].append(text)
    return [Delta(part, "".join(texts)) for part, texts in found]


def _settle(done: Future[PromptLogprobs], compute: Callable[[], PromptLogprobs], closed: bool) -> None:
    """Do what somebody waits for; a failure is his."""
    if closed:
        done.cancel()
    elif done.set_running_or_notify_cancel():
        try:
            done.set_result(compute())
        except Exception as error:
            done.set_exception(error)


@atexit.register
def _stop_all() -> None:
    """End the threads before Python does. A thread that comes back from torch into an interpreter that is ending is
    unwound through C++ that may not throw, and the process aborts: "terminate called without an active exception"."""
    for engine in list(_RUNNING):
        engine._stop()


def check_sampling(sampling: Sampling) -> None:
    """Raises UserError for numbers that mean nothing."""
    rules = (
        (sampling.temperature >= 0, "temperature must be 0 or more"),
        (0 < sampling.top_p <= 1, "top_p must lie in (0, 1]"),
        (sampling.top_k >= 0, "top_k must be 0 (off) or more"),
        (0 <= sampling.min_p <= 1, "min_p must lie in [0, 1]"),
        (sampling.max_tokens >= 1, "max_tokens must be at least 1"),
        ((sampling.max_thinking_tokens or 0) >= 0, "max_thinking_tokens must be 0 or more"),
        (sampling.min_thinking_tokens >= 0, "min_thinking_tokens must be 0 or more"),
        (0 < sampling.repetition_penalty < inf, "repetition_penalty must be more than 0"),
        (sampling.top_logprobs >= 0, "top_logprobs must be 0 (off) or more"),
    )
    for holds, rule in rules:
        if not holds:
            raise UserError(rule)
