"""How long a user waits: for `thinksmith --help`, and for the first token of `thinksmith ask`.

Each program is started anew, interleaved with the others, and the median of the starts is taken. `python -c pass` is
the floor that no Python program goes below; peers are the command lines of other tools of this field that are installed
beside this Python, with their own `--help`. The processor's seconds (user and system, of the program and its children)
stand beside the wall's: on a machine that does other work, they tell what the program itself needs.

    python bench/startup.py [--quick] [--model NAME]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _result import finish

BIN = Path(sys.executable).parent
PEERS = ("trl", "lm_eval", "lm-eval", "inspect", "llm", "vllm", "tune", "axolotl", "hf")
GOALS = {"help_s": 0.3, "first_token_s": 4.0}
QUESTION = "What is 27 * 34?"


@dataclass(frozen=True)
class Start:
    """Seconds of one start: wall until the awaited output (or the end), and processor until the end."""

    wall: float
    processor: float


def start(command: Sequence[str | Path], *, until_output: bool = False) -> Start:
    """Run a command to its end. `until_output`: the wall's clock stops at the first byte of standard output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    first = child.stdout.read(1) if until_output else b""
    seen = time.perf_counter()
    child.communicate()
    ended = seen if until_output else time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode or (until_output and not first):
        raise SystemExit(f"{' '.join(map(str, command))} failed with exit code {child.returncode}")
    return Start(ended - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def medians(commands: dict[str, list[str | Path]], repeats: int) -> dict[str, Start]:
    """The median start of each command, after one that fills the file cache."""
    for command in commands.values():
        start(command)
    rounds = [{name: start(command) for name, command in commands.items()} for _ in range(repeats)]
    return {name: median([each[name] for each in rounds]) for name in commands}


def median(starts: Sequence[Start]) -> Start:
    return Start(statistics.median(s.wall for s in starts), statistics.median(s.processor for s in starts))


def first_token(model: str, repeats: int) -> Start:
    """From starting `thinksmith ask` to the first token on its output."""
    ask = [BIN / "thinksmith", "ask", QUESTION, "--model", model, "--max-tokens", "16"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["THINKSMITH_STORE"] = str(Path(folder) / "store.db")
        starts = [start(ask, until_output=True) for _ in range(repeats + 1)]
    return median(starts[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 starts each instead of 10 (of ask: 1 instead of 5)")
    parser.add_argument("--model", default="tiny", help="the model that is asked")
    options = parser.parse_args()
    commands: dict[str, list[str | Path]] = {
        "thinksmith --help": [BIN / "thinksmith", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    commands |= {f"{peer} --help": [BIN / peer, "--help"] for peer in PEERS if (BIN / peer).exists()}
    found = medians(commands, 3 if options.quick else 10)
    found[f"ask {options.model}, first token"] = asked = first_token(options.model, 1 if options.quick else 5)
    for name, each in sorted(found.items(), key=lambda item: item[1].wall):
        print(f"{name:<28} {each.wall:7.3f} s   processor {each.processor:7.3f} s")
    help_s = found["thinksmith --help"].wall
    figures = {
        "help_s": round(help_s, 3),
        "first_token_s": round(asked.wall, 3),
        "wall_s": {name: round(each.wall, 3) for name, each in found.items()},
        "processor_s": {name: round(each.processor, 3) for name, each in found.items()},
        "load_average": round(os.getloadavg()[0], 1),
    }
    finish("startup", figures, GOALS, help_s <= GOALS["help_s"] and asked.wall <= GOALS["first_token_s"])


if __name__ == "__main__":
    main()
