"""`kill -9` at 20 moments of an agent's run. Goal: nothing is done twice, nothing is lost, and every run ends as the
undisturbed one.

A process works on 30 things through the true tools, with journal and store as the command has them: it writes files,
appends lines to one file by edits, posts to a listener here, and reads between; the scripted model decides by what it
was told alone, so it goes on where the history ends. It is killed at a random moment of its work or within a few
milliseconds of an effect's beginning, gone on with, perhaps killed again, until it has ended. A post whose answer was
lost nobody can know of: the agent is told so, and looks before it posts again, as the model would have to.

Compared with the undisturbed run: all files, what the listener has (each thing once, no key twice), the answer, the
steps in the store. `in_doubt`: how many kills fell between an effect's beginning and its end, which are those that
matter. `--quick`: four kills.

    python bench/agent_kills.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from _result import finish
from thinksmith.agent.contract import Decision, Intent, Tool
from thinksmith.agent.loop import Manner
from thinksmith.agent.meter import Limits
from thinksmith.agent.opening import open_tools
from thinksmith.agent.running import Order, begin, carry_out, open_run
from thinksmith.engines.scripted import Scripted
from thinksmith.errors import UserError
from thinksmith.policy.tools import hermes
from thinksmith.records import Request, Sampling, ToolCall
from thinksmith.store.store import Store

KILLS, QUICK_KILLS = 20, 4
SPREAD = (1, 2, 1, 3, 2)  # how often a run is killed, in turn
THINGS = 30
GOALS: dict[str, Any] = {"kills": KILLS, "done_twice": 0, "lost": 0, "runs_that_differ_in": {}}


# --- the model, in the process that is killed


class Working(Scripted):
    """What it does next follows from the messages alone."""

    def __init__(self, base: str) -> None:
        super().__init__(self._turn, "working")
        self._base = base

    def _turn(self, request: Request) -> str:
        call = self._next(request.messages)
        answer = hermes([call]) if call else f"All {THINGS} things are done."
        return f"<think>\nI do {call}.\n</think>\n\n{answer}"

    def _next(self, messages: Sequence[Any]) -> ToolCall | None:
        """The next call: of the first thing that is not done."""
        thing, doubt = 0, False
        for heard in messages:
            if heard["role"] != "tool":
                continue
            if "nobody knows" in " ".join(heard["content"].split()):
                doubt = True
            elif doubt:  # it looked
                doubt = False
                thing += "yes" in heard["content"]
            else:
                thing += 1
        if doubt:
            return ToolCall(name="http_get", arguments={"url": f"{self._base}/has/{thing}"})
        return self._of(thing) if thing < THINGS else None

    def _of(self, thing: int) -> ToolCall:
        """Four things of each kind in turn."""
        calls = (
            ("files_write", {"path": f"made/{thing}.txt", "text": f"thing {thing}\n"}),
            ("http_send", {"method": "POST", "url": f"{self._base}/put", "body": f"thing {thing}"}),
            ("files_edit", {"path": "notes.txt", "old": "END", "new": f"thing {thing}\nEND"}),
            ("http_send", {"method": "PUT", "url": f"{self._base}/put", "body": f"thing {thing}"}),
            ("files_read", {"path": "notes.txt", "start": 1 + thing % 2}),
        )
        name, arguments = calls[thing % len(calls)]
        return ToolCall(name=name, arguments=arguments)


async def allowed(tool: Tool, call: Any, intent: Intent | None) -> Decision:
    return "once"


async def child(home: Path, base: str) -> None:
    """Begin, or go on with what was begun."""
    toolsets = await open_tools([f"files:{home / 'root'}", f"http:{base}"])
    tools = [tool for toolset in toolsets for tool in toolset.tools]
    engine = Working(base)
    order = Order(
        "Do 30 things.",
        "working",
        ("x",),
        Sampling(max_tokens=100),
        Limits(steps=100),
        Manner(planning=False, reflect_every=0),
    )
    with Store.open(home / "store.db") as store:
        try:
            run = open_run(store, "last")
        except UserError:  # it was killed before there was anything to go on with
            run = begin(store, order, engine, tools)
        await carry_out(run, store, engine, tools, allowed)
        run.journal.close()


# --- what it does is counted here


class Listener(ThreadingHTTPServer):
    """Takes things, with the keys under which they come."""

    daemon_threads = True

    def __init__(self) -> None:
        self.things: list[str] = []
        self.keys: list[str] = []
        self.random = Random(1)
        super().__init__(("127.0.0.1", 0), _Takes)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Takes(BaseHTTPRequestHandler):
    server: Listener

    def _put(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        time.sleep(self.server.random.uniform(0, 0.01))
        self.server.things.append(body)
        self.server.keys.append(self.headers["Idempotency-Key"])
        time.sleep(self.server.random.uniform(0, 0.02))
        self._say("taken")

    def do_GET(self) -> None:
        self._say("yes" if f"thing {self.path.rsplit('/', 1)[-1]}" in self.server.things else "no")

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_PUT = _put

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # whoever asked was killed
            super().handle()


@contextmanager
def listening() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


# --- killing


@dataclass
class Trial:
    """One run in a folder of its own."""

    home: Path
    listener: Listener
    in_doubt: int = 0
    lengths: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.home / "root").mkdir(parents=True)
        (self.home / "root" / "notes.txt").write_text("END\n")

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--child", str(self.home), self.listener.base]
        with (self.home / "told").open("ab") as told:
            return subprocess.Popen(command, stdout=told, stderr=told, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def finish(self) -> float:
        """To the end; the seconds from the first entry on."""
        process = self.start()
        began = self._working(process, len(self.journal()))
        if code := process.wait():
            raise SystemExit(f"the run ended with exit code {code}; see {self.home / 'told'}")
        return time.perf_counter() - began

    def kill(self, length: float, rng: Random) -> bool:
        """Whether it was killed before its end. `length`: seconds that the work takes."""
        process, before = self.start(), len(self.journal())
        began, effects = self._working(process, before), self._effects()
        at_sight, moment, delay = rng.random() < 0.5, rng.uniform(0, 0.9) * length, rng.uniform(0, 0.025)
        wanted = effects + rng.randint(1, 6)
        while process.poll() is None and time.perf_counter() - began < (2 * length if at_sight else moment):
            if at_sight and self._effects() >= wanted:
                time.sleep(delay)
                break
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        entries = Counter(
            json.dumps(entry["place"]) for entry in self.journal() if entry["kind"] in ("begin", "result")
        )
        done = {json.dumps(entry["place"]) for entry in self.journal() if entry["kind"] == "result"}
        self.in_doubt += killed and bool(set(entries) - done)
        return killed

    def _working(self, process: subprocess.Popen[bytes], before: int) -> float:
        """The moment at which it writes its first entry."""
        while process.poll() is None and len(self.journal()) <= before:
            time.sleep(0.001)
        return time.perf_counter()

    def _effects(self) -> int:
        return sum(entry["kind"] == "begin" for entry in self.journal())

    def journal(self) -> list[dict[str, Any]]:
        found = []
        for path in (self.home / "agents").glob("*/journal.jsonl"):
            lines = path.read_bytes().split(b"\n")
            found += [json.loads(line[9:]) for line in lines[:-1]]
        return found

    def files(self) -> dict[str, str]:
        root = self.home / "root"
        return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}

    def outcome(self) -> dict[str, Any]:
        """What must be the same in every run."""
        with Store.open(self.home / "store.db") as store:
            finished = [run for run in store.runs() if run.status == "done"]
            if len(finished) != 1:
                return {"finished": len(finished)}
            samples = [each.attempt.sample for each in store.attempts(finished[0].id)]
            steps = samples == list(range(len(samples))) and len(samples) > THINGS
            answer = str(finished[0].summary["answer"])
        return {
            "files": self.files(),
            "things": dict(sorted(Counter(self.listener.things).items())),
            "answer": answer,
            "every step is stored once": steps,
        }


def trial(folder: Path, kills: int) -> dict[str, Any]:
    """`kills` kills, over as many runs as that takes; the figures."""
    rng, met, runs, in_doubt = Random(0), 0, 0, 0
    differ: dict[str, list[str]] = {}
    twice = lost = 0
    with listening() as listener:
        calm = Trial(folder / "calm", listener)
        length, expected = calm.finish(), calm.outcome()
    while met < kills:
        with listening() as listener:
            run = Trial(folder / f"killed-{runs}", listener)
            for _ in range(min(SPREAD[runs % len(SPREAD)], kills - met)):
                if run.kill(length, rng):
                    met += 1
                    print(f"kill {met}: {len(run.journal())} entries, {len(listener.things)} posts", flush=True)
            run.finish()
            got = run.outcome()
            if wrong := [key for key in expected if got.get(key) != expected[key]]:
                differ[str(runs)] = wrong
            notes = Counter(run.files()["notes.txt"].split("\n"))
            counted = Counter(listener.things) + Counter(
                {line: n for line, n in notes.items() if line.startswith("thing")}
            )
            twice += sum(n - 1 for n in counted.values()) + len(listener.keys) - len(set(listener.keys))
            wanted = Counter(expected["things"]) + Counter(calm.files()["notes.txt"].split("\n"))
            lost += sum(line.startswith("thing") and line not in counted for line in wanted)
            lost += sum(name not in run.files() for name in calm.files())
            in_doubt += run.in_doubt
            runs += 1
    return {
        "kills": met,
        "runs": runs,
        "done_twice": twice,
        "lost": lost,
        "runs_that_differ_in": differ,
        "in_doubt": in_doubt,
        "seconds_of_a_run": round(length, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four kills")
    parser.add_argument("--child", nargs=2, metavar=("HOME", "BASE"), help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        asyncio.run(child(Path(parsed.child[0]), parsed.child[1]))
        return
    kills = QUICK_KILLS if parsed.quick else KILLS
    with tempfile.TemporaryDirectory() as folder:
        figures = trial(Path(folder), kills)
    holds = figures["kills"] == kills and all(figures[name] == goal for name, goal in GOALS.items() if name != "kills")
    finish("agent_kills", figures, GOALS, holds)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
