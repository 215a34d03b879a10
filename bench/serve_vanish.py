"""Clients that vanish: 200 at once connect to `thinksmith serve tiny`, stream, and most hang up at a random moment.

For two minutes each asks one of 64 problems (greedy, streamed) after another. One in three reads to the end, and must
get, thinking and answer, what the same request gave when it was alone. The others hang up: with the request half sent,
before the first byte, or somewhere in the stream. Then: has every place in the engine come back (/metrics), does a lone
request still get its answer, and has the server grown? Memory is compared once everybody has left with what it was
after a first round of the same, half as long and ten seconds at least, which fills caches.

    python bench/serve_vanish.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from _result import finish
from _serve_client import Client, events
from _servers import OURS, Running, started
from thinksmith.problems.families import mixture

CLIENTS = 200
PROBLEMS = 64
PATH = "/v1/chat/completions"
GOALS = {"leaked_places": 0, "wrong_answers": 0, "failures": 0, "growth_mb": 8.0}


def bodies(count: int) -> list[bytes]:
    """Greedy, streamed requests."""
    return [
        json.dumps(
            {
                "model": "tiny", "messages": [{"role": "user", "content": problem.text}], "temperature": 0,
                "max_tokens": 256, "stream": True, "stream_options": {"include_usage": True},
            }
        ).encode()
        for problem in mixture(count, split="test", seed=10)
    ]  # fmt: skip


def said(body: bytes) -> tuple[str, str]:
    """Thinking and answer of a stream. Raises ValueError for one that told of an error."""
    thinking = answer = ""
    for event in events(body):
        if "error" in event:
            raise ValueError(event["error"]["message"])
        for choice in event["choices"]:
            thinking += choice["delta"].get("reasoning_content") or ""
            answer += choice["delta"].get("content") or ""
    return thinking, answer


async def alone(port: int, asked: list[bytes]) -> list[tuple[str, str]]:
    """Each request by itself, one after the other."""
    client, found = Client(port), []
    for body in asked:
        status, answer = await client.ask(PATH, body)
        assert status == 200, status
        found.append(said(answer))
    client.leave()
    return found


async def crowd(port: int, asked: list[bytes], truth: list[tuple[str, str]], seconds: float, seed: int) -> Counter[str]:
    """All clients for so many seconds; what became of their requests."""
    end, became = time.perf_counter() + seconds, Counter[str]()

    async def one(chance: random.Random) -> None:
        client = Client(port)
        while time.perf_counter() < end:
            which = chance.randrange(len(asked))
            how = chance.choice(("stays", "half", "leaves"))
            if how == "half":
                became[await half_sent(port, asked[which], chance)] += 1
            elif how == "leaves":
                became[await leaves(port, asked[which], chance)] += 1
            else:
                became[await stays(client, asked[which], truth[which])] += 1
        client.leave()

    await asyncio.gather(*(one(random.Random(seed * CLIENTS + number)) for number in range(CLIENTS)))
    return became


async def stays(client: Client, body: bytes, truth: tuple[str, str]) -> str:
    """Reads to the end."""
    try:
        status, answer = await client.ask(PATH, body)
        if status == 429:
            await asyncio.sleep(0.5)
            return "full"
        return "failed" if status != 200 else "right" if said(answer) == truth else "wrong"
    except (OSError, ValueError):
        return "failed"


async def half_sent(port: int, body: bytes, chance: random.Random) -> str:
    """Hangs up with the request half sent."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    writer.write(head[: chance.randrange(1, len(head) - 1)])
    await asyncio.sleep(chance.random() * 0.2)
    writer.transport.abort()
    return "half sent"


async def leaves(port: int, body: bytes, chance: random.Random) -> str:
    """Hangs up up to two seconds after asking, which is anywhere from the queue to behind the end."""
    client = Client(port)
    asking = asyncio.ensure_future(client.ask(PATH, body))
    await asyncio.wait([asking], timeout=chance.random() * 2)
    ended = asking.done()
    client.leave()
    await asyncio.wait([asking])
    if asking.exception() is None and asking.result()[0] == 429:
        return "full"
    return "ended before it left" if ended else "vanished"


async def held(port: int) -> dict[str, float]:
    """Places that are taken, requests that wait, and requests at work, once they are none or half a minute is over."""
    end = time.perf_counter() + 30
    while True:
        _, text = await Client(port).ask("/metrics", b"", "GET")
        names = ("running", "waiting", "open_requests")
        found = {
            name: sum(map(float, re.findall(rf"^thinksmith_{name}(?:{{[^}}]*}})? (\S+)$", text.decode(), re.MULTILINE)))
            for name in names
        }
        if not any(found.values()) or time.perf_counter() > end:
            return found
        await asyncio.sleep(0.2)


async def measure(server: Running, problems: int, seconds: float) -> dict[str, object]:
    asked = bodies(problems)
    truth = await alone(server.port, asked)
    print(f"{problems} answers alone; now {CLIENTS} clients", flush=True)
    await crowd(server.port, asked, truth, max(10, seconds / 2), seed=1)
    await held(server.port)
    before = server.resident_mb()
    became = await crowd(server.port, asked, truth, seconds, seed=2)
    left = await held(server.port)
    growth = server.resident_mb() - before
    again = await alone(server.port, asked[:8])
    return {
        "clients": CLIENTS,
        "seconds": seconds,
        "requests": sum(became.values()),
        "became": dict(became),
        "leaked_places": int(sum(left.values())),
        "wrong_answers": became["wrong"] + sum(one != other for one, other in zip(again, truth[:8], strict=True)),
        "failures": became["failed"],
        "before_mb": round(before, 1),
        "growth_mb": round(growth, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="16 problems, ten seconds")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as made, started(OURS, Path(made), Path(made) / "server.log") as server:
        figures = asyncio.run(measure(server, 16 if quick else PROBLEMS, 10 if quick else 120))
    print(json.dumps(figures["became"]))
    holds = all(figures[name] <= goal for name, goal in GOALS.items())  # type: ignore[operator]
    finish("serve_vanish", figures, GOALS, holds)


if __name__ == "__main__":
    main()
