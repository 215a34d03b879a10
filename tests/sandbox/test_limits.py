"""How a program ended is told apart, whatever it does, and always in time."""

from __future__ import annotations

import time

import pytest

from thinksmith.errors import UserError
from thinksmith.sandbox import Limits, Sandbox, open_sandbox

MIB = 1 << 20
SHORT = Limits(seconds=0.5)
FOREVER = "import time\ntime.sleep(60)"


@pytest.mark.parametrize(
    ("program", "limits", "status", "exit_code", "reason"),
    [
        ("pass", Limits(), "ok", 0, ""),
        ("raise SystemExit(7)", Limits(), "failed", 7, "exit code 7"),
        ("1 / 0", Limits(), "failed", 1, "exit code 1"),
        ("a\0b", Limits(), "failed", 1, "exit code 1"),
        ("\ud800", Limits(), "failed", 1, "exit code 1"),
        ("(" * 10_000, Limits(), "failed", 1, "exit code 1"),
        (FOREVER, SHORT, "timeout", 137, "longer than 0.5 s"),
        ("while True: pass", SHORT, "timeout", 137, "longer than 0.5 s"),
        ("while True: pass", Limits(cpu_seconds=1), "timeout", 152, "processor time"),
        ("x = b'x' * (1 << 30)", Limits(memory=256 * MIB), "memory", 1, "268,435,456 bytes"),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", Limits(memory=256 * MIB), "memory", 1, "memory"),
        ("print('x' * 3_000_000)", Limits(output=1000), "output", 137, "1,000 bytes to stdout"),
        ("import sys\nwhile True: sys.stderr.write('x' * 999)", Limits(), "output", 137, "to stderr"),
        ("import os; os.kill(os.getpid(), 9)", Limits(), "killed", 137, "Killed"),
        ("import os; os.abort()", Limits(), "killed", 134, "Aborted"),
        ("import ctypes; ctypes.string_at(0)", Limits(), "killed", 139, "Segmentation"),
    ],
)
def test_statuses(sandbox, program, limits, status, exit_code, reason):
    began = time.monotonic()
    result = sandbox.run(program, limits=limits)
    assert (result.status, result.exit_code) == (status, exit_code), result
    assert reason in result.reason
    assert (result.reason == "") == (status == "ok")
    assert time.monotonic() - began < 10
    assert len(result.stdout) <= limits.output
    assert len(result.stderr) <= limits.output


def test_what_was_written_is_kept_up_to_the_limit_and_to_the_last_instant(sandbox):
    cut = sandbox.run("print('x' * 5000)", limits=Limits(output=1000))
    assert (cut.status, cut.stdout) == ("output", b"x" * 1000)
    exact = sandbox.run("import os; os.write(1, b'x' * 1000); os._exit(0)", limits=Limits(output=1000))
    assert (exact.status, exact.stdout) == ("ok", b"x" * 1000)
    late = sandbox.run(
        "import os\nfor i in range(60): os.write(1, b'x' * 1000)\nos.write(2, bytes(range(256))); os._exit(3)"
    )
    assert (late.stdout, late.stderr, late.exit_code) == (b"x" * 60_000, bytes(range(256)), 3)
    before = sandbox.run("print('so far', flush=True)\nimport time\ntime.sleep(60)", limits=SHORT)
    assert (before.status, before.stdout) == ("timeout", b"so far\n")


def test_a_closed_stdout_does_not_end_the_wait_and_an_ignored_signal_does_not_prolong_it(sandbox):
    closed = sandbox.run("import os, time\nos.close(1); os.close(2); time.sleep(0.3); os._exit(5)")
    assert (closed.exit_code, closed.seconds >= 0.3) == (5, True)
    deaf = "import signal, time\nfor n in (1, 2, 15, 24): signal.signal(n, signal.SIG_IGN)\nwhile True: pass"
    assert sandbox.run(deaf, limits=SHORT).status == "timeout"


@pytest.mark.parametrize("size", [0, 1, 65536, 70_000, 5_000_000])
def test_input_of_any_size_read_or_not(sandbox, size):
    content = bytes(index % 251 for index in range(251)) * (size // 251 + 1)
    read = sandbox.run("import sys; print(len(sys.stdin.buffer.read()))", stdin=content[:size])
    assert read.stdout == b"%d\n" % size
    assert sandbox.run("pass", stdin=content[:size]).status == "ok"


def test_the_clock_starts_with_the_program(sandbox):
    result = sandbox.run("import time\ntime.sleep(0.2)")
    assert 0.2 <= result.seconds < 5


def test_disk_is_bounded_in_bytes_and_files(sandbox):
    much = "for i in range(40):\n    with open(str(i), 'wb') as f: f.write(bytes(1 << 20))\nimport time; time.sleep(1)"
    assert sandbox.run(much, limits=Limits(disk=8 * MIB)).status in ("failed", "killed")
    assert sandbox.run(much, limits=Limits(disk=64 * MIB)).status == "ok"
    hidden = "import os\nheld = []\nfor i in range(40):\n    held.append(open('x', 'wb+')); os.unlink('x')\n"
    hidden += "    held[-1].write(bytes(1 << 20)); held[-1].flush()\nimport time; time.sleep(1)"
    assert sandbox.run(hidden, limits=Limits(disk=8 * MIB)).status in ("failed", "killed")
    many = "for i in range(5000): open(str(i), 'w').close()\nimport time; time.sleep(1)"
    assert sandbox.run(many, limits=Limits(seconds=60, cpu_seconds=60)).status in ("failed", "killed")
    one = "with open('x', 'wb') as f: f.write(bytes(9 << 20))"
    assert sandbox.run(one, limits=Limits(disk=8 * MIB)).status == "failed"


def test_threads_and_descriptors_are_bounded(sandbox):
    threads = """
import threading, time
for _ in range({}): threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
time.sleep(0.5)
"""
    assert sandbox.run(threads.format(100), limits=Limits(threads=20)).status in ("failed", "killed")
    assert sandbox.run(threads.format(18), limits=Limits(threads=20)).status == "ok"
    files = "held = [open('/dev/null') for _ in range({})]"
    assert sandbox.run(files.format(300), limits=Limits(files=100)).status == "failed"
    assert sandbox.run(files.format(80), limits=Limits(files=100)).status == "ok"


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "", ".", "a\0b", ".."])
def test_file_names_that_lead_out_are_refused(sandbox, name):
    with pytest.raises(UserError, match="relative"):
        sandbox.run("pass", files={name: b""})


def test_mistakes_get_one_line(sandbox, tmp_path):
    with pytest.raises(UserError, match="do not fit"):
        sandbox.run("pass", files={"a": bytes(2 * MIB)}, limits=Limits(disk=MIB))
    with pytest.raises(UserError, match="no folder of packages"):
        sandbox.run("pass", packages=[tmp_path / "nothing"])
    with pytest.raises(UserError, match="must be more than 0"):
        Limits(seconds=0)
    with pytest.raises(UserError, match="namespaces"):
        open_sandbox(only=("limits",)).run("pass", limits=Limits(processes=2))


def test_a_sandbox_that_cannot_be_set_up_runs_nothing(sandbox, tmp_path, monkeypatch):
    """Fails closed: the launcher reports and ends, and the program never runs."""
    from thinksmith.sandbox import landlock, seccomp

    with monkeypatch.context() as patch:
        patch.setattr(seccomp, "build", lambda *_, **__: b"\xff" * 16)
        broken = sandbox.run("print('ran')")
        assert (broken.status, broken.exit_code, broken.stdout) == ("error", None, b"")
        assert "seccomp" in broken.reason
    with monkeypatch.context() as patch:
        patch.setattr(landlock, "rules", lambda *_: {"handled": b"\xff" * 8, "rules": []})
        assert sandbox.run("print('ran')").status == "error"
    clash = sandbox.run("print('ran')", files={"a": b"", "a/b": b""})
    assert (clash.status, clash.stdout) == ("error", b"")


def test_a_bubblewrap_that_fails_is_an_error_with_its_reason(tmp_path, monkeypatch):
    from thinksmith.sandbox import bubblewrap

    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "found", lambda: str(fake))
    result = Sandbox(("namespaces", "limits"), "user").run("print('ran')")
    assert (result.status, result.exit_code, result.stdout) == ("error", None, b"")
    assert "Permission denied" in result.reason
