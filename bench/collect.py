"""Collecting: what a request costs the collector, in milliseconds of one core.

5,000 draws (500 problems, 10 each) of an endpoint that answers after 20 ms with a stream of 20 pieces, 256 requests at
once, into a store on the disk: the processor's time of this process, all its threads, for each attempt. Beside it the
engine alone, asked the same requests with nothing done to what comes, in turns; their difference is what collecting
adds: giving out, verifying, storing, counting. And the same with whole answers instead of streams (`?stream=off`). The
endpoint runs in a process of its own and does not count; wall time stands beside.

    python bench/collect.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _result import finish
from _teacher import teacher
from thinksmith.distill.collect.collect import collect
from thinksmith.distill.collect.goal import Goal
from thinksmith.distill.collect.teachers import Teacher, opened
from thinksmith.records import Problem, Sampling
from thinksmith.store.store import Store
from thinksmith.strategies.draws import request_for

AT_ONCE, LATENCY = 256, 0.02
GOALS = {"core_ms_a_request": 1.0}
SAMPLING = Sampling(temperature=1.0, max_tokens=100)


def alone(name: str, problems: list[Problem], draws: int) -> None:
    """The engine, asked AT_ONCE requests at a time."""

    async def ask() -> None:
        engine = opened(name, AT_ONCE)
        left = iter([request_for(each, SAMPLING, number) for number in range(draws) for each in problems])

        async def worker() -> None:
            for request in left:
                (trace,) = await engine.sample(request)
                assert trace.tokens == 20

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        await engine.aclose()

    asyncio.run(ask())


def whole(name: str, problems: list[Problem], draws: int, store: Store, turn: int) -> None:
    """The collection of the same."""
    engine = opened(name, AT_ONCE)
    found = collect(
        problems, [Teacher(engine, SAMPLING, AT_ONCE)], goal=Goal("single", draws), store=store, name=f"turn {turn}"
    )
    assert found.complete
    assert found.ledger.attempts == len(problems) * draws
    assert found.ledger.correct > found.ledger.attempts / 3


def timed(work: Callable[[], None], count: int) -> tuple[float, float]:
    """Milliseconds of a core for each, and how many a second."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return (time.process_time() - cpu) / count * 1e3, count / (time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer draws and rounds")
    quick = parser.parse_args().quick
    count, draws, rounds = (100, 5, 2) if quick else (500, 10, 5)
    problems = [Problem(f"sum/{a}", f"{a} + {a + 7}", str(a + a + 7), "number") for a in range(count)]
    found: dict[str, list[tuple[float, float]]] = {"alone": [], "whole": [], "alone_unstreamed": [], "unstreamed": []}
    with tempfile.TemporaryDirectory() as folder, teacher(LATENCY) as base:
        streamed, plain = f"endpoint/m@{base}", f"endpoint/m@{base}?stream=off"
        with Store.open(Path(folder) / "store.db") as store:
            whole(streamed, problems[:20], 2, store, -1)  # imports, connections, caches
            for turn in range(rounds):
                for key, name in (("alone", streamed), ("alone_unstreamed", plain)):
                    found[key].append(timed(lambda name=name: alone(name, problems, draws), count * draws))  # type: ignore[misc]
                for key, name in (("whole", streamed), ("unstreamed", plain)):
                    found[key].append(
                        timed(lambda name=name, turn=turn: whole(name, problems, draws, store, turn), count * draws)  # type: ignore[misc]
                    )
    core = {key: statistics.median(ms for ms, _ in turns) for key, turns in found.items()}
    speed = {key: statistics.median(rate for _, rate in turns) for key, turns in found.items()}
    figures: dict[str, Any] = {
        "requests": count * draws,
        "at_once": AT_ONCE,
        "latency_ms": 1000 * LATENCY,
        "core_ms_a_request": round(core["whole"], 3),
        "engine_alone_core_ms": round(core["alone"], 3),
        "collecting_adds_core_ms": round(core["whole"] - core["alone"], 3),
        "unstreamed_core_ms_a_request": round(core["unstreamed"], 3),
        "unstreamed_engine_alone_core_ms": round(core["alone_unstreamed"], 3),
        "unstreamed_collecting_adds_core_ms": round(core["unstreamed"] - core["alone_unstreamed"], 3),
        "requests_a_second": round(speed["whole"], 1),
        "engine_alone_requests_a_second": round(speed["alone"], 1),
        "unstreamed_requests_a_second": round(speed["unstreamed"], 1),
    }
    holds = figures["core_ms_a_request"] <= GOALS["core_ms_a_request"]
    finish("collect", figures, GOALS, holds)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
