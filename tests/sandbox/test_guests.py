"""A guest is talked to, waited for and killed from any thread, and leaves nothing running, open or on disk."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thinksmith.sandbox import LAYERS, Limits, Sandbox, bubblewrap, host

POWERLESS = """
import os
said = dict(line.split(":", 1) for line in open("/proc/self/status"))
print([int(said[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")], int(said["NoNewPrivs"]))
"""
ECHO = """
import os, socket
channel = socket.socket(fileno=int(os.environ["CHANNELS"]))
while said := channel.recv(100):
    channel.sendall(said.upper())
"""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> set[str]:
    """Processes that descend from this one, by the kernel.

    A thread that ends while its folder is listed takes the folder along and gives its children to another thread,
    which may have been read already: the threads are read again then.
    """
    while True:
        try:
            told = [(task / "children").read_text() for task in Path("/proc/self/task").iterdir()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        return {pid for pids in told for pid in pids.split()}


def test_a_channel_carries_both_ways_and_ends_with_the_guest(sandbox):
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, sandbox.start(ECHO, channels=[theirs.fileno()]) as guest:
        theirs.close()
        ours.sendall(b"hello")
        assert ours.recv(100) == b"HELLO"
        ours.shutdown(socket.SHUT_WR)
        assert guest.wait().status == "ok"
        assert ours.recv(100) == b""


def test_limits_hold_while_nobody_waits(sandbox):
    """A caller that only reads its channel sees the end of it when the time is over."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, sandbox.start("while True: pass", channels=[theirs.fileno()], limits=Limits(seconds=0.3)) as guest:
        theirs.close()
        assert ours.recv(1) == b""
        assert guest.wait().status == "timeout"


def test_no_descriptor_but_the_channels_is_inherited(sandbox):
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    ours, theirs = socket.socketpair()
    program = """
import os
there = []
for number in range(3, 200):
    try:
        os.fstat(number)
        there.append(number)
    except OSError:
        pass
print(there == list(map(int, os.environ["CHANNELS"].split(","))), there)
"""
    result = sandbox.run(program)
    assert result.stdout.startswith(b"False []") or result.stderr, result
    with sandbox.start(program, channels=[theirs.fileno(), writing]) as guest:
        assert guest.wait().stdout.startswith(b"True"), guest.wait()
    for handle in (reading, writing):
        os.close(handle)
    ours.close()
    theirs.close()


def test_killed_by_the_caller_at_once_and_late(sandbox):
    for pause in (0, 0.01, 0.3):
        with sandbox.start("import time\ntime.sleep(60)") as guest:
            time.sleep(pause)
            guest.kill()
            assert guest.wait().status == "killed"
            guest.kill()  # once more does nothing
    with sandbox.start("import time\ntime.sleep(60)") as guest:
        pass
    assert guest.wait().reason == "killed by the caller"


def test_many_threads_at_once_and_nothing_left(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sandbox.run("pass")
    before = descriptors(), children(), list[Path]()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: sandbox.run(f"print({i} ** 2)"), range(40)))
    assert [int(result.stdout) for result in results] == [i * i for i in range(40)]
    assert (descriptors(), children(), list(tmp_path.iterdir())) == before


def test_with_more_descriptors_than_select_can_serve(sandbox):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1400:
        pytest.skip(f"this process may have {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert sandbox.run("print(1)").stdout == b"1\n"
    finally:
        for handle in held:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_work_folder_that_its_guest_removed_or_closed():
    for program in ("import os; os.rmdir(os.getcwd())", "import os; os.mkdir('x'); os.chmod(os.getcwd(), 0)"):
        assert Sandbox(("limits",)).run(program).status == "ok"


def test_from_asyncio(sandbox):
    async def several() -> list[bytes]:
        return [
            r.stdout for r in await asyncio.gather(*(asyncio.to_thread(sandbox.run, f"print({i})") for i in range(5)))
        ]

    assert asyncio.run(several()) == [b"%d\n" % i for i in range(5)]


def test_a_guest_outlives_the_thread_that_started_it(sandbox):
    started = []
    thread = threading.Thread(
        target=lambda: started.append(sandbox.start("import time\ntime.sleep(0.5)\nprint('done')"))
    )
    thread.start()
    thread.join()
    assert started[0].wait().stdout == b"done\n"


SCRIPT = """
import sys, threading, time
from thinksmith.sandbox import Limits, Sandbox
sandbox = Sandbox({layers!r}, {way!r})
print("ready", flush=True)
sandbox.run("import time\\nprint('x', flush=True)\\ntime.sleep(60)", limits=Limits(seconds=50))
"""


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*"):
            young = set(map(int, (task / "children").read_text().split())) - found
            found |= young
            waiting += young
    return found


def _gone(pids: set[int], seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _interrupted(sandbox, which: int, folder: Path) -> tuple[int, set[int]]:
    script = textwrap.dedent(SCRIPT.format(layers=sandbox.layers, way=sandbox.way))
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.5)
        running = _descendants(process.pid)
        process.send_signal(which)
        return process.wait(20), running


def test_an_interrupt_leaves_nothing_running_and_no_folder(sandbox, tmp_path):
    code, running = _interrupted(sandbox, signal.SIGINT, tmp_path)
    assert code == -signal.SIGINT
    assert not list(tmp_path.iterdir())
    assert running
    assert _gone(running)


def test_the_death_of_the_parent_leaves_nothing_running(sandbox, tmp_path):
    _, running = _interrupted(sandbox, signal.SIGKILL, tmp_path)
    assert running
    assert _gone(running)


def test_in_a_forked_child(sandbox):
    sandbox.run("pass")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if sandbox.run("print(6 * 7)").stdout == b"42\n" else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_messy_work_folder_is_removed(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = """
import os
os.symlink("/", "root"); os.mkdir("closed"); open("closed/x", "w").close()
try: os.chmod("closed", 0)
except OSError: pass
for _ in range(1500):
    os.mkdir("d"); os.chdir("d")
open("deep", "w").close()
"""
    assert sandbox.run(program).status in ("ok", "killed")
    assert not list(tmp_path.iterdir())


def test_no_capability_and_no_new_privileges_however_it_is_run():
    """Seen in /proc, which Landlock would close."""
    for layers in ((), ("limits",), ("seccomp",), ("namespaces",), ("namespaces", "seccomp", "limits")):
        if set(layers) <= set(host().active):
            for way in bubblewrap.ways() if "namespaces" in layers else ("user",):
                said = Sandbox(layers, way).run(POWERLESS)
                if said.status != "error":  # a way that this machine does not allow
                    assert said.stdout.startswith(b"[0, 0, 0, 0] 1"), (layers, way, said)


@pytest.mark.parametrize("way", ["root", "user", "plain"])
def test_every_way_of_bubblewrap(way):
    if way not in bubblewrap.ways():
        pytest.skip("only root can go that way")
    sandbox = Sandbox(tuple(name for name in LAYERS if name in ("namespaces", *host().active)), way)
    program = "for name in 'xy': open(name, 'wb').write(bytes(5 << 20)); print('fits', flush=True)"
    result = sandbox.run(program, limits=Limits(disk=8 << 20))
    if result.status == "error":
        pytest.skip(f"not on this machine: {result.reason}")
    assert (result.status, result.stdout) == ("failed", b"fits\n"), result
    if "seccomp" in sandbox.layers:
        assert "PermissionError" in sandbox.run("import os; os.chmod('/dev/null', 0o666)").stderr.decode()
