r"""How many verdicts a second, beside math-verify alone in the same run, and whether both say the same.

Ours is `verify(problem, trace)`, for MATH-500 from two threads over two workers; math-verify is its `parse` and
`verify` in the main thread, with its own deadlines, as its users call it. Four sets of pairs of a gold answer and an
answer: plain numbers made up, right and wrong; GSM8K's answers against themselves and others; MATH-500's against
themselves in other writings (made by rule, `_rephrase.py`) and against those of other problems. What we remember of
answers is forgotten before each repetition. Every disagreement is listed in the result with its reason. Then 1,000
poisoned answers in a row, with a short deadline; in between, right answers have to be right.

    python bench/verify.py [--quick]

Needs the data sets under shared/data, or where THINKSMITH_DATA says.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from _rephrase import rephrased
from _result import finish
from thinksmith.records import Problem, Trace
from thinksmith.verify import math as kind_math
from thinksmith.verify import math_form, number, verify, workers

WORKERS = 2
GOALS = {
    "numbers_times_math_verify": 20.0,
    "math500_times_math_verify": 1.5,
    "unexplained_disagreements_at_most": 0,
    "missed_rephrasings_at_most": 0,
    "poisoned_answers": 1000,
}
LEFT_TO_COMPUTE = "ours: left to compute, since the gold answer is a plain number and this is a product"


class Pair(NamedTuple):
    """A gold answer, an answer, the kind to verify by, and how the answer came about."""

    gold: str
    answer: str
    kind: str
    rule: str


def numbers(count: int) -> list[Pair]:
    """Plain numbers as models write them; a half of them is right."""
    draw = random.Random(0)
    pairs = []
    for _ in range(count):
        n = draw.choice((draw.randint(0, 99), draw.randint(100, 10**6)))
        written = draw.choice((str(n), f"{n:,}", f"{n}.0", f"x = {n}", f"\\${n}", f"{2 * n}/2"))
        pairs.append(Pair(str(draw.choice((n, n + draw.randint(1, 9)))), written, "number", "number"))
    return pairs


def gsm8k(rows: Sequence[dict[str, Any]], count: int) -> list[Pair]:
    golds = [row["answer"].rpartition("####")[2].strip() for row in rows][:count]
    others = [*golds[1:], golds[0]]
    return [
        Pair(gold, answer, "number", "gsm8k")
        for gold, other in zip(golds, others, strict=True)
        for answer in (gold, other)
    ]


def math500(golds: Sequence[str]) -> list[Pair]:
    return [Pair(gold, text, "math", rule) for gold in golds for rule, text in rephrased(gold)]


def others(golds: Sequence[str], each: int) -> list[Pair]:
    draw = random.Random(0)
    return [Pair(gold, other, "math", "other") for gold in golds for other in draw.sample(golds, each) if other != gold]


def by_us(pairs: Sequence[Pair]) -> list[str]:
    def status(pair: Pair) -> str:
        problem = Problem("p", "?", pair.gold, pair.kind)
        return verify(problem, Trace("", f"\\boxed{{{pair.answer}}}", "none")).status

    if pairs[0].kind == "number":  # needs no worker
        return [status(pair) for pair in pairs]
    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(status, pairs))


def by_math_verify(pairs: Sequence[Pair]) -> list[bool]:
    import math_verify

    return [
        bool(math_verify.verify(math_verify.parse(f"${pair.gold}$"), math_verify.parse(f"\\boxed{{{pair.answer}}}")))
        for pair in pairs
    ]


def forget() -> None:
    kind_math._by_algebra.cache_clear()
    math_form.read.cache_clear()
    number._read.cache_clear()


def measure(pairs: Sequence[Pair], repetitions: int) -> tuple[dict[str, float], list[str], list[bool]]:
    """Verdicts a second (medians; the two take turns), and what both say."""
    ours, theirs = list[float](), list[float]()
    for _ in range(repetitions):
        forget()
        begin = time.perf_counter()
        said = by_us(pairs)
        ours.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        said_by_them = by_math_verify(pairs)
        theirs.append(time.perf_counter() - begin)
    a, b = statistics.median(ours), statistics.median(theirs)
    rates = {
        "pairs": len(pairs),
        "verdicts_per_s": round(len(pairs) / a, 1),
        "math_verify_per_s": round(len(pairs) / b, 1),
        "times": round(b / a, 2),
    }
    return rates, said, said_by_them


def why(pair: Pair, ours: str) -> str | None:
    """The reason for a disagreement, if it is one that is meant."""
    if pair.rule == "half" and ours == "wrong" and pair.answer[12:-1].isdigit():
        return LEFT_TO_COMPUTE
    return None


POISON = (
    "x^{{9^{{9^{{{n}}}}}}}", "{n}**9**9**9 + x", "5^(5^(5^(5^{n}))) x", "(((({n}!)!)!)!)!", "x'x'x'x'x'x'x'x'x'x'{n}",
    r"\binom{{10^{n}}}{{5^{n}}} x", "(x+y+z+{n})^{{4999}}", "(((((((((((x)))))))))))+{n}", "x^x^x^x^x^x^{n}",
    r"\sqrt[9^{{9^{n}}}]{{x}}", "2^{{2^{{2^{{2^{{2^{{x+{n}}}}}}}}}}}", r"\sum_{{k=1}}^{{10^{n}}} \frac{{x}}{{k}}",
    r"\gcd(10^{{{n}}}!, 7^{{9999}}) x", "x<{n}<x<x<y", "|||||||||||||||x+{n}", "\ud800{n}x", "{n}" + "9" * 700 + "x",
    r"\lfloor \lfloor x^{{{n}}} \rfloor^{{{n}}} \rfloor", r"\max(x^{{{n}}}, y, \min(x, y, z^{{{n}}}))",
    "__import__('os').abort()+{n}",
)  # fmt: skip


def poisoned(count: int) -> dict[str, Any]:
    """`count` poisoned answers with a deadline of 0.1 s; after every ten a right one, which must be right."""
    statuses: dict[str, int] = {}
    slowest, right, deadline = 0.0, 0, workers.DEADLINE
    workers.DEADLINE = 0.1
    before = workers.counts()
    begin = time.perf_counter()
    for n in range(count):
        text = POISON[n % len(POISON)].format(n=n + 2)
        trace = Trace("", f"\\boxed{{{text}}}", "none")
        started = time.perf_counter()
        status = verify(Problem("p", "?", "x + 1", "math"), trace).status
        slowest = max(slowest, time.perf_counter() - started)
        statuses[status] = statuses.get(status, 0) + 1
        if n % 10 == 9:
            workers.DEADLINE = deadline
            trace = Trace("", f"\\boxed{{{n} + x}}", "none")
            right += verify(Problem("p", "?", f"x + {n}", "math"), trace).correct
            workers.DEADLINE = 0.1
    workers.DEADLINE = deadline
    return {
        "answers": count,
        "statuses": statuses,
        "seconds": round(time.perf_counter() - begin, 1),
        "slowest_s": round(slowest, 3),
        "right_in_between": right,
        "of": count // 10,
        "workers": {name: number - before.get(name, 0) for name, number in workers.counts().items()},
    }


def data(name: str) -> list[dict[str, Any]]:
    folder = Path(os.environ.get("THINKSMITH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    try:
        return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        print(f"{folder / name} is not here; set THINKSMITH_DATA to the folder with the data sets", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a part of each set, one repetition, under 50 seconds")
    quick = parser.parse_args().quick
    os.environ["THINKSMITH_VERIFY_WORKERS"] = str(WORKERS)
    logging.disable(logging.WARNING)
    golds = [row["answer"] for row in data("math500/test.jsonl")]
    part = golds[::4] if quick else golds
    sets = {
        "numbers": numbers(500 if quick else 1_500),
        "gsm8k": gsm8k(data("gsm8k/test.jsonl"), 200 if quick else 1_319),
        "math500_rephrased": math500(part),
        "math500_others": others(part, 4 if quick else 6),
    }
    repetitions = 1 if quick else 3
    for pairs in sets.values():  # both are warm, and the workers are there, before anything is timed
        by_us(pairs[:20])
        by_math_verify(pairs[:20])
    figures, listed, missed = dict[str, Any](), list[dict[str, Any]](), list[dict[str, Any]]()
    for name, pairs in sets.items():
        figures[name], ours, theirs = measure(pairs, repetitions)
        for pair, status, said in zip(pairs, ours, theirs, strict=True):
            if (status == "correct") != said:
                listed.append(pair._asdict() | {"ours": status, "math_verify": said, "why": why(pair, status)})
            if name == "math500_rephrased" and status != "correct" and why(pair, status) is None:
                missed.append(pair._asdict())
    poison = poisoned(100 if quick else GOALS["poisoned_answers"])
    report(figures, listed, missed, poison)
    figures |= {"disagreements": listed, "missed_rephrasings": missed, "poisoned": poison}
    figures |= {"workers": WORKERS, "repetitions": repetitions, "math_verify": version("math-verify")}
    finish("verify", figures, GOALS, holds(figures))


def report(figures: dict[str, Any], listed: list[Any], missed: list[Any], poison: dict[str, Any]) -> None:
    for name, rate in figures.items():
        print(
            f"{name:18} {rate['verdicts_per_s']:>10,.0f}/s   math-verify {rate['math_verify_per_s']:>7,.0f}/s", end=""
        )
        print(f"   {rate['times']:>7.1f} times   {rate['pairs']:,} pairs")
    print(f"disagreements      {len(listed)}, of which without a reason {sum(one['why'] is None for one in listed)}")
    for one in listed:
        print(f"    {one['gold']} | {one['answer']} ({one['rule']}): ours {one['ours']}, {one['why']}")
    print(f"rephrasings missed {len(missed)}")
    print(f"poisoned answers   {poison['answers']} in {poison['seconds']} s, slowest {poison['slowest_s']} s", end=", ")
    print(f"{poison['statuses']}, right in between {poison['right_in_between']} of {poison['of']}")


def holds(figures: dict[str, Any]) -> bool:
    poison = figures["poisoned"]
    return (
        figures["numbers"]["times"] >= GOALS["numbers_times_math_verify"]
        and min(figures[name]["times"] for name in ("math500_rephrased", "math500_others"))
        >= GOALS["math500_times_math_verify"]
        and all(one["why"] for one in figures["disagreements"])
        and not figures["missed_rephrasings"]
        and poison["right_in_between"] == poison["of"]
        and not {"correct", "error"} & set(poison["statuses"])
    )


if __name__ == "__main__":
    main()
