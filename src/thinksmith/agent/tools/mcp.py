"""`mcp:COMMAND ARGUMENT…` and `mcp:http://…`: the tools of an MCP server.

Whoever wrote the server is a stranger. So each of its tools is of kind `send`, whatever it says of itself, and asked
about; descriptions and schemas are made harmless (`mcp_schema.py`), results are text within bounds, and what the server
asks of us (sampling, elicitation, roots) is refused. A server that died is not started again: what it knew is lost, and
what it was doing might be done twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from thinksmith import __version__
from thinksmith.agent.contract import Intent, Result, Tool, ToolFault, Toolset
from thinksmith.agent.observing import clean, harmless
from thinksmith.agent.tools.mcp_schema import described, tool_name, usable
from thinksmith.errors import UserError, one_line

if TYPE_CHECKING:
    import mcp_types
    from mcp.client._transport import TransportStreams
    from mcp.client.client import Client

    from thinksmith.agent.tools.mcp_stdio import Child

_OPENING = 60.0  # seconds until a server has to have told its tools; npx may have to fetch it first
_ANSWER = 20.0  # for one answer meanwhile
_SECONDS = 60.0  # of a call
_LARGEST = 1_000_000  # characters of a result
_TOOLS = 100
_PAGES = 20
_OURS = ("files", "sql", "http", "python", "calculator", "read", "mcp")  # groups that a server may not pose as


async def open_toolset(rest: str) -> Toolset:
    """Start or reach a server, and take its tools. Raises UserError for one that does not answer as it should."""
    spec = rest.strip()
    if not spec:
        raise UserError("mcp: needs a server: mcp:COMMAND ARGUMENT…, or mcp:http://localhost:8000/mcp")
    try:
        import mcp_types  # noqa: F401
        from mcp.client.client import Client  # noqa: F401
    except ImportError:
        raise UserError("an MCP server needs the mcp package: pip install 'thinksmith[agent]'") from None
    for name in ("mcp", "httpx2"):  # what they log would land between the lines of ours
        logging.getLogger(name).addHandler(logging.NullHandler())
    server = _Server(spec)
    await server.open()
    try:
        tools = await server.tools()
    except BaseException:
        await server.aclose()
        raise
    return Toolset(f"mcp:{spec}", tools, server.aclose)


class _Server:
    """A connection to a server, kept by a task of its own: its scopes have to be left where they were entered."""

    def __init__(self, spec: str) -> None:
        self._shown, self._child, self._transport = _reached(spec)
        self._closing = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"mcp {self._shown}")
        try:
            async with asyncio.timeout(_OPENING):
                await asyncio.shield(self._ready)
        except TimeoutError:
            await self.aclose()
            raise UserError(f"mcp: {self._shown} does not answer within {_OPENING:g} s: is it an MCP server?") from None
        except BaseException:
            await self.aclose()
            raise

    async def _keep(self) -> None:
        import mcp_types
        from mcp.client.client import Client

        about = mcp_types.Implementation(name="thinksmith", version=__version__)
        try:
            async with Client(self._transport, read_timeout_seconds=_ANSWER, client_info=about, cache=None) as client:
                if not self._ready.done():
                    self._ready.set_result(client)
                await self._closing.wait()
        except Exception as error:
            if not self._ready.done():
                self._ready.set_exception(self._not_opened(error))
        finally:
            if not self._ready.done():
                self._ready.cancel()

    def _not_opened(self, error: BaseException) -> UserError:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, UserError):
            return error
        why = self._child.ended if self._child and self._child.ended else _reason(error)
        return UserError(f"mcp: {self._shown} gives no tools ({why}): is it an MCP server?")

    async def tools(self) -> tuple[Tool, ...]:
        """Its tools, as ours."""
        client = await self._ready
        try:
            async with asyncio.timeout(_OPENING):
                listed = await _listed(client)
        except Exception as error:
            raise self._not_opened(error) from None
        info = client.server_info
        group = re.sub(r"[^A-Za-z0-9-]+", "-", info.name if info else "").strip("-").lower()[:20] or "server"
        if group.rstrip("0123456789") in _OURS:
            group = f"mcp-{group}"
        made: dict[str, Tool] = {}
        for each in listed:
            name = tool_name(group, each.name, frozenset(made))
            made[name] = self._tool(client, each, name, group)
        if not made:
            raise UserError(f"mcp: {self._shown} has no tools")
        return tuple(made.values())

    def _tool(self, client: Client, told: mcp_types.Tool, name: str, group: str) -> Tool:
        schema, fault = usable(told.input_schema)
        about = f"{described(told.description) or described(told.name, 60)} (described by the server)"
        if fault:
            about += f" (its schema cannot be used: {fault})"

        async def call(arguments: Mapping[str, Any], _: Intent | None) -> Result:
            return await self._call(client, told.name, arguments)

        async def intend(arguments: Mapping[str, Any]) -> Intent:
            given = json.dumps(dict(arguments), ensure_ascii=False, default=str)
            short = given if len(given) <= 200 else given[:199] + "…"
            return Intent(f"{name} of {self._shown}: {short}", given, {"tool": told.name})

        return Tool(name, about, schema, call, kind="send", group=group, seconds=_SECONDS, intend=intend)

    async def _call(self, client: Client, name: str, arguments: Mapping[str, Any]) -> Result:
        """Ask the server. Raises ToolFault where it surely did nothing, ConnectionError where that is not known."""
        import mcp_types
        from mcp.shared.exceptions import MCPError
        from pydantic import TypeAdapter

        if self._gone:
            raise ToolFault(f"{self._gone}: its tools are gone for this run")
        anything: Any = TypeAdapter(dict[str, Any])
        asked = mcp_types.CallToolRequest(params=mcp_types.CallToolRequestParams(name=name, arguments=dict(arguments)))
        try:
            # Not `call_tool`: that checks results by a schema of the server's, which may hold it up for ever.
            answer = await client.session.send_request(asked, anything, request_read_timeout_seconds=_SECONDS + 5)
        except MCPError as error:
            if error.code in (mcp_types.METHOD_NOT_FOUND, mcp_types.INVALID_PARAMS):
                raise ToolFault(f"the server refuses it: {described(error.message, 500)}") from None
            if error.code == mcp_types.CONNECTION_CLOSED:
                why = self._gone or "the server closed the connection"
                raise ConnectionError(f"{why}; whether the call was done is not known") from None
            return Result(f"the server says it failed: {described(error.message, 2_000)}", ok=False)
        except ValueError:
            return Result("the server's answer is not what MCP prescribes; the call may have been done", ok=False)
        if answer.get("resultType") == "input_required":
            return Result("the server wants to ask something back, which is refused", ok=False)
        return Result(_told(answer), ok=not answer.get("isError"))

    @property
    def _gone(self) -> str:
        if self._child and self._child.ended:
            return f"the server {self._child.ended}"
        return "the server is gone" if self._task is None or self._task.done() else ""

    async def aclose(self) -> None:
        """End the connection, and the process."""
        self._closing.set()
        task, self._task = self._task, None
        if task is None:
            return
        if not self._ready.done():
            task.cancel()
        with suppress(TimeoutError, asyncio.CancelledError, Exception):
            async with asyncio.timeout(10):
                await asyncio.shield(task)
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # it was told of, or nobody waits for it


def _reason(error: BaseException) -> str:
    """Why a server could not be used, in few words of ours and of the server's."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = described(".".join(map(str, first["loc"])), 80)
        return f"what it says is not MCP: {where}: {described(first['msg'], 100)}"
    return described(one_line(error), 200)


def _reached(spec: str) -> tuple[str, Child | None, AbstractAsyncContextManager[TransportStreams]]:
    """The server's name for people, its process if it is ours, and the way to it."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", spec):
        if not spec.lower().startswith(("http://", "https://")):
            raise UserError(f"mcp:{spec.split('://')[0]}:// is not known: write http:// or https://, or a command")
        return re.sub(r"//[^/@]*@", "//", spec.split("?")[0])[:100], None, _by_http(spec)
    from thinksmith.agent.tools.mcp_stdio import Child

    try:
        command = shlex.split(spec)
    except ValueError as error:
        raise UserError(f"mcp: the command does not parse ({error}): close its quotes") from None
    child = Child(command)
    return command[0].rsplit("/", 1)[-1][:100], child, child.transport()


@asynccontextmanager
async def _by_http(url: str) -> AsyncIterator[TransportStreams]:
    """Streamable HTTP, without the environment's proxies, and with a bound on what an answer holds."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    from thinksmith.agent.tools.mcp_http import Bounded

    waits = httpx2.Timeout(30.0, read=300.0)
    transport = Bounded(httpx2.AsyncHTTPTransport())
    asks = {"accept-encoding": "identity"}
    async with (
        httpx2.AsyncClient(transport=transport, trust_env=False, timeout=waits, headers=asks) as http,
        streamable_http_client(url, http_client=http) as streams,
    ):
        yield streams


async def _listed(client: Client) -> Sequence[mcp_types.Tool]:
    import mcp_types

    tools: list[mcp_types.Tool] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await client.session.list_tools(params=mcp_types.PaginatedRequestParams(cursor=cursor))
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) >= _TOOLS:
            break
    return tools[:_TOOLS]


def _told(answer: Mapping[str, Any]) -> str:
    """What a call gave, as text; what is none is only told of."""
    parts: list[str] = []
    room = _LARGEST
    for block in answer.get("content") or ():
        part = _block(block)
        parts.append(part[:room])
        room -= len(part)
        if room <= 0:
            parts.append("(more of it was left out)")
            break
    if not parts and answer.get("structuredContent") is not None:
        parts.append(json.dumps(answer["structuredContent"], ensure_ascii=False, default=str)[:_LARGEST])
    return "\n".join(parts) or "(nothing came back)"


def _block(block: Mapping[str, Any]) -> str:
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", ""))
    if kind in ("image", "audio"):
        return f"({kind}, {described(str(block.get('mimeType')), 60)}: not shown)"
    if kind == "resource":
        resource = block.get("resource") or {}
        return str(resource["text"]) if "text" in resource else "(a resource that is not text: not shown)"
    if kind == "resource_link":
        return f"(a link to {harmless(clean(str(block.get('uri'))[:500]))})"
    return "(something that is not text: not shown)"
