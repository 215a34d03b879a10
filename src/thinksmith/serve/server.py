"""The server as a process: its socket, its signals, and how it ends.

The first SIGTERM or Ctrl-C: no new connections, no new requests, and those that wait are sent away; what runs is
finished, for `grace` seconds at most. A second Ctrl-C ends it at once.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinksmith.errors import UserError

PORT = 8383
VARIABLE = "THINKSMITH_SERVE_TOKEN"
SHORTEST_TOKEN = 16


def token_of(file: str, environment: Mapping[str, str]) -> str:
    """The token of a file (its only line) or of the environment; "" for none. Raises UserError."""
    if file:
        path = Path(file).expanduser()
        try:
            token = path.read_text(encoding="utf-8").strip()
            mode = path.stat().st_mode
        except (OSError, UnicodeDecodeError, RuntimeError) as error:
            raise UserError(f"--token-file {file}: {getattr(error, 'strerror', None) or error}") from None
        if stat.S_IMODE(mode) & 0o077 and os.name == "posix":
            raise UserError(f"--token-file {file} can be read by others: chmod 600 {file}")
        where = f"--token-file {file}"
    else:
        token, where = environment.get(VARIABLE, "").strip(), VARIABLE
        if VARIABLE not in environment:
            return ""
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError(f"{where}: a token has at least {SHORTEST_TOKEN} letters, digits or signs, and no spaces")
    return token


def bind(host: str, port: int, token: str) -> socket.socket:
    """A socket at that address, which does not listen yet: nobody is kept waiting while a model loads.

    Raises UserError for an address that is not here, a port that is taken, and an address beyond loopback without a
    token.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host}: {getattr(error, 'strerror', None) or error}") from None
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    if not token and not all(address.is_loopback for address in addresses):
        raise UserError(f"--host {host} can be reached by others: set a token, with --token-file or {VARIABLE}")
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise UserError(_why_not(error, host, port)) from None
    made.setblocking(False)
    return made


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: name another with --port, or --port 0 for a free one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is no address of this machine"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that you have not: name one from 1024 on"
    return f"cannot listen at {host}, port {port}: {error.strerror}"


def address_of(listening: socket.socket) -> str:
    """`http://127.0.0.1:8383`; of all addresses of the machine, the one of loopback."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: Any, listening: socket.socket, grace: float) -> None:
    """Serve until a signal comes. `app` is an `app.App`."""
    import uvicorn

    from thinksmith.serve.connection import Connection

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.drain()
            await super().shutdown(sockets)
            self._captured_signals.clear()  # it would raise them again, and a server that was told to stop did not fail

    for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its tracebacks may hold what clients sent
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    try:
        Server(config).run(sockets=[listening])
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise UserError(_why_not(error, "", listening.getsockname()[1])) from None
