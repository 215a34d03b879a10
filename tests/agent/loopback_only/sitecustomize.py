"""A Python that finds this on its path reaches nothing but loopback: all else is refused, and told in $LOOPBACK_ONLY.

Refusing alone would not do: what sends telemetry is used to failing, and says nothing.
"""

import ipaddress
import os
import sys
from typing import Any


def is_here(host: Any) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except (ValueError, AttributeError):
        return False


def look(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a Unix socket, or one that is connected already
            return
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if not is_here(host):
        with open(os.environ["LOOPBACK_ONLY"], "a", encoding="utf-8") as told:
            told.write(f"{event} {host}\n")
        raise PermissionError(f"{event}: {host} is not loopback")


sys.addaudithook(look)
