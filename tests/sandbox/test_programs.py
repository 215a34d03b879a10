"""An ordinary program does in the sandbox what it does outside: the same output, the same exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from thinksmith.sandbox import Limits

PROGRAMS = {
    "arithmetic": "print(sum(i * i for i in range(1000)), 2**200, 0.1 + 0.2, -7 // 2)",
    "json": 'import json; print(json.dumps(json.loads(\'{"a": [1, 2.5, null, "\\u00e9"]}\'), sort_keys=True))',
    "decimal": "from decimal import *; getcontext().prec = 60; print(Decimal(2).sqrt())",
    "fractions": "from fractions import *; import statistics; print(Fraction(1, 3) + 1, statistics.stdev([1, 2, 4]))",
    "random": "import random; random.seed(7); print(random.sample(range(100), 5), random.random())",
    "hashlib": "import hashlib, hmac, secrets; print(hashlib.sha256(b'a').hexdigest(), len(secrets.token_bytes(8)))",
    "regular expressions": "import re; print(re.findall(r'\\w+', 'one two drei'))",
    "collections": "from collections import *; import heapq, bisect; print(Counter('banana').most_common(1))",
    "time": "import time, datetime; t = time.time(); time.sleep(0.01); print(time.time() > t, datetime.date.max)",
    "zones": "import zoneinfo, datetime; print(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('UTC')))",
    "sqlite": """
import sqlite3
for name in (":memory:", "some.db"):
    base = sqlite3.connect(name)
    base.execute("create table t (a)")
    base.executemany("insert into t values (?)", [(i,) for i in range(1000)])
    base.commit()
    print(base.execute("select sum(a) from t").fetchone())
""",
    "temporary files": """
import os, shutil, tempfile
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "a.txt")
    with open(path, "w") as file:
        file.write("hello")
    os.rename(path, path + "2")
    os.makedirs(os.path.join(folder, "x/y"))
    shutil.move(path + "2", os.path.join(folder, "x/y/z"))
    os.symlink("x", os.path.join(folder, "link"))
    print(open(os.path.join(folder, "link/y/z")).read(), sorted(os.listdir(folder)))
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x" * 10); file.flush(); file.truncate(3)
    print(os.path.getsize(file.name))
print(os.path.exists(folder))
""",
    "maps": """
import mmap
with open("m", "wb+") as file:
    file.truncate(8192)
    with mmap.mmap(file.fileno(), 0) as memory:
        memory[:5] = b"hello"
        print(memory[:6], len(memory))
print(len(mmap.mmap(-1, 4096)))
""",
    "threads": """
import threading, queue
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(16) as pool:
    print(sum(pool.map(lambda i: i * i, range(100))))
waiting = queue.Queue()
thread = threading.Thread(target=lambda: waiting.put(threading.current_thread().name), name="it")
thread.start(); thread.join(); print(waiting.get(timeout=1))
""",
    "asyncio": """
import asyncio
async def main():
    async def square(i):
        await asyncio.sleep(0.001)
        return i * i
    print(await asyncio.gather(*map(square, range(5))))
    print(await asyncio.to_thread(lambda: "from a thread"))
    try:
        await asyncio.wait_for(asyncio.sleep(9), 0.01)
    except asyncio.TimeoutError:
        print("too late")
asyncio.run(main())
""",
    "sockets of its own": """
import socket, select
a, b = socket.socketpair()
a.sendall(b"ping"); a.settimeout(1)
print(b.recv(10), select.select([a], [b], [], 0)[1] == [b])
""",
    "ctypes": "import ctypes; print(ctypes.CDLL(None).abs(-3), ctypes.sizeof(ctypes.c_long))",
    "callbacks from C": """
import ctypes
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
numbers = (ctypes.c_int * 5)(5, 1, 7, 33, 99)
ctypes.CDLL(None).qsort(numbers, 5, 4, compare(lambda a, b: a[0] - b[0]))
print(list(numbers))
""",
    "signals to itself": """
import os, signal
signal.signal(signal.SIGUSR1, lambda *_: print("caught"))
signal.raise_signal(signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
""",
    "recursion": "import sys; sys.setrecursionlimit(50000)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(20000))",
    "classes": "import dataclasses, typing, functools\n@dataclasses.dataclass(order=True)\nclass A:\n    b: int = 1\n"
    "print(A(2) > A(), typing.get_type_hints(A), functools.reduce(int.__mul__, range(1, 9)))",
    "pickle": "import pickle\nclass A: pass\na = A(); a.b = [1]\nprint(pickle.loads(pickle.dumps(a)).b, A.__module__)",
    "text files": "import csv, io, textwrap, logging, argparse, unittest, inspect, ast; print(ast.literal_eval('[1]'))",
    "unicode": "print('naïve ∑ 日本語 🙂', 'ß'.upper()); open('ü.txt', 'w').write('é'); print(open('ü.txt').read())",
    "compression": "import zlib, gzip, bz2, lzma; print(zlib.decompress(zlib.compress(b'a' * 99)) == b'a' * 99)",
    "imports": "import subprocess, multiprocessing, urllib.request, ssl, platform; print(platform.system())",
    "counting processors": "import os; print(len(os.sched_getaffinity(0)))",
    "standard input": "import sys; n = int(input()); print(sum(map(int, input().split())), n); print(sys.stdin.read())",
    "exit": "print('a'); exit(3)",
    "exit with a word": "import sys; sys.exit('some reason')",
    "exit at once": "import os; print('never seen', end=''); os._exit(4)",
    "assertion": "assert 1 == 2, 'no'",
    "exception": "def f(): raise ValueError('x')\nf()",
    "syntax": "print(",
    "at the end": "import atexit, threading; atexit.register(print, 'bye'); threading.Timer(0.05, print, 'x').start()",
    "its own hook": "import sys; sys.excepthook = lambda kind, error, trace: print('hook', kind.__name__); 1 / 0",
}
INPUT = b"3\n1 2 3\nthe rest\n\xc3\xa9"


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_as_bare(sandbox, name, tmp_path):
    bare = subprocess.run(
        [sys._base_executable, "-I", "-X", "utf8", "-c", PROGRAMS[name]],
        input=INPUT, capture_output=True, cwd=tmp_path, timeout=30, check=False,
    )  # fmt: skip
    ours = sandbox.run(PROGRAMS[name], stdin=INPUT)
    assert (ours.stdout, ours.exit_code) == (bare.stdout, bare.returncode), ours
    assert ours.status == ("ok" if bare.returncode == 0 else "failed")
    assert ours.stderr.splitlines()[-1:] == bare.stderr.splitlines()[-1:]


def test_it_sees_what_it_is_given_and_nothing_else(sandbox, tmp_path):
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "mine.py").write_text("X = 5", encoding="utf-8")
    (tmp_path / "extra").chmod(0o755)
    program = """
import sys, os, mine
print(sys.argv[1:], mine.X, open("data/in.txt").read(), sorted(os.listdir(".")), os.getcwd() == os.environ["HOME"])
print(sorted(os.environ.keys() - {"PWD"}))
"""
    result = sandbox.run(
        program, arguments=["a", "é"], files={"data/in.txt": b"hello", "b": b""}, packages=[tmp_path / "extra"]
    )
    assert result.stdout.decode().splitlines() == [
        "['a', 'é'] 5 hello ['b', 'data'] True",
        "['CHANNELS', 'HOME', 'LANG', 'MALLOC_ARENA_MAX', 'TMPDIR']",
    ], result


def test_traceback_names_nothing_of_ours(sandbox):
    said = sandbox.run("def f():\n    1 / 0\nf()").stderr.decode()
    assert said.splitlines() == [
        "Traceback (most recent call last):",
        '  File "program.py", line 3, in <module>',
        '  File "program.py", line 2, in f',
        "ZeroDivisionError: division by zero",
    ]


def test_child_processes_only_where_they_are_asked_for(sandbox):
    program = "import os\npid = os.fork()\nif pid: print(os.waitpid(pid, 0)[1])\nelse: os._exit(0)"
    assert "PermissionError" in sandbox.run(program).stderr.decode()
    if "namespaces" in sandbox.layers:
        assert sandbox.run(program, limits=Limits(processes=4)).stdout == b"0\n"
