"""The program as a user starts it: terminals, pipes, Ctrl-C, and how little it loads."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from thinksmith import __version__
from thinksmith.store.store import Store

HEAVY = {
    *("torch", "transformers", "tokenizers", "datasets", "sqlalchemy", "numpy"),
    *("scipy", "altair", "rich", "pydantic", "httpx", "jinja2"),
}
PLAIN = {"TERM": "xterm-256color", "COLUMNS": "100"}


def environment(**more):
    unset = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE")
    return {name: value for name, value in os.environ.items() if name not in unset} | PLAIN | more


def run(program, *arguments, **more):
    return subprocess.run([program, *arguments], env=environment(**more), capture_output=True, text=True, timeout=120)


def on_terminal(program, *arguments, **more):
    """What the program writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([program, *arguments], env=environment(**more), stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:  # the terminal's other side is gone
            pass
    os.close(ours)
    assert child.returncode == 0, seen
    return seen.decode()


def test_help_loads_nothing_heavy():
    code = f"import sys; from thinksmith.cli.main import run; run(['--help']); print({HEAVY} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.splitlines()[-1] == "set()"
    assert "quickstart" in done.stdout


def test_the_version(program):
    assert run(program, "--version").stdout == f"thinksmith {__version__}\n"


def test_a_mistake_through_and_through(program, own_store):
    done = run(program, "problems", "nope")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("thinksmith: nope")


def test_colours_are_for_terminals_alone(program, filled):
    assert "\x1b[" in on_terminal(program, "audit", "31")
    assert "\x1b" not in on_terminal(program, "audit", "31", NO_COLOR="1")
    assert "\x1b" not in run(program, "audit", "31").stdout


def test_a_reader_that_goes_away_ends_it_quietly(program, own_store):
    child = subprocess.Popen(
        [program, "problems", "arithmetic", "--sample", "5000"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait(60) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_to_a_full_disk(program):
    with open("/dev/full", "w") as full:
        done = subprocess.run([program, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "thinksmith: cannot write: No space left on device; free some space or name another place"
    ]


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(program, own_store, checkpoints):
    # 600 problems take three batches; Ctrl-C comes in the first.
    command = ["eval", "arithmetic", "--model", checkpoints["Qwen2"], "-n", "600", "--max-tokens", "64", "--think", "8"]
    child = subprocess.Popen(
        [program, *command],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    with Store.open() as store:
        deadline = time.monotonic() + 120
        while (not (runs := store.runs()) or runs[0].attempts < 5) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=60)
        (stopped,) = store.runs()
        done = store.done(stopped.id)
        assert child.returncode == 130
        assert (out, err) == (
            "",
            f"thinksmith: interrupted: {len(done)} of 600 attempts are kept, and the same command goes on with them\n",
        )
        assert stopped.status == "running"
        assert 5 <= len(done) < 600
        resumed = run(program, *command)
        assert resumed.returncode == 0, resumed.stderr
        assert resumed.stderr == "going on with an interrupted run\n"
        (whole,) = store.runs()
        assert (whole.id, whole.status, whole.attempts) == (stopped.id, "done", 600)
        assert "(95 %, 600 problems)" in resumed.stdout
