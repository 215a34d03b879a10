"""Killable workers: whatever a task does, its caller hears of it in time, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thinksmith.errors import UserError
from thinksmith.verify import workers
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.worker_main import TASKS
from thinksmith.verify.workers import Exceeded, WorkerFailed, call, workers_wanted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers are forked")


def pid() -> int:
    return call("os:getpid")


def is_running(number: int) -> bool:
    """Whether a process runs; one that ended and was not yet reaped does not."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def run_script(source: str, **options) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-c", textwrap.dedent(source)]
    return subprocess.run(script, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize("value", [None, True, 3, -1.5, "é\x00\ud800 \\frac", [1, [2, "x"]], {"a": {"b": [None]}}])
def test_plain_data_goes_and_comes_back(value):
    assert call("copy:copy", value) == value


def test_it_runs_in_another_process_that_is_used_again():
    assert pid() == pid() != os.getpid()


def test_what_a_task_raises():
    with pytest.raises(BadGold, match="gold answer is empty"):
        call("verify_tasks:bad_gold")
    with pytest.raises(Unreadable, match="that is one"):
        call("verify_tasks:unreadable")
    with pytest.raises(WorkerFailed, match="ZeroDivisionError: by zero"):
        call("verify_tasks:fails")
    with pytest.raises(WorkerFailed, match="ModuleNotFoundError"):
        call("thinksmith.verify.no_such_module:f")
    with pytest.raises(WorkerFailed, match="AttributeError"):
        call("copy:no_such_function")
    with pytest.raises(WorkerFailed, match="not JSON serializable"):
        call("os:getcwdb")


@pytest.mark.parametrize("task", [("time:sleep", 60), ("math:factorial", 10**9), ("verify_tasks:spin", None)])
def test_the_deadline_is_kept_and_the_worker_replaced(task):
    first = pid()
    begin = time.monotonic()
    with pytest.raises(Exceeded) as caught:
        call(task[0], task[1], seconds=0.3)
    assert 0.3 <= time.monotonic() - begin < 1.5
    assert caught.value.what == "time"
    begin = time.monotonic()
    assert pid() != first
    assert time.monotonic() - begin < 1.0
    assert wait_until(lambda: not is_running(first))


def test_memory_and_depth_are_bounded():
    for task in [("operator:mul", "x", 3 << 30), ("json:loads", "[" * 200_000), ("operator:mul", "x", 5 << 20)]:
        with pytest.raises((Exceeded, WorkerFailed)) as caught:
            call(*task)
        assert getattr(caught.value, "what", None) == "memory"
    assert call("copy:copy", 1) == 1


def test_a_task_that_is_too_large_to_send():
    with pytest.raises(Exceeded):
        call("copy:copy", "x" * (5 << 20))


EXPLOIT = "__import__('os').system('touch {path}')"
TRIPS = {
    "sympify": lambda path: ("sympy:sympify", EXPLOIT.format(path=path)),
    "parse_expr": lambda path: ("sympy.parsing:parse_expr", EXPLOIT.format(path=path)),
    "eval": lambda path: ("builtins:eval", EXPLOIT.format(path=path)),
    "exec": lambda path: ("builtins:exec", f"open({str(path)!r}, 'w')"),
    "attribute walk": lambda path: ("builtins:eval", "().__class__.__base__.__subclasses__()"),
    "system": lambda path: ("os:system", f"touch {path}"),
    "popen": lambda path: ("subprocess:run", ["touch", str(path)]),
    "write": lambda path: ("builtins:open", str(path), "w"),
    "append": lambda path: ("os:open", str(path), os.O_CREAT | os.O_WRONLY),
    "read": lambda path: ("builtins:open", "/etc/passwd"),
    "mkdir": lambda path: ("os:mkdir", str(path)),
    "remove": lambda path: ("os:remove", str(path.parent)),
    "socket": lambda path: ("socket:socket",),
    "fork": lambda path: ("os:fork",),
    "ctypes": lambda path: ("ctypes:CDLL", "libc.so.6"),
    "breakpoint": lambda path: ("builtins:breakpoint",),
}


@pytest.mark.parametrize("name", TRIPS)
def test_the_tripwire_ends_what_would_run_a_program(name, tmp_path):
    path = tmp_path / "owned"
    before = workers.counts().get("tripped", 0)
    with pytest.raises(Unreadable, match="would run a program"):
        call(*TRIPS[name](path))
    assert not path.exists()
    assert workers.counts()["tripped"] == before + 1
    assert call("copy:copy", name) == name


def test_a_worker_that_dies_by_itself_is_told_and_replaced():
    with pytest.raises(WorkerFailed, match="signal 6"):
        call("os:abort")
    with pytest.raises(WorkerFailed, match="status 7"):
        call("os:_exit", 7)
    assert call("copy:copy", 1) == 1


def test_the_process_behind_the_workers_is_replaced_when_it_was_killed():
    worker, zygote = pid(), call("os:getppid")
    os.kill(zygote, signal.SIGKILL)
    assert wait_until(lambda: not is_running(worker))
    assert pid() != worker


def test_a_worker_retires():
    served = [pid() for _ in range(workers_wanted() * TASKS + 1)]
    assert len(set(served)) > 1
    assert max(served.count(number) for number in set(served)) <= TASKS


def test_many_threads_share_few_workers():
    barrier = threading.Barrier(16)

    def ask(number: int) -> tuple[int, int]:
        barrier.wait()
        return call("operator:mul", number, 2), pid()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(16)))
    assert [answer for answer, _ in answers] == [2 * number for number in range(16)]
    assert len({number for _, number in answers}) <= workers_wanted()


def test_asyncio_and_a_deadline_beside_others():
    async def ask() -> list[object]:
        slow = asyncio.to_thread(call, "time:sleep", 60, seconds=0.3)
        quick = [asyncio.to_thread(call, "operator:add", number, 1) for number in range(40)]
        return await asyncio.gather(slow, *quick, return_exceptions=True)

    first, *others = asyncio.run(ask())
    assert isinstance(first, Exceeded)
    assert others == list(range(1, 41))


def test_a_thread_that_started_the_workers_may_end():
    program = """
        import threading, time
        from thinksmith.verify.workers import call
        first = []
        thread = threading.Thread(target=lambda: first.append(call("os:getpid")))
        thread.start(); thread.join(); time.sleep(0.3)
        print(first[0] == call("os:getpid"))
    """
    assert run_script(program).stdout == "True\n"


def test_a_forked_child_has_workers_of_its_own():
    program = """
        import os, sys, threading
        from thinksmith.verify.workers import call, Exceeded
        mine, zygote = call("os:getpid"), call("os:getppid")
        threading.Thread(target=lambda: call("time:sleep", 1)).start()
        child = os.fork()
        if child == 0:
            theirs = call("os:getpid")
            try:
                call("time:sleep", 60, seconds=0.2)
            except Exceeded:
                sys.exit(0 if theirs != mine and call("os:getpid") not in (mine, theirs) else 1)
        answers = [call("operator:add", n, 1) for n in range(200)]
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answers == list(range(1, 201)))
        print(call("os:getppid") == zygote)
    """
    ended = run_script(program, env=os.environ | {"THINKSMITH_VERIFY_WORKERS": "2"})
    assert (ended.stdout, ended.stderr) == ("0 True\nTrue\n", "")


def test_a_fork_waits_until_the_workers_have_started():
    """Else the child would hold the pipe on which Popen waits, and the verdict would come when the child has ended."""
    program = """
        import os, signal, subprocess, threading, time
        from thinksmith.verify.workers import call
        starting, answers, real = threading.Event(), [], subprocess._fork_exec

        def slow(*arguments):
            starting.set()
            time.sleep(0.3)
            return real(*arguments)

        subprocess._fork_exec = slow
        thread = threading.Thread(target=lambda: answers.append(call("operator:add", 1, 1)))
        thread.start()
        starting.wait()
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        begin = time.monotonic()
        thread.join()
        print(answers, time.monotonic() - begin < 30)
        os.kill(child, signal.SIGKILL)
    """
    assert run_script(program).stdout == "[2] True\n"


def test_a_worker_that_died_is_asked_about_once_whoever_else_starts_one(monkeypatch):
    """While the caller waits to ask how it ended, another thread reaps all that are known as dead."""
    call("copy:copy", 1)
    zygote = workers._pool.zygote
    asked = threading.Event()
    status = workers._Zygote.status
    monkeypatch.setattr(workers._Zygote, "status", lambda self, pid: (asked.set(), status(self, pid))[1])
    with ThreadPoolExecutor(1) as thread:
        with zygote.lock:
            died = thread.submit(call, "os:_exit", 7)
            assert asked.wait(10)
            time.sleep(0.2)
            while zygote.dead:
                zygote._ask({"reap": zygote.dead.pop()})
        with pytest.raises(WorkerFailed, match="status 7"):
            died.result(10)
    assert call("copy:copy", 1) == 1


def test_a_worker_of_which_nobody_knows_how_it_ended():
    call("copy:copy", 1)
    with pytest.raises(WorkerFailed, match="nobody knows"):
        workers._pool.zygote.status(1 << 30)
    assert call("copy:copy", 1) == 1


def test_nothing_is_left_and_nothing_is_said_at_the_end():
    program = """
        import contextlib, threading, time
        from thinksmith.verify.workers import WorkerFailed, call
        print(call("os:getpid"), call("os:getppid"))

        def busy():
            with contextlib.suppress(WorkerFailed):
                call("time:sleep", 60)

        threading.Thread(target=busy, daemon=True).start()
        time.sleep(0.2)
    """
    ended = run_script(program)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert wait_until(lambda: not any(is_running(int(number)) for number in ended.stdout.split()))


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_survives_a_parent_that_is_killed(kind):
    program = """
        import threading, time
        from thinksmith.verify.workers import call
        print(call("os:getpid"), call("os:getppid"), flush=True)
        threading.Thread(target=lambda: call("verify_tasks:spin", None, seconds=60)).start()
        time.sleep(60)
    """
    script = [
        sys.executable,
        "-c",
        f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n{textwrap.dedent(program)}",
    ]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as parent:
        left = [int(number) for number in parent.stdout.readline().split()]
        time.sleep(0.3)
        parent.send_signal(kind)
        parent.wait(10)
    assert len(left) == 2
    assert wait_until(lambda: not any(map(is_running, left)))


def test_ctrl_c_leaves_no_stale_answer():
    program = """
        import os, signal, threading, time
        from thinksmith.verify.workers import call
        for attempt in range(5):
            busy = call("os:getpid")
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                call("time:sleep", 1)
                print("slept")
            except KeyboardInterrupt:
                assert call("operator:add", attempt, 1) == attempt + 1
                assert call("os:getpid") != busy
        print("done")
    """
    ended = run_script(program, env=os.environ | {"THINKSMITH_VERIFY_WORKERS": "1"})
    assert (ended.stdout, ended.stderr) == ("done\n", "")


@pytest.mark.parametrize("written", ["0", "x", "65", "-1", "1.5", "９９９"])
def test_a_number_of_workers_that_is_none(monkeypatch, written):
    monkeypatch.setenv("THINKSMITH_VERIFY_WORKERS", written)
    with pytest.raises(UserError, match="THINKSMITH_VERIFY_WORKERS must be a number from 1 to 64"):
        workers_wanted()


def test_a_deadline_that_is_over_before_the_worker_has_begun():
    begin = time.monotonic()
    for _ in range(30):
        with pytest.raises(Exceeded):
            call("verify_tasks:spin", None, seconds=0.0001)
    assert call("operator:add", 1, 1) == 2
    assert time.monotonic() - begin < 10
