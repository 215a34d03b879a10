"""Our standard input and output as an MCP server's streams.

The `mcp` package's own reads in a thread that cannot be called back, so Ctrl-C would wait for the client's next line.
As there, whatever else reads or prints in this process, or in one that it starts, misses the wire: from here on
standard input is empty, and standard output is standard error.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio

from thinksmith.errors import UserError

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

LONGEST = 8_000_000  # bytes of one message


@asynccontextmanager
async def standard_streams() -> AsyncIterator[TransportStreams]:
    """Streams of messages, until the client closes its end. Raises UserError where there is no client."""
    from mcp.shared._context_streams import create_context_streams

    reader, writer = await _taken()
    to_us, incoming = create_context_streams[Any](0)
    outgoing, from_us = create_context_streams[Any](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, reader, to_us)
        tasks.start_soon(_write, writer, from_us)
        try:
            yield incoming, outgoing
        finally:
            tasks.cancel_scope.cancel()
            writer.close()


async def _taken() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The wire, under descriptors that nobody else knows."""
    loop = asyncio.get_running_loop()
    wire_in, wire_out = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=LONGEST)
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), wire_in)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, wire_out)
    except ValueError:
        raise UserError("mcp speaks over pipes: name this command to a program that starts MCP servers") from None
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


async def _read(reader: asyncio.StreamReader, to_us: Any) -> None:
    import mcp_types
    from mcp.shared.message import SessionMessage

    async with to_us:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            while line := await _line(reader):
                try:
                    message = SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
                except ValueError as error:
                    await to_us.send(error)
                    continue
                await to_us.send(message)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; empty where there is none, or one without end."""
    try:
        return await reader.readline()
    except ValueError:
        return b""


async def _write(writer: asyncio.StreamWriter, from_us: Any) -> None:
    with suppress(OSError, anyio.ClosedResourceError):  # nobody listens any more; the reader sees it too
        async for item in from_us:
            writer.write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await writer.drain()
