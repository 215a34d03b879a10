"""Evaluating: what the driver, the verifier and the store add to the engine's own work, and a store of a million
attempts: how fast they go in, how long a report and a page of traces take.

The overhead: 500 problems by `tiny`, through the engine alone (all requests at once) and through `evaluate`, in
turns, until the last attempt is on the disk; seconds of the processor, which other programs on the machine change
little, and wall time beside. The store: 64 attempts at each of 15,625 problems (as the papers on reasoning have them),
about 200 tokens each with their ids and log-probabilities, added 500 at a time; then the columns, the whole report as
HTML, and the first page and a later one of `thinksmith traces` under each filter, the slowest of which counts.

    python bench/eval.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _result import finish
from thinksmith.engines import open_engine
from thinksmith.engines.contract import Engine
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.evaluate.report import render_report, stored_report
from thinksmith.problems.load import load
from thinksmith.records import Attempt, Problem, Request, Sampling, Status, Trace, Verdict
from thinksmith.store.store import Store, StoredAttempt
from thinksmith.strategies.draws import request_for

GOALS = {
    "overhead_share": 0.10,
    "ingest_attempts_per_s": 10_000,
    "report_s": 5.0,
    "slowest_page_ms": 100.0,
}
SAMPLES = 64
BATCH = 500
WORDS = "Let me try to add the numbers first, then see how far that is from what I want to make."
SAMPLING = Sampling(temperature=1.0, max_tokens=256)


def overhead(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """The engine's seconds, those of the whole evaluation, and by which share these are more: the median of rounds."""
    problems = load("mixed", count, split="test", seed=0)
    engine = open_engine("tiny")
    engine.sample_all([Request(messages=problems[0].messages, sampling=SAMPLING)])
    shares: dict[str, list[float]] = {"cpu": [], "wall": []}
    with Store.open(folder / "overhead.db") as store:
        for turn in range(rounds):
            sampling = replace(SAMPLING, seed=turn)
            requests = [request_for(each, sampling, 0) for each in problems]
            alone = timed(partial(engine.sample_all, requests))
            whole = until_stored(engine, problems, sampling, store)
            for name, one, other in zip(shares, alone, whole, strict=True):
                shares[name].append(other / one - 1)
    asyncio.run(engine.aclose())
    return {
        "attempts": count,
        "overhead_share": statistics.median(shares["cpu"]),
        "overhead_share_of_wall_time": statistics.median(shares["wall"]),
    }


def until_stored(engine: Engine, problems: list[Problem], sampling: Sampling, store: Store) -> tuple[float, float]:
    """Processor and wall seconds until the last attempt is stored; what is worked out of them afterwards is apart."""
    last = [0.0, 0.0]

    def told(attempt: Attempt) -> None:
        last[:] = time.process_time(), time.perf_counter()

    cpu, wall = time.process_time(), time.perf_counter()
    evaluate(problems, engine, sampling=sampling, store=store, name="mixed", fresh=True, on_attempt=told)
    return last[0] - cpu, last[1] - wall


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def made_up(count: int) -> Iterator[list[Attempt]]:
    """Batches of attempts, a million different ones from 500 traces."""
    chance = random.Random(0)
    traces = [made_up_trace(chance) for _ in range(500)]
    statuses: tuple[Status, ...] = ("correct", "correct", "correct", "wrong", "wrong", "truncated", "no_answer")
    batch: list[Attempt] = []
    for number in range(count // SAMPLES):
        target = chance.randrange(1000)
        name = f"countdown/test/{chance.randrange(16**12):012x}"
        meta = {"family": "countdown", "level": number % 5, "subject": ("algebra", "geometry", "number")[number % 3]}
        problem = Problem(name, f"Use 3, 7, 25 and 50 to make {target}. Each number once.", str(target), meta=meta)
        for sample in range(SAMPLES):
            status = chance.choice(statuses)
            said = str(target) if status == "correct" else str(target + chance.choice((-10, -1, 1, 2)))
            verdict = Verdict(status, float(status == "correct"), None if status == "no_answer" else said)
            trace = chance.choice(traces)
            seeded = replace(trace, sampling=replace(trace.sampling, seed=chance.getrandbits(31)))
            batch.append(Attempt(problem, seeded, verdict, sample))
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def made_up_trace(chance: random.Random) -> Trace:
    count = chance.randrange(120, 280)
    words = WORDS.split()
    thinking = " ".join(chance.choice(words) for _ in range(count * 3 // 4))
    return Trace(
        thinking=thinking,
        answer="The answer is 42.",
        token_ids=tuple(chance.randrange(50_000) for _ in range(count)),
        logprobs=tuple(float(np.float32(-chance.expovariate(2))) for _ in range(count)),
        thinking_tokens=count - 8,
        answer_tokens=8,
        model="tiny",
        sampling=SAMPLING,
        seconds=chance.uniform(0.5, 3),
        prompt_tokens=30,
        prompt_ids=tuple(range(30)),
        opened="<think>\n",
        completion=f"{thinking}\n</think>\nThe answer is 42.",
    )


def fill(store: Store, count: int) -> tuple[str, dict[str, float]]:
    """A run of so many attempts, and how fast they went in; making them up is not counted."""
    run = store.start_run("eval", "countdown", "tiny", "w", {"samples": SAMPLES, "sampling": {"temperature": 1.0}})
    cpu = wall = 0.0
    stored = 0
    for batch in made_up(count):
        took = timed(partial(store.add, run, batch))
        cpu, wall, stored = cpu + took[0], wall + took[1], stored + len(batch)
        if stored % 100_000 < BATCH:
            print(f"  {stored:,} stored, {stored / wall:,.0f} a second", file=sys.stderr, flush=True)
    store.finish_run(run, {})
    return run, {
        "stored": stored,
        "ingest_attempts_per_s": stored / wall,
        "ingest_attempts_per_cpu_s": stored / cpu,
        "bytes_an_attempt": Path(store.where).stat().st_size / stored,
    }


def report_times(store: Store, run: str, folder: Path) -> dict[str, float]:
    figures = timed(lambda: store.figures(run))
    whole = timed(lambda: render_report(folder / "report.html", stored_report(store, [run])))
    return {
        "figures_s": figures[1],
        "figures_cpu_s": figures[0],
        "report_s": whole[1],
        "report_cpu_s": whole[0],
        "report_mb": (folder / "report.html").stat().st_size / 1e6,
    }


def page(store: Store, run: str, **asked: Any) -> list[StoredAttempt]:
    return list(store.attempts(run, limit=20, **asked))


def page_times(store: Store, run: str) -> dict[str, Any]:
    """Milliseconds for a page of 20, the median of 5 turns each: the first page of a filter, and a later one."""
    figures = store.figures(run)
    middle = int(np.median(figures.ids_N))
    problem = figures.problems[len(figures.problems) // 2]
    asked: dict[str, dict[str, Any]] = {
        "plain": {},
        "wrong": {"wrong": True},
        "truncated": {"status": "truncated"},
        "longest": {"order": "longest"},
        "shortest wrong": {"order": "shortest", "wrong": True},
        "longest truncated": {"order": "longest", "status": "truncated"},
        "problem": {"problem": problem.id},
        "wrong of a problem": {"problem": problem.id, "wrong": True},
    }
    asked |= {f"{name}, later": {**more, "after": middle} for name, more in asked.items() if "problem" not in more}
    found = {}
    for name, more in asked.items():
        turns = [timed(partial(page, store, run, **more))[1] for _ in range(5)]
        found[name] = 1000 * statistics.median(turns)
    words = timed(partial(page, store, run, problem=problem.id[-9:]))[1]
    return {
        "slowest_page_ms": max(found.values()),
        "slowest_page": max(found, key=lambda name: found[name]),
        "median_page_ms": statistics.median(found.values()),
        "page_by_a_part_of_the_text_ms": 1000 * words,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 attempts instead of 1,000,000")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: dict[str, Any] = overhead(folder, 300 if quick else 500, 3)
        with Store.open(folder / "store.db") as store:
            run, ingest = fill(store, 100_000 if quick else 1_000_000)
            figures |= ingest | report_times(store, run, folder) | page_times(store, run)
    holds = (
        figures["overhead_share"] <= GOALS["overhead_share"]
        and figures["ingest_attempts_per_s"] >= GOALS["ingest_attempts_per_s"]
        and figures["report_s"] <= GOALS["report_s"]
        and figures["slowest_page_ms"] <= GOALS["slowest_page_ms"]
    )
    figures = {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}
    finish("eval", figures, GOALS, holds)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
