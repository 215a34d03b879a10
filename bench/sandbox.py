"""What the sandbox costs: a program that does nothing in each set of layers, beside a bare interpreter in the same run.

Bare is `python -c pass` with the interpreter of this environment, started by the same subprocess module. All ways take
turns, so that a busy machine is busy for all of them. Programs per second are of two threads on two cores.

    python bench/sandbox.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from _result import finish
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.sandbox import Sandbox, host
from thinksmith.verify.code import judge

GOALS = {"overhead_ms_at_most": 40.0, "canonical_solutions_pass": 164, "stubs_fail": 164}
THREADS = 2
PROGRAM = "pass"
FIRST = "def add(a, b):\n    return a + b\nassert all(add(i, i) == 2 * i for i in range(100))\n"


def bare() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, stdin=subprocess.DEVNULL)


def isolated() -> None:
    """The same without what the sandbox leaves out: virtual environment and site-packages."""
    subprocess.run([sys._base_executable, "-I", "-S", "-c", PROGRAM], check=True, stdin=subprocess.DEVNULL)  # type: ignore[attr-defined]


def inside(sandbox: Sandbox) -> Callable[[], None]:
    def run() -> None:
        result = sandbox.run(PROGRAM)
        assert result.status == "ok", result

    return run


def sets() -> dict[str, Sandbox]:
    """All layers that work here, those of a machine without user namespaces, each alone, none."""
    found = host()
    chosen = {"all": found.active, "without namespaces": tuple(n for n in found.active if n != "namespaces")}
    chosen |= {f"{name} alone": (name,) for name in found.active} | {"no layer": ()}
    return {name: Sandbox(layers, found.way) for name, layers in chosen.items()}


def milliseconds(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            taken[name].append(1000 * (time.perf_counter() - begin))
    return taken


def per_second(sandbox: Sandbox, seconds: float) -> float:
    """Small programs with a check of their own, started by THREADS threads one after the other."""
    end = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            result = sandbox.run(FIRST)
            assert result.status == "ok", result
            done += 1
        return done

    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        total = sum(pool.map(work, range(THREADS)))
    return total / (time.perf_counter() - begin)


def humaneval() -> dict[str, float]:
    """How many solutions of the data set pass, how many stubs fail, and verdicts per second by THREADS threads."""
    solutions = load("humaneval")
    stubs = [replace(problem, answer="    pass\n") for problem in solutions]
    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        reasons = list(pool.map(lambda problem: judge(problem, problem.answer or ""), [*solutions, *stubs]))
    taken = time.perf_counter() - begin
    for problem, reason in zip(solutions, reasons, strict=False):
        if reason:
            print(f"{problem.id}: the canonical solution fails: {reason}")
    return {
        "canonical_solutions_pass": sum(reason is None for reason in reasons[: len(solutions)]),
        "stubs_fail": sum(reason is not None for reason in reasons[len(solutions) :]),
        "humaneval_verdicts_per_s": round(len(reasons) / taken, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under 50 seconds")
    quick = parser.parse_args().quick
    rounds, seconds = (25, 3.0) if quick else (100, 15.0)

    sandboxes = sets()
    ways = {"bare": bare, "bare, isolated": isolated} | {name: inside(box) for name, box in sandboxes.items()}
    milliseconds(ways, 2)  # files into the cache
    taken = milliseconds(ways, rounds)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    overheads = {
        name: statistics.median(a - b for a, b in zip(taken[name], taken["bare"], strict=True)) for name in sandboxes
    }
    rates = {name: per_second(sandboxes[name], seconds) for name in ("all", "without namespaces")}
    try:
        solved = humaneval()
    except UserError as error:  # the data set is not on every machine
        parser.exit(2, f"{error}\n")

    for name, median in medians.items():
        more = f"   {overheads[name]:+6.1f} ms over bare" if name in overheads else ""
        print(f"{name:20} {median:6.1f} ms{more}")
    for name, rate in rates.items():
        print(f"{name:20} {rate:6.1f} programs/s by {THREADS} threads on {len(os.sched_getaffinity(0))} cores")

    print(
        f"HumanEval: {solved['canonical_solutions_pass']} canonical solutions pass, {solved['stubs_fail']} stubs fail, "
        f"{solved['humaneval_verdicts_per_s']} verdicts/s"
    )

    figures = {
        "overhead_ms": round(overheads["all"], 2),
        "overhead_ms_by_layers": {name: round(value, 2) for name, value in overheads.items()},
        "median_ms": {name: round(value, 2) for name, value in medians.items()},
        "programs_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        **solved,
        "threads": THREADS,
        "rounds": rounds,
        "layers": list(sandboxes["all"].layers),
    }
    holds = sandboxes["all"].isolates and overheads["all"] <= GOALS["overhead_ms_at_most"]
    holds = holds and all(solved[name] == GOALS[name] for name in ("canonical_solutions_pass", "stubs_fail"))
    finish("sandbox", figures, GOALS, holds)


if __name__ == "__main__":
    main()
