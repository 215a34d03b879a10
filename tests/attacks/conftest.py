"""The stage of the attacks: canaries, listeners on loopback, and a victim process."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from attack import NUMBERS, Stage

from thinksmith.sandbox import Limits, Sandbox, host, view

GUEST = 424_242  # guests of root's are users of their own: here always the same one, so that only layers part them
VICTIM = """
import os, signal, time, ctypes
channel = int(os.environ["CHANNELS"])
signal.signal(signal.SIGIO, lambda *_: os.write(channel, b"signal"))
memory = ctypes.create_string_buffer(b"tweet")
os.write(channel, f"{os.getpid()} {os.getpgid(0)} {os.getuid()} {ctypes.addressof(memory)}".encode())
while True: time.sleep(60)
"""


def _program(machine: str) -> bytes:
    """The smallest of executables, which needs no library: it writes ESCAPED and ends."""
    x86_64 = "bf01000000 488d3515000000 ba08000000 b801000000 0f05 31ff b83c000000 0f05"
    aarch64 = "200080d2 e1000010 020180d2 080880d2 010000d4 000080d2 a80b80d2 010000d4"
    code = bytes.fromhex(aarch64 if machine == "aarch64" else x86_64) + b"ESCAPED\n"
    base, start = 0x400000, 64 + 56
    size = start + len(code)
    kind = 183 if machine == "aarch64" else 62
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, kind, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096) + code


def _installed() -> list[str]:
    """A file of a package of this environment, and one from each folder of packages beside the standard library."""
    found = [pytest.__file__]
    for folder in view.hidden():
        found += [str(path) for path in islice((p for p in Path(folder).rglob("*") if p.is_file()), 1)]
    return found


def _unix(path: str, kind: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(path)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    if path[0] != "\0":
        os.chmod(path, 0o777)
    return listener


def _heard(listeners: list[socket.socket]) -> Callable[[], bool]:
    """Whether something arrived at any of them since it was last asked."""

    def ask() -> bool:
        heard = False
        for listener in listeners:
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    if listener.type == socket.SOCK_STREAM and listener.getsockopt(
                        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
                    ):
                        listener.accept()[0].close()
                    elif not listener.recv(1000):
                        break
                    heard = True
        return heard

    return ask


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    if not host().active:
        pytest.skip("no layer of the sandbox works here")
    with contextlib.ExitStack() as left, pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "randbelow", lambda _: GUEST)
        patch.setenv("SECRET", "tweet")
        patch.setenv("PYTHONPATH", "/nowhere")
        home = Path(left.enter_context(tempfile.TemporaryDirectory(prefix="attacks-")))
        canary = home / "canary"
        canary.write_text("tweet", encoding="utf-8")
        handle = os.open(canary, os.O_RDONLY)  # a descriptor that a careless parent would hand on
        os.set_inheritable(handle, True)
        left.callback(os.close, handle)
        name = f"thinksmith-attacks-{secrets.token_hex(8)}"
        tcp4, free = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        listeners = [
            tcp4,
            udp,
            _unix(str(home / "unix"), socket.SOCK_STREAM),
            _unix("\0" + name, socket.SOCK_STREAM),
            _unix(str(home / "unixgram"), socket.SOCK_DGRAM),
            _unix("\0gram" + name, socket.SOCK_DGRAM),
        ]
        tcp6 = None
        with contextlib.suppress(OSError):
            tcp6 = socket.create_server(("::1", 0), family=socket.AF_INET6)
            listeners.append(tcp6)
        ours, theirs = socket.socketpair()
        victim = left.enter_context(Sandbox(()).start(VICTIM, channels=[theirs.fileno()], limits=Limits(seconds=3600)))
        theirs.close()
        ours.settimeout(20)
        pid, group, user, address = map(int, ours.recv(100).split())
        listeners.append(ours)
        for listener in listeners:
            left.enter_context(listener)
        machine = os.uname().machine
        given = {
            "home": str(home),
            "temporary": tempfile.gettempdir(),
            "canary": str(canary),
            "installed": _installed(),
            "spare": str(home / "spare"),
            "victim": pid,
            "group": group,
            "address": address,
            "tcp4": tcp4.getsockname()[1],
            "tcp6": tcp6.getsockname()[1] if tcp6 else 0,
            "free": port,
            "udp": udp.getsockname()[1],
            "unix": str(home / "unix"),
            "unixgram": str(home / "unixgram"),
            "abstract": name,
            "abstractgram": "gram" + name,
            "program": _program(machine).hex(),
            "numbers": {name: pair[machine == "aarch64"] for name, pair in NUMBERS.items()},
        }
        yield Stage(given, canary, _heard(listeners), user)
        victim.kill()


@pytest.fixture
def fresh(stage) -> Stage:
    """The stage as it was: canaries in place, the guests' to spoil, and nothing heard."""
    home = stage.canary.parent
    os.chmod(home, 0o777)
    for path in (stage.canary, home / "spare"):
        path.write_text("tweet", encoding="utf-8")
        os.chmod(path, 0o666)
        if os.getuid() == 0:
            os.chown(path, stage.user, stage.user)
    stage.heard()
    return stage
