"""What HTTP costs: `thinksmith serve` beside its own engine without a server, and beside other servers with `tiny`.

Clients are a process of their own, which reads cheaply; each asks one problem of `tiny`'s families after another
(temperature 1, its own seed), so at any moment as many are in flight as there are clients. `share` is the server's
tokens a second over those of the bare engine in this process with the same requests, as many at a time: whole answers,
and streamed (each token a chunk). `over_others`: streamed, over the fastest other server. Rounds of ours and the bare
engine in turns, medians; the other servers once each, after a warm-up. First tokens: under the load of so many streams.
Idle memory: resident, of all processes of a server, once it answers and before it is asked.

    python bench/serve.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _result import finish
from _servers import OTHERS, OURS, Running, Server, missing, started, weights
from thinksmith.engines import open_engine
from thinksmith.engines.contract import Engine
from thinksmith.problems.families import mixture
from thinksmith.records import Request, Sampling

MOST = 256  # tokens
AT_ONCE = (1, 16, 64)
COMPARED = 16  # clients in the comparison with other servers
GOALS = {"share_64": 0.85, "share_64_streamed": 0.85, "over_others_16": 3.0}


@dataclass(frozen=True)
class Load:
    """Some problems, for so many clients."""

    clients: int
    count: int

    def texts(self) -> list[str]:
        return [problem.text for problem in mixture(self.count, split="test", seed=self.clients)]

    def bodies(self, model: str, stream: bool) -> list[dict[str, Any]]:
        more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return [
            {
                "model": model, "messages": [{"role": "user", "content": text}], "temperature": 1.0, "top_p": 1.0,
                "seed": seed, "max_tokens": MOST, **more,
            }
            for seed, text in enumerate(self.texts())
        ]  # fmt: skip

    def requests(self) -> list[Request]:
        return [
            Request(
                messages=({"role": "user", "content": text},),
                sampling=Sampling(temperature=1.0, top_p=1.0, seed=seed, max_tokens=MOST),
            )
            for seed, text in enumerate(self.texts())
        ]


class Clients:
    """The process of the clients."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("_serve_client.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, running: Running, load: Load, stream: bool) -> dict[str, Any]:
        """Tokens a second, and seconds until the first token of each request."""
        bodies = load.bodies(running.model, stream)
        job = {"port": running.port, "path": "/v1/chat/completions", "bodies": bodies, "clients": load.clients}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        found = json.loads(self._process.stdout.readline())
        failed = [status for status, *_ in found["rows"] if status != 200]
        if failed:
            raise RuntimeError(f"{running.server.name}: {len(failed)} of {load.count} requests fail, with {failed[0]}")
        tokens = sum(row[1] for row in found["rows"])
        return {
            "rate": tokens / found["seconds"], "tokens": tokens,
            "first": sorted(row[2] for row in found["rows"] if row[2] is not None),
        }  # fmt: skip

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


async def bare(engine: Engine, load: Load) -> float:
    """Tokens a second of the engine alone: as many requests in flight, each followed by the next."""
    left, tokens = iter(load.requests()), 0

    async def one() -> None:
        nonlocal tokens
        for request in left:
            (trace,) = await engine.sample(request)
            tokens += trace.tokens

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(load.clients)))
    return tokens / (time.perf_counter() - began)


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ours(clients: Clients, loads: Sequence[Load], rounds: int, folder: Path, log: Path) -> dict[str, Any]:
    """Our server and the bare engine, in turns."""
    engine = open_engine("tiny")
    figures: dict[str, Any] = {}
    rows = []
    with started(OURS, folder, log) as server:
        figures |= {"start_s": round(server.start_seconds, 1), "idle_mb": round(server.resident_mb())}
        for load in loads:
            rates: dict[str, list[float]] = {"bare": [], "whole": [], "streamed": []}
            first: list[float] = []
            for turn in range(rounds + 1):  # the first one warms up
                alone = asyncio.run(bare(engine, load))
                whole = clients.run(server, load, False)
                streamed = clients.run(server, load, True)
                if turn:
                    rates["bare"].append(alone)
                    rates["whole"].append(whole["rate"])
                    rates["streamed"].append(streamed["rate"])
                    first += streamed["first"]
            row = {"clients": load.clients, "requests": load.count}
            row |= {f"{name}_tokens_per_s": round(statistics.median(each)) for name, each in rates.items()}
            for name, key in (("whole", "share"), ("streamed", "share_streamed")):
                pairs = zip(rates[name], rates["bare"], strict=True)
                row[key] = round(statistics.median(served / alone for served, alone in pairs), 3)
            first.sort()
            row |= {f"first_token_p{p}_ms": round(percentile(first, p / 100) * 1e3, 1) for p in (50, 99)}
            rows.append(row)
            print(json.dumps(row), flush=True)
            figures |= {f"share_{load.clients}": row["share"], f"share_{load.clients}_streamed": row["share_streamed"]}
        figures["after_load_mb"] = round(server.resident_mb())
    engine.sample_all([])
    asyncio.run(engine.aclose())
    return figures | {"ours": rows}


def other(clients: Clients, server: Server, load: Load, folder: Path, log: Path) -> dict[str, Any]:
    """One other server: its rates, or why there are none."""
    row: dict[str, Any] = {"server": server.name, "clients": load.clients, "requests": load.count}
    if reason := missing(server):
        return row | {"skipped": reason}
    try:
        with started(server, folder, log) as running:
            row |= {"start_s": round(running.start_seconds, 1), "idle_mb": round(running.resident_mb())}
            clients.run(running, Load(1, 2), True)
            found = clients.run(running, load, True)
    except RuntimeError as error:
        return row | {"skipped": str(error)}
    row |= {"tokens": found["tokens"], "tokens_per_s": round(found["rate"])}
    return row | {f"first_token_p{p}_ms": round(percentile(found["first"], p / 100) * 1e3, 1) for p in (50, 99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few requests, one round, one other server")
    quick = parser.parse_args().quick
    loads = [Load(clients, (clients if clients > 1 else 4) if quick else max(24, 8 * clients)) for clients in AT_ONCE]
    clients, others = Clients(), OTHERS[1:2] if quick else OTHERS
    with tempfile.TemporaryDirectory() as made, weights() as folder:
        log = Path(made) / "server.log"
        figures = ours(clients, loads, 1 if quick else 5, folder, log)
        rows = []
        for server in others:
            rows.append(other(clients, server, Load(COMPARED, COMPARED if quick else 4 * COMPARED), folder, log))
            print(json.dumps(rows[-1]), flush=True)
    clients.close()
    own = next(row["streamed_tokens_per_s"] for row in figures["ours"] if row["clients"] == COMPARED)
    rates = [row["tokens_per_s"] for row in rows if "tokens_per_s" in row]
    if rates:
        figures[f"over_others_{COMPARED}"] = round(own / max(rates), 2)
    goals = {name: goal for name, goal in GOALS.items() if name in figures}
    holds = len(goals) == len(GOALS) and all(figures[name] >= goal for name, goal in goals.items())
    finish("serve", figures | {"others": rows}, goals, holds)


if __name__ == "__main__":
    main()
