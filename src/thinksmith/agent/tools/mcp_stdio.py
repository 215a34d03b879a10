"""An MCP server as a child process: lines of JSON over its standard input and output, with bounds.

Like the `mcp` package's own transport, with what a stranger's server could do against us held: the length of a line,
how much it says unasked, its environment (PATH, HOME and LANG alone), what it writes to its standard error (the end is
kept, for when it dies), and the process group, which ends with us: its input is closed, then it is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio

from thinksmith.errors import UserError, one_line

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

LONGEST = 4_000_000  # bytes of one message
_UNASKED = 20_000  # messages that are no answers, and lines that are no messages
_GARBAGE = 100
_KEPT = 2_000  # bytes of standard error
_GRACE = 2.0  # seconds for a server to end by itself
_PASSED_ON = ("PATH", "HOME", "LANG")


class Child:
    """The process. `ended` says why nothing comes from it any more; empty while it runs."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._errors = b""
        self.ended = ""

    @asynccontextmanager
    async def transport(self) -> AsyncIterator[TransportStreams]:
        """Its streams of messages, for `mcp.client.client.Client`. Raises UserError where it does not start."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                start_new_session=True,
                limit=LONGEST,
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"mcp: {self._command[0]!r} does not start ({one_line(error)}): name another command"
            ) from None
        to_us, incoming = anyio.create_memory_object_stream[Any](0)
        outgoing, from_us = anyio.create_memory_object_stream[Any](0)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, process, to_us)
                tasks.start_soon(self._write, process, from_us, to_us)
                tasks.start_soon(self._listen, process)
                try:
                    yield incoming, outgoing
                finally:
                    with anyio.CancelScope(shield=True):
                        for stream in (incoming, outgoing):
                            await stream.aclose()
                        await _end(process)
                    tasks.cancel_scope.cancel()
        finally:
            for stream in (to_us, incoming, outgoing, from_us):
                stream.close()
            _kill(process)
            _forget(process)

    async def _read(self, process: asyncio.subprocess.Process, to_us: Any) -> None:
        """Lines to messages, until it ends or goes too far."""
        import mcp_types
        from mcp.shared.message import SessionMessage

        assert process.stdout
        unasked = garbage = 0
        why = ""
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            while not why:
                try:
                    line = await process.stdout.readline()
                except ValueError:
                    why = f"sent a message of more than {LONGEST:,} bytes"
                    break
                if not line:
                    break
                try:
                    message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    garbage += 1
                    why = "writes what is no MCP message" if garbage > _GARBAGE else ""
                    continue
                unasked += hasattr(message, "method")
                why = "sends message after message that nobody asked for" if unasked > _UNASKED else ""
                await to_us.send(SessionMessage(message))
        if why:
            _kill(process)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await process.wait()
        self.ended = why or f"ended{self._told(process.returncode)}"
        to_us.close()

    async def _write(self, process: asyncio.subprocess.Process, from_us: Any, to_us: Any) -> None:
        assert process.stdin
        try:
            async for item in from_us:
                data = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                process.stdin.write(data)
                await process.stdin.drain()
        except (OSError, anyio.ClosedResourceError):
            to_us.close()  # the session then sees the end, and no request waits for ever

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr
        while chunk := await process.stderr.read(65_536):
            self._errors = (self._errors + chunk)[-_KEPT:]

    def _told(self, code: int | None) -> str:
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        last = f": {one_line(Exception(lines[-1]))}" if lines else ""
        return ("" if code is None else f" with exit code {code}") + last


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its input, as MCP says, and wait a little."""
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            await process.wait()
    _kill(process)
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    """The whole group: what it started ends with it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _forget(process: asyncio.subprocess.Process) -> None:
    """Close our ends of its pipes: what outlives the group may hold the others, and nothing public closes ours."""
    transport = getattr(process, "_transport", None)
    if transport is not None:
        with suppress(PermissionError):
            transport.close()
