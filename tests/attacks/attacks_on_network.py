"""Reaching anything by a socket. Every listener was opened by the test, on loopback or in its own folder."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from attack import ALWAYS, Attack, Stage, lacking

TCP = ("namespaces", "landlock", "seccomp")
OTHER = ("namespaces", "seccomp")


def _no_ipv6(stage: Stage, layers: Sequence[str]) -> str:
    return "" if stage.given["tcp6"] else "no IPv6 here"


def _only_loopback(stage: Stage, layers: Sequence[str]) -> str:
    return "" if [name for _, name in socket.if_nameindex() if name != "lo"] else "this machine has no network"


def _without(family: int, kind: int) -> str:
    try:
        socket.socket(family, kind).close()
    except OSError as error:
        return f"this kernel has no such sockets: {error}"
    return ""


DATAGRAM = "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"

ATTACKS = (
    Attack("TCP, IPv4", "import socket; socket.create_connection(('127.0.0.1', given['tcp4']), 2)", TCP, abi=4),
    Attack(
        "TCP, IPv6", "import socket; socket.create_connection(('::1', given['tcp6']), 2)", TCP, abi=4, host=_no_ipv6
    ),
    Attack(
        "be a TCP server",
        "import socket\nserver = socket.create_server(('127.0.0.1', given['free']))\nserver.settimeout(2)\n"
        "server.accept(); escaped()",
        TCP,
        abi=4,
        company="visitor",
    ),
    Attack(
        "UDP", "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', given['udp']))", OTHER
    ),
    Attack(
        "DNS query",
        "import socket\nquery = b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7secrets\\7invalid\\0\\0\\1\\0\\1'\n"
        "socket.socket(type=socket.SOCK_DGRAM).sendto(query, ('127.0.0.1', given['udp']))",
        OTHER,
    ),
    Attack("Unix socket by path", "import socket; socket.socket(socket.AF_UNIX).connect(given['unix'])", OTHER),
    Attack(
        "abstract Unix socket",
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0' + given['abstract'])",
        TCP,
        abi=6,
    ),
    Attack("datagram to a path from a socket pair", DATAGRAM + "a.sendto(b'x', given['unixgram'])", OTHER),
    Attack(
        "message to a path from a socket pair",
        DATAGRAM + "a.sendmsg([b'x'], [], 0, given['unixgram'])",
        OTHER,
    ),
    Attack(
        "datagram to an abstract socket from a socket pair",
        DATAGRAM + "a.sendto(b'x', '\\0' + given['abstractgram'])",
        TCP,
        abi=6,
    ),
    Attack(
        "interfaces by netlink",
        "import socket\nif [name for _, name in socket.if_nameindex() if name != 'lo']: escaped()",
        OTHER,
        host=_only_loopback,
    ),
    Attack(
        "raw IP socket",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); escaped()",
        ALWAYS,
    ),
    Attack("packet socket", "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW); escaped()", ALWAYS),
    Attack(
        "socket to the hypervisor",
        "import socket; socket.socket(40, socket.SOCK_STREAM); escaped()",
        ("seccomp",),
        host=lambda stage, layers: _without(40, socket.SOCK_STREAM),
    ),
    Attack(
        "kernel cryptography socket",
        "import socket; socket.socket(38, socket.SOCK_SEQPACKET); escaped()",
        ("seccomp",),
        host=lambda stage, layers: _without(38, socket.SOCK_SEQPACKET),
    ),
    Attack(
        "io_uring",
        "system('io_uring_setup', 4, ctypes.create_string_buffer(120)); escaped()",
        ("seccomp", "limits"),  # its rings count as locked memory
        host=lacking("io_uring_setup", 4, bytes(120)),
    ),
)
