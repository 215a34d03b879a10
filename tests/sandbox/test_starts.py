"""What may go wrong while a guest is being started: a fork, a lack of threads or descriptors, an orphan to adopt."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from test_guests import children, descriptors

from thinksmith.sandbox import Sandbox, host

ADOPTS = """
import ctypes, pathlib
from thinksmith.sandbox import Limits, Sandbox
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become our children, as those of process 1
sandbox = Sandbox({layers!r}, {way!r})
for program in ("pass", "import time; time.sleep(60)"):
    print(sandbox.run(program, limits=Limits(seconds=0.3)).status)
print(sum((path.read_text().split() for path in pathlib.Path("/proc/self/task").glob("*/children")), []))
"""


def forked(seconds: float) -> int:
    """A child of ours that sleeps."""
    pid = os.fork()
    if pid == 0:
        time.sleep(seconds)
        os._exit(0)
    return pid


def ended(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_fork_waits_until_a_guest_has_started(monkeypatch):
    """Else the child would hold the pipe on which Popen waits, and the guest would run when the child has ended."""
    starting = threading.Event()
    real = subprocess._fork_exec

    def slow(*arguments):
        starting.set()
        time.sleep(0.3)
        return real(*arguments)

    monkeypatch.setattr(subprocess, "_fork_exec", slow)
    with Sandbox(()).start("print(1)") as guest:
        assert starting.wait(10)
        child = forked(60)
        begin = time.monotonic()
        try:
            assert guest.wait().stdout == b"1\n"
        finally:
            ended(child)
        assert time.monotonic() - begin < 30


def test_a_forked_child_keeps_nothing_of_a_guest_and_cannot_end_it():
    ours, theirs = socket.socketpair()
    program = "import os, time\nos.write(int(os.environ['CHANNELS']), b'x')\ntime.sleep(1)\nprint('done')"
    before = descriptors()
    with ours, Sandbox(()).start(program, channels=[theirs.fileno()]) as guest:
        theirs.close()
        assert ours.recv(1) == b"x"
        child = os.fork()
        if child == 0:  # it sees what the guest's parent is told, and leaves the block as that one does
            guest.kill()
            guest.__exit__(None, None, None)
            os._exit(0 if guest.wait().status == "error" else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert guest.wait().stdout == b"done\n"
    assert descriptors() == before - 2


def test_a_forked_child_closes_the_copies_of_channels(monkeypatch):
    """Even one that is forked before the guest has its own."""
    from thinksmith.sandbox import guest as module

    go = threading.Event()
    real = module.keep
    monkeypatch.setattr(module, "keep", lambda *given: (go.wait(10), real(*given))[1])
    ours, theirs = socket.socketpair()
    with ours, Sandbox(()).start("pass", channels=[theirs.fileno()]) as guest:
        theirs.close()
        child = forked(60)
        go.set()
        ours.settimeout(20)
        try:
            assert guest.wait().status == "ok"
            assert ours.recv(1) == b""
        finally:
            ended(child)


@pytest.mark.parametrize("layers", [(), ("namespaces",)])
def test_nothing_is_left_to_one_who_adopts_orphans(layers):
    if not set(layers) <= set(host().active):
        pytest.skip("no namespaces here")
    script = textwrap.dedent(ADOPTS.format(layers=layers, way=host().way))
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert told.stdout.splitlines() == ["ok", "timeout", "[]"], told


def test_a_guest_that_cannot_be_watched_is_ended(sandbox, monkeypatch):
    before = descriptors(), children()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", lambda _: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        result = sandbox.run("import time; time.sleep(60)")
    assert (result.status, result.exit_code) == ("error", None)
    assert "Too many open files" in result.reason
    assert (descriptors(), children()) == before


@pytest.mark.parametrize("lacking", ["thread", "channel"])
def test_what_cannot_be_started_leaves_nothing_open(monkeypatch, lacking):
    reading, writing = os.pipe()
    before = descriptors()
    channels = [reading, writing] if lacking == "thread" else [reading, 10**6]
    with monkeypatch.context() as patch:
        if lacking == "thread":
            patch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("no more threads")))
        with pytest.raises(RuntimeError if lacking == "thread" else OSError):
            Sandbox(()).start("pass", channels=channels)
    assert descriptors() == before
    os.close(reading)
    os.close(writing)
