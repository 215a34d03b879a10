"""An engine that notes every trace which it is asked for: for strategies that ask through others' hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from thinksmith.engines.around import Around
from thinksmith.engines.contract import Delta, Engine
from thinksmith.records import Request, Trace
from thinksmith.strategies.draws import spent


class Ledger(Around):
    """The engine, and what it gave. What is streamed is noted when it is complete."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._pages: list[list[Trace]] = []

    @property
    def traces(self) -> tuple[Trace, ...]:
        """All that came, in the order of asking."""
        return tuple(trace for page in self._pages for trace in page)

    @property
    def tokens(self) -> int:
        """Sampled tokens of all of them."""
        return spent(self.traces)

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

    def _page(self) -> list[Trace]:
        page: list[Trace] = []
        self._pages.append(page)
        return page
