"""Curating: 100,000 traces of about 1,000 tokens through the whole funnel, with an evaluation of 1,000 problems to be
looked for, and the set, the card and the report written.

The traces are made up (four of each of 25,000 problems, in words drawn by Zipf's law, with some twenty equations each:
plain ones, LaTeX, algebra) and things are planted in them: traces that are wrong, cut off, in another language, stuck,
copied word for word or nearly, contaminated, or with false equations. What was planted must be found, and nothing else
may be dropped as such. The traces per second are those of `curate` in processes of its own, from the command to the
last byte on the disk; the memory is the sum of the resident sizes of all its processes, looked at ten times a second.

    python bench/curate.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from _result import finish

GOALS = {"traces_per_s": 2_000, "memory_gb": 2.0}
SAMPLES = 4
WORDS = 620  # of a trace, beside its equations
SHORT = "the and of is to that so we in are this have for it then which with be by from not can let what"
COMMON = SHORT.split()
PLANTED = {
    "not correct": 0.30,
    "truncated": 0.06,
    "wrong language": 0.01,
    "repetition loop": 0.02,
    "contaminated": 0.01,
    "duplicate": 0.02,
    "near duplicate": 0.03,
    "false equations": 0.04,
}
"""Reason → share of the traces that are made for it."""


class Writer:
    """Makes up texts, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance, self._rng = random.Random(seed), np.random.default_rng(seed)
        syllables = [a + b for a in "bdfgklmnprstv" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
        rare = ["".join(self.chance.choices(syllables, k=self.chance.choice((2, 2, 3)))) for _ in range(4000)]
        self._vocabulary = np.array(COMMON + rare)
        weights = 1 / np.arange(3, len(self._vocabulary) + 3)
        self._shares = weights / weights.sum()
        self._words: list[str] = []

    def words(self, count: int) -> list[str]:
        if len(self._words) < count:
            self._words = self._rng.choice(self._vocabulary, 1_000_000, p=self._shares).tolist()
        taken = self._words[-count:]
        del self._words[-count:]
        return taken

    def sentence(self, count: int) -> str:
        return " ".join(self.words(count)).capitalize() + "."

    def equation(self, false: bool = False) -> str:
        a, b, c = (self.chance.randrange(2, 99) for _ in range(3))
        off = self.chance.randrange(1, 9) if false else 0
        kinds = (
            f"{a} + {b} = {a + b + off}",
            f"{a} * {b} = {a * b + off}",
            f"${a} \\times {b} = {a * b + off}$",
            f"{a} + {b} * {c} = {a + b * c + off}",
            f"\\(\\frac{{{a * b}}}{{{b}}} = {a + off}\\)",
            f"({a} + {b}) * {c} = {(a + b) * c + off}",
        )
        algebra = (f"x = {a}", f"{a}x + {b} = {a * c + b}", f"\\sqrt{{{a * a}}} = {a}", f"f(2) = {c}")
        return self.chance.choice(kinds if false or self.chance.random() < 0.7 else algebra)

    def thinking(self, false: int = 0) -> str:
        lines = []
        left = WORDS
        while left > 0:
            count = self.chance.randrange(12, 40)
            lines.append(f"{self.sentence(count)} So {self.equation()}.")
            left -= count
        for at in self.chance.sample(range(len(lines)), false):
            lines[at] += f" And {self.equation(false=True)}."
        return "\n".join(lines)


def write_traces(path: Path, problems: int) -> Counter[str]:
    """Writes the traces, and says what was planted."""
    writer = Writer(0)
    evaluation = [" ".join(writer.words(30)) for _ in range(1000)]
    with path.with_name("evaluation.jsonl").open("w") as file:
        for at, text in enumerate(evaluation):
            file.write(json.dumps({"id": f"e{at}", "problem": text, "answer": str(at)}) + "\n")
    planted: Counter[str] = Counter()
    before: list[dict[str, Any]] = []
    with path.open("w") as file:
        for number in range(problems):
            question, answer = writer.sentence(40), str(writer.chance.randrange(100, 10_000))
            for _ in range(SAMPLES):
                reason = draw(writer.chance) if before else ""
                row = trace(writer, reason, number, question, answer, before, evaluation)
                planted[reason] += 1
                file.write(json.dumps(row) + "\n")
                if not reason:
                    before = [*before[-20:], row]
    return planted


def draw(chance: random.Random) -> str:
    lot = chance.random()
    for reason, share in PLANTED.items():
        if lot < share:
            return reason
        lot -= share
    return ""


def trace(
    writer: Writer, reason: str, number: int, question: str, answer: str, before: list[Any], evaluation: list[str]
) -> dict[str, Any]:
    if reason == "duplicate":
        return dict(writer.chance.choice(before))
    thinking = writer.thinking(false=12 if reason == "false equations" else 0)
    if reason == "near duplicate":
        row = json.loads(json.dumps(writer.chance.choice(before)))
        said = row["messages"][1]["content"].split(" ")
        said[writer.chance.randrange(5, 200)] = "indeed"
        row["messages"][1]["content"] = " ".join(said)
        return dict(row)
    if reason == "wrong language":
        thinking = "我们需要计算这个数字然后再检查一遍结果。" * 120
    elif reason == "repetition loop":
        thinking += "\n" + " ".join([writer.sentence(12)] * 9)
    elif reason == "contaminated":
        question = f"{writer.sentence(6)} {writer.chance.choice(evaluation)} {writer.sentence(6)}"
    turn = f"<think>\n{thinking}\nSo it is {answer}.\n</think>\n\nThe answer is {answer}."
    if reason == "truncated":
        turn = f"<think>\n{thinking}"
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": turn}],
        "id": f"p{number}",
        "gold": answer,
        "kind": "number",
        "status": "wrong" if reason == "not correct" else "truncated" if reason == "truncated" else "correct",
        "tokens": 1000,
        "finish": "length" if reason == "truncated" else "stop",
        "model": "teacher",
        "meta": {},
    }


def resident(process: int) -> int:
    """Bytes of a process and all that it started; what they share is counted for each of them."""
    total, waiting = 0, [process]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:  # it ended meanwhile
            continue
    return total


def curated(traces: Path, out: Path) -> tuple[float, float, int]:
    """Seconds, seconds of the processors, and the most bytes of memory."""
    against = ["--against", str(traces.with_name("evaluation.jsonl"))]
    command = [sys.executable, "-m", "thinksmith", "curate", str(traces), "--out", str(out), *against]
    environment = os.environ | {"THINKSMITH_STORE": str(out.with_name("store.db")), "OMP_NUM_THREADS": "1"}
    begin, most = time.perf_counter(), [0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:

        def watch() -> None:
            while process.poll() is None:
                most[0] = max(most[0], resident(process.pid))
                time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        told = process.communicate()[0]
        watcher.join()
    if process.returncode:
        sys.exit(f"curate failed ({process.returncode})")
    seconds = time.perf_counter() - begin
    print(told, file=sys.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, most[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 traces instead of 100,000")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        traces, out = Path(name) / "traces.jsonl", Path(name) / "set"
        planted = write_traces(traces, (5_000 if quick else 100_000) // SAMPLES)
        count, size = sum(planted.values()), traces.stat().st_size
        print(f"  {count:,} traces of {size / count:,.0f} bytes", file=sys.stderr, flush=True)
        seconds, cpu, memory = curated(traces, out)
        record = json.loads((out / "funnel.json").read_text())
    dropped = {stage["reason"]: stage["dropped"] for stage in record["funnel"]["stages"]}
    found = {reason: dropped[reason] for reason in PLANTED}
    # What each trace shows by itself is found exactly. A copy of a trace that was dropped for something else is none
    # any more, and which traces reach the last stage depends on the rates.
    alone = ("not correct", "truncated", "wrong language", "repetition loop", "contaminated")
    right = all(found[reason] == planted[reason] for reason in alone) and dropped["answer not in thinking"] == 0
    right = right and all(
        0.9 * planted[reason] <= found[reason] <= planted[reason] for reason in ("duplicate", "near duplicate")
    )
    figures = {
        "traces": count,
        "bytes_a_trace": round(size / count),
        "seconds": round(seconds, 2),
        "traces_per_s": round(count / seconds),
        "cpu_ms_a_trace": round(1000 * cpu / count, 3),
        "memory_gb": round(memory / 1e9, 3),
        "kept": record["funnel"]["kept"],
        "planted": {reason: planted[reason] for reason in PLANTED},
        "found": found,
        "found_what_was_planted": right,
    }
    holds = right and figures["traces_per_s"] >= GOALS["traces_per_s"] and figures["memory_gb"] <= GOALS["memory_gb"]
    finish("curate", figures, GOALS, holds)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
