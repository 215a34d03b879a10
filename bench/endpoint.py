"""Asking an endpoint: throughput beside bare httpx, seconds of a core a request, memory, and what becomes of broken
streams.

256 streams at once against an echo server in another process, which answers each with 20 events: the engine, with
everything it does (retries, pace, splitting, records), and httpx that reads the same bytes and does nothing with
them, in turns; and httpx with one request at a time, on one connection: what a request costs it at least. Then the
first token of one stream at a time; the memory over 20,000 requests; and 2,000 requests to a server that breaks two
thirds of them in one of 32 ways, in the APIs of six kinds of servers, streamed and not, each of which must end in
exactly the right trace, told as it came.

    python bench/endpoint.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import httpx

from _chaos import FAULTS, Chaos, questions, text_of
from _result import finish
from thinksmith.engines.remote.engine import RemoteEngine
from thinksmith.engines.remote.names import endpoint
from thinksmith.engines.remote.presets import PRESETS
from thinksmith.engines.remote.wire.client import Patience
from thinksmith.engines.remote.wire.retries import Retries
from thinksmith.errors import UserError
from thinksmith.records import Request, Sampling

AT_ONCE = 256
CHAOTIC = ("endpoint", "vllm", "sglang", "llamacpp", "ollama", "responses")
GOALS = {
    "throughput_over_httpx": 0.7,
    "core_ms_a_request": 1.0,
    "first_token_overhead_ms": 2.0,
    "growth_mb": 5.0,
    "chaos_wrong": 0,
    "chaos_hangs": 0,
}


@contextmanager
def echo() -> Iterator[str]:
    """The address of an echo server."""
    command = [sys.executable, str(Path(__file__).with_name("_echo.py"))]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.stdin.close()
        server.wait(10)


def request() -> Request:
    return Request(messages=({"role": "user", "content": "What is 2 + 2?"},), sampling=Sampling(max_tokens=100))


async def by_engine(engine: RemoteEngine, count: int) -> None:
    """`count` requests, AT_ONCE at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            (trace,) = await engine.sample(request())
            assert trace.tokens == 20

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def by_httpx(client: httpx.AsyncClient, base: str, count: int, at_once: int = AT_ONCE) -> None:
    """The same bytes, read and thrown away."""
    left = iter(range(count))
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
        "stream": True,
        "max_tokens": 100,
    }

    async def worker() -> None:
        for _ in left:
            async with client.stream("POST", f"{base}/v1/chat/completions", json=body) as response:
                async for _ in response.aiter_raw():
                    pass

    await asyncio.gather(*(worker() for _ in range(at_once)))


def resident_mb() -> float:
    """Of this process, without what is shared with files."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def timed(running: Awaitable[None], count: int) -> tuple[float, float]:
    """Requests a second, and milliseconds of a core that this process spent on each."""
    began, spent = time.perf_counter(), time.process_time()
    await running
    return count / (time.perf_counter() - began), (time.process_time() - spent) / count * 1e3


async def speeds(base: str, count: int, rounds: int, many: int) -> dict[str, float]:
    engine = RemoteEngine(endpoint(f"vllm/m@{base}", {}), start=AT_ONCE)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
    client = httpx.AsyncClient(timeout=60, limits=limits, trust_env=False)
    await by_engine(engine, count)
    await by_httpx(client, base, count)
    found: dict[str, list[tuple[float, float]]] = {"engine": [], "httpx": [], "one": []}
    for _ in range(rounds):
        found["engine"].append(await timed(by_engine(engine, count), count))
        found["httpx"].append(await timed(by_httpx(client, base, count), count))
        found["one"].append(await timed(by_httpx(client, base, count // 4, 1), count // 4))
    ratios = [ours / bare for (ours, _), (bare, _) in zip(found["engine"], found["httpx"], strict=True)]
    speed = {name: statistics.median(rate for rate, _ in runs) for name, runs in found.items()}
    core = {name: statistics.median(spent for _, spent in runs) for name, runs in found.items()}
    first = await first_tokens(engine, client, base, 50 * rounds)
    before = resident_mb()
    await by_engine(engine, many)
    figures = {
        "requests_a_second": round(speed["engine"], 1),
        "httpx_a_second": round(speed["httpx"], 1),
        "throughput_over_httpx": round(statistics.median(ratios), 3),
        "core_ms_a_request": round(core["engine"], 3),
        "httpx_core_ms_a_request": round(core["httpx"], 3),
        "httpx_core_ms_one_at_a_time": round(core["one"], 3),
        "first_token_overhead_ms": round(first, 3),
        "requests_for_memory": many,
        "growth_mb": round(resident_mb() - before, 2),
    }
    await client.aclose()
    await engine.aclose()
    return figures


async def first_tokens(engine: RemoteEngine, client: httpx.AsyncClient, base: str, count: int) -> float:
    """Milliseconds by which the engine's first piece comes later than httpx' first bytes; medians, one at a time."""
    ours, bare = [], []
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
        "stream": True,
        "max_tokens": 100,
    }
    for _ in range(count):
        began = time.perf_counter()
        stream = engine.stream(request())
        async for _ in stream:
            ours.append(time.perf_counter() - began)
            break
        await stream.aclose()
        began = time.perf_counter()
        async with client.stream("POST", f"{base}/v1/chat/completions", json=body) as response:
            async for _ in response.aiter_raw():
                bare.append(time.perf_counter() - began)
                break
    return (statistics.median(ours) - statistics.median(bare)) * 1e3


def chaos(count: int, seed: int = 0) -> dict[str, Any]:
    """Requests over a server that breaks them; a trace is right or it is an error, and comes within a minute."""
    random = Random(seed)
    kinds = [(kind, streamed) for kind in CHAOTIC for streamed in (True, False)]
    found = {"right": 0, "wrong": 0, "told": 0, "hangs": 0}
    faults: dict[str, int] = {}
    for number, (kind, streamed) in enumerate(kinds):
        share = count // len(kinds) + (number < count % len(kinds))
        script = [random.choice(FAULTS) if random.random() < 2 / 3 else "" for _ in range(10 * share)]
        with Chaos(script, style=random.choice(("reasoning_content", "tags", "opened")), hang=1.0) as server:
            asyncio.run(_chaotic(server, kind, streamed, questions(share, seed + number), found))
            for seen in server.seen:
                faults[seen.fault or "none"] = faults.get(seen.fault or "none", 0) + 1
    return {f"chaos_{name}": value for name, value in found.items()} | {"chaos_requests": count, "chaos_calls": faults}


async def _chaotic(server: Chaos, kind: str, streamed: bool, asked: Any, found: dict[str, int]) -> None:
    name = "endpoint" if kind == "responses" else kind
    place = replace(endpoint(f"{name}/m@{server.base}", {}), streamed=streamed)
    if kind == "responses":
        place = replace(place, preset=replace(PRESETS["openai"], needs_key=False))
    engine = RemoteEngine(
        place, patience=Patience(connect=5, first=0.5, between=0.5), retries=Retries(attempts=8, base=0.01, cap=0.1)
    )

    async def one(question: str) -> None:
        seen = {"thinking": "", "answer": ""}
        try:
            async with asyncio.timeout(60):
                async for delta in engine.stream(Request(messages=({"role": "user", "content": question},))):
                    if delta.part == "reset":
                        seen = {"thinking": "", "answer": ""}
                    elif delta.part != "done":
                        seen[delta.part] += delta.text
        except TimeoutError:
            found["hangs"] += 1
        except UserError:
            found["told"] += 1
        else:
            trace = delta.trace
            assert trace is not None
            right = (trace.thinking, trace.answer) == tuple(seen.values()) == text_of(question)
            refused = trace.finish == "error"
            found["told" if refused else "right" if right and trace.finish == "stop" else "wrong"] += 1

    await asyncio.gather(*(one(question) for question in asked))
    await engine.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    quick = parser.parse_args().quick
    with echo() as base:
        figures: dict[str, Any] = {"at_once": AT_ONCE, "events": 20}
        figures |= asyncio.run(speeds(base, 500 if quick else 2000, 3 if quick else 9, 3000 if quick else 20_000))
    print(
        f"{figures['requests_a_second']:,.0f} requests/s, httpx alone {figures['httpx_a_second']:,.0f}"
        f" ({figures['throughput_over_httpx']:.2f}); {figures['core_ms_a_request']:.2f} ms of a core each, httpx"
        f" {figures['httpx_core_ms_a_request']:.2f}, {figures['httpx_core_ms_one_at_a_time']:.2f} one at a time;"
        f" first token {figures['first_token_overhead_ms']:+.2f} ms; {figures['growth_mb']:+.1f} MB",
        flush=True,
    )
    figures |= chaos(200 if quick else 2000)
    print(
        f"{figures['chaos_requests']} broken requests: {figures['chaos_right']} right, {figures['chaos_wrong']} wrong,"
        f" {figures['chaos_told']} ended in one line, {figures['chaos_hangs']} hung"
    )
    at_least = figures["throughput_over_httpx"] >= GOALS["throughput_over_httpx"]
    holds = at_least and all(figures[name] <= goal for name, goal in GOALS.items() if name != "throughput_over_httpx")
    finish("endpoint", figures, GOALS, holds)


if __name__ == "__main__":
    main()
