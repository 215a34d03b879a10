"""An engine around another, for whoever looks on or asks a little otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from thinksmith.engines.contract import Delta, Engine, EngineInfo, Reads, Turns
from thinksmith.records import Request, Trace


class Around:
    """Fulfils `thinksmith.engines.contract.Engine`, and `Reads` and `Turns` where the engine inside does. All is handed
    on to that, but for what an heir does itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        if isinstance(engine, Reads):
            self.tags, self.decode = engine.tags, engine.decode
        if isinstance(engine, Turns):
            self.turn = engine.turn

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    @property
    def room(self) -> int:
        return self._engine.room

    async def sample(self, request: Request) -> list[Trace]:
        return await self._engine.sample(request)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        async for delta in self._engine.stream(request):
            yield delta

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        return self._engine.sample_all(requests)

    async def aclose(self) -> None:
        await self._engine.aclose()
