"""An engine behind an endpoint: the contract of `engines/contract.py` over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256

from thinksmith.engines.contract import Delta, EngineInfo
from thinksmith.engines.remote import prices, settings
from thinksmith.engines.remote.continuing import Continuing
from thinksmith.engines.remote.names import Endpoint, endpoint
from thinksmith.engines.remote.turn import Turn, is_models_own
from thinksmith.engines.remote.wire.client import Client, Patience
from thinksmith.engines.remote.wire.faults import Fault
from thinksmith.engines.remote.wire.pace import MOST, START
from thinksmith.engines.remote.wire.retries import Retries
from thinksmith.errors import UserError
from thinksmith.policy.tools import check_tools
from thinksmith.records import Request, Trace


class RemoteEngine:
    """Fulfils `thinksmith.engines.contract.Engine`.

    A request of n is n calls: each has its seed, and one that breaks costs itself alone; servers keep the prompt's
    cache between them. A request that the server refuses (a prompt that is too long) is a trace with finish="error";
    an endpoint that cannot be reached, or that wants a key, raises a Fault, which is a UserError.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        patience: Patience | None = None,
        retries: Retries | None = None,
        price_table: prices.Prices | None = None,
        start: int = START,
        most: int = MOST,
    ) -> None:
        self.endpoint = endpoint
        self._client = Client(
            endpoint.base,
            key=endpoint.key,
            key_variable=endpoint.preset.key_variable,
            patience=patience,
            retries=retries,
            start=start,
            most=most,
        )
        self._prices = price_table or prices.load()

    @property
    def info(self) -> EngineInfo:
        preset, continuing = self.endpoint.preset, Continuing(self.endpoint, self._client)
        return EngineInfo(
            self.endpoint.name,
            logprobs="logprobs" in preset.samplers,
            prefill=continuing.anywhere,
            budget=bool(preset.budget) or continuing.answers,
        )

    @property
    def room(self) -> int:
        return self._client.room

    def cost(self, prompt_tokens: int, sampled: int) -> float | None:
        """US dollars for so many tokens by the price table, nothing of the prompt cached; None without a price."""
        return self._prices.cost(self.endpoint, prompt_tokens, 0, sampled)

    async def sample(self, request: Request) -> list[Trace]:
        """The request's n traces, in order. Raises Fault, UserError."""
        check_tools(request.tools, request.tool_choice)
        numbers = range(request.first, request.first + request.n)
        tasks = [asyncio.ensure_future(self._trace(request, index)) for index in numbers]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _trace(self, request: Request, index: int) -> Trace:
        async with aclosing(self._deltas(request, index)) as deltas:
            async for delta in deltas:
                if delta.trace:
                    return delta.trace
        raise AssertionError("the last delta has the trace")

    async def stream(self, request: Request) -> AsyncGenerator[Delta]:
        """Deltas of one completion. Raises Fault, UserError."""
        if request.n != 1:
            raise UserError("a stream is of one completion: ask with n=1")
        check_tools(request.tools, request.tool_choice)
        async with aclosing(self._deltas(request, request.first)) as deltas:
            async for delta in deltas:
                yield delta

    async def _deltas(self, request: Request, index: int) -> AsyncGenerator[Delta]:
        sampling = request.sampling
        if index:
            sampling = replace(sampling, seed=_seed(sampling.seed, index))
        turn = Turn(self.endpoint, self._client, request, sampling)
        try:
            async with aclosing(turn.deltas()) as deltas:
                async for delta in deltas:
                    yield delta
        except Fault as fault:
            if not is_models_own(fault):
                raise
            turn.draft.finish, turn.draft.error = "error", str(fault)
        yield Delta("done", trace=turn.draft.trace(self.endpoint, request.sampling, self._prices))

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        """Synchronous: the traces of every request, in order."""

        async def run() -> list[list[Trace]]:
            return list(await asyncio.gather(*(self.sample(request) for request in requests)))

        return asyncio.run(run())

    async def aclose(self) -> None:
        await self._client.aclose()


def open_remote(name: str, environment: Mapping[str, str] | None = None, *, at_once: int = 0) -> RemoteEngine:
    """The engine of a name such as `ollama/deepseek-r1:7b`, by the user's settings. Nothing is asked yet.

    `at_once`: calls that the endpoint is known to bear at once, so that it need not be found out; 0: not known.
    """
    environment = os.environ if environment is None else environment
    own = settings.load(environment)
    place, table = endpoint(name, environment, own), prices.load(own.prices)
    return RemoteEngine(place, price_table=table, start=at_once or START, most=at_once or MOST)


def _seed(seed: int, index: int) -> int:
    """Of the index-th of several completions: 31 bits, so that every server takes it. The first has the request's."""
    return int.from_bytes(sha256(f"{seed}\0{index}".encode()).digest()[:4], "big") >> 1
