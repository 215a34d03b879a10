"""An engine that notes every trace which it is asked for: for strategies that ask through others' hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from thinksmith.engines.contract import Delta, Engine, EngineInfo, Reads
from thinksmith.records import Request, Trace
from thinksmith.strategies.draws import spent


class Ledger:
    """Fulfils `thinksmith.engines.contract.Engine`, and `Reads` where the engine behind it does. What is streamed is
    noted when it is complete."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pages: list[list[Trace]] = []
        if isinstance(engine, Reads):
            self.tags, self.decode = engine.tags, engine.decode

    @property
    def traces(self) -> tuple[Trace, ...]:
        """All that came, in the order of asking."""
        return tuple(trace for page in self._pages for trace in page)

    @property
    def tokens(self) -> int:
        """Sampled tokens of all of them."""
        return spent(self.traces)

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    @property
    def room(self) -> int:
        return self._engine.room

    async def sample(self, request: Request) -> list[Trace]:
        page = self._page()
        page += await self._engine.sample(request)
        return list(page)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        page = self._page()
        async for delta in self._engine.stream(request):
            if delta.trace:
                page.append(delta.trace)
            yield delta

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        found = self._engine.sample_all(requests)
        self._pages += [list(traces) for traces in found]
        return found

    async def aclose(self) -> None:
        await self._engine.aclose()

    def _page(self) -> list[Trace]:
        page: list[Trace] = []
        self._pages.append(page)
        return page
