"""Speeds that `fit` predicts beside those that others published and those that the local engine reaches here.

    python bench/_fit_speed.py            # published figures, each left out of what is drawn from the others
    python bench/_fit_speed.py --derive   # what fit/speed/efficiency.toml should say of llamacpp and vllm
    python bench/_fit_speed.py --local [--quick] [--threads 1]   # the local engine on this CPU

What is drawn from figures of one engine on one kind of machine: with the time that launches cost a layer which leaves
the least mean error, the median share of the bandwidth that explains the rest of decoding; for a class of formats where
there are three figures or more, else of all. The share of products is the median that explains prefill.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thinksmith.fit.formats.formats import find_format, resolve
from thinksmith.fit.speed.device import Device
from thinksmith.fit.speed.efficiency import CEILING, Efficiency, bits_class, place_of
from thinksmith.fit.speed.published import Figure, published
from thinksmith.fit.speed.speed import Work, decode, decode_work, prefill_work, seconds_of

Place = tuple[str, str]  # engine and place
ENOUGH = 3  # figures of a class of formats
LAUNCHES = [microseconds / 1e6 for microseconds in range(0, 305, 5)]
POOLED = {"vllm": {"unified": "cuda"}}  # too few figures of one place
ASSUMED = 0.6  # share of products where nobody published a prefill; see efficiency.toml
LOCAL_GOAL = 0.25


@dataclass(frozen=True)
class Case:
    """A figure, and what it asks for."""

    figure: Figure
    work: Work
    seconds: float
    machine: Device
    ideal: dict[str, float]  # seconds of the parts at the ceilings
    bits: str

    @property
    def place(self) -> Place:
        place = place_of(self.machine)
        return self.figure.engine, POOLED.get(self.figure.engine, {}).get(place, place)


@dataclass(frozen=True)
class Drawn:
    """What is drawn from the figures of one place."""

    read: dict[str, float]
    multiply: float
    launch: float
    error: float  # mean of the errors of decoding
    decoded: int
    prefilled: int

    def efficiency(self, bits: str) -> Efficiency:
        return Efficiency(self.read.get(bits, self.read["any"]), self.multiply, self.launch)

    @property
    def toml(self) -> str:
        read = ", ".join(f"{'any' if name == 'any' else repr(name)} = {share:.2f}" for name, share in self.read.items())
        return (
            f"read = {{ {read} }}\nmultiply = {self.multiply:.2f}\nlaunch_us = {self.launch * 1e6:.0f}\n"
            f'source = "published.toml: {self.decoded} figures of decoding, {self.prefilled} of prefill"'
        ).replace("'", '"')


def cases() -> list[Case]:
    return [case(figure) for figure in published()]


def case(figure: Figure) -> Case:
    machine, shape = figure.machine, figure.shape
    if figure.kind == "decode":
        work, tokens = decode_work(shape, figure.serving, machine, figure.context), figure.batch
    else:
        work, tokens = prefill_work(shape, figure.serving, machine, figure.tokens, figure.context), figure.tokens
    bits = resolve(find_format(figure.format, figure.engine, machine.kind), shape).bits
    return Case(figure, work, tokens / figure.rate, machine, work.parts(machine, CEILING), bits_class(bits))


def draw(found: Sequence[Case]) -> dict[Place, Drawn]:
    """What the figures say, those that are checks only left aside."""
    used = [each for each in found if not each.figure.check]
    places = {each.place for each in used if each.figure.kind == "decode"}
    return {place: draw_place([each for each in used if each.place == place]) for place in sorted(places)}


def draw_place(found: Sequence[Case]) -> Drawn:
    decoding = [each for each in found if each.figure.kind == "decode"]
    reading = [each for each in found if each.figure.kind == "prefill"]
    multiply = ASSUMED
    for _ in range(3):  # each needs the other, a little
        tries = [with_launch(decoding, len(reading), multiply, launch) for launch in LAUNCHES]
        best = min(tries, key=lambda drawn: drawn.error)
        if reading:
            multiply = min(1.0, statistics.median(share_of_products(each, best) for each in reading))
    return with_launch(decoding, len(reading), multiply, best.launch)


def with_launch(found: Sequence[Case], prefilled: int, multiply: float, launch: float) -> Drawn:
    def share(each: Case) -> float:
        left = each.seconds - launch * each.work.layers - each.ideal["multiplying"] / multiply
        return min(1.0, each.ideal["reading"] / max(left, 1e-9))

    classes = {each.bits for each in found}
    members = {bits: [each for each in found if each.bits == bits] for bits in sorted(classes)}
    read = {"any": statistics.median(map(share, found))} | {
        bits: statistics.median(map(share, some)) for bits, some in members.items() if len(some) >= ENOUGH
    }
    drawn = Drawn(read, multiply, launch, 0.0, len(found), prefilled)
    errors = [
        abs(seconds_of(each.work, each.machine, drawn.efficiency(each.bits))[0] / each.seconds - 1) for each in found
    ]
    return Drawn(read, multiply, launch, statistics.mean(errors), len(found), prefilled)


def share_of_products(each: Case, drawn: Drawn) -> float:
    how = drawn.efficiency(each.bits)
    parts = each.work.parts(each.machine, how)
    return each.ideal["multiplying"] / max(each.seconds - parts["reading"] - parts["overhead"], 1e-9)


def beside() -> list[dict[str, Any]]:
    """Each published figure beside its prediction; one that others are drawn from is left out for it."""
    found = cases()
    used = [each for each in found if not each.figure.check]
    whole = draw(found)
    rows = []
    for each in found:
        drawn = whole.get(each.place)
        if not each.figure.check:
            drawn = draw_place([other for other in used if other.place == each.place and other is not each])
        figure, pace = each.figure, each.figure.predicted()
        tokens = figure.batch if figure.kind == "decode" else figure.tokens
        alone = tokens / seconds_of(each.work, each.machine, drawn.efficiency(each.bits))[0] if drawn else None
        rows.append(
            {
                "kind": figure.kind, "engine": figure.engine, "device": figure.device, "model": figure.model,
                "format": figure.format, "tokens": tokens, "context": figure.context, "published": figure.rate,
                "ceiling": round(pace.ceiling, 2), "predicted": round(pace.tokens_per_second, 2),
                "left_out": round(alone, 2) if alone else None,
                "error": round((alone or pace.tokens_per_second) / figure.rate - 1, 3),
                "check": figure.check, "why": figure.why, "url": figure.url, "date": figure.date,
            }
        )  # fmt: skip
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    errors = [abs(row["error"]) for row in rows if not row["check"]]
    return {
        "figures": len(errors),
        "median_error": round(statistics.median(errors), 3),
        "within_quarter": round(sum(error <= LOCAL_GOAL for error in errors) / len(errors), 2),
        "largest_error": max(errors),
    }


def local(quick: bool = False, threads: int = 0) -> list[dict[str, Any]]:
    """The local engine's decoding on this CPU beside the prediction for `this`: best steps of several runs.

    With one of `threads` the CPU's seconds are counted, so that it matters less what else the machine does.
    """
    import torch

    from _peers import by_engine
    from _shapes import SHAPES, make_policy
    from thinksmith.engines.local.engine import LocalEngine
    from thinksmith.fit.memory.inference import Serving
    from thinksmith.fit.shapes.configs import shape_of
    from thinksmith.fit.speed.this import this_device

    if threads:
        torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    rows = []
    plan = {"tiny": (128, (1, 16, 64, 256)), "25m": (48, (1, 4, 16, 64)), "0.6b": (6, (1, 4, 16, 32))}
    for name, (tokens, batches) in plan.items():
        if quick and name != "tiny":
            continue
        policy = make_policy(SHAPES[name], torch.device("cpu"))
        engine = LocalEngine(policy)
        way = by_engine(engine)
        shape = shape_of(SHAPES[name].config.to_dict(), name)
        for batch in batches[::2] if quick else batches:
            device = this_device(again=True)
            seconds = step_seconds(way.run, batch, tokens, clock)
            pace = decode(shape, Serving("local", "fp32", "fp32", 2 * tokens, batch), device, tokens)
            rows.append(
                {
                    "model": name, "batch": batch, "measured": round(batch / seconds, 1),
                    "predicted": round(pace.tokens_per_second, 1), "ceiling": round(pace.ceiling, 1),
                    "bound": pace.bound, "error": round(pace.tokens_per_second * seconds / batch - 1, 3),
                    "bandwidth_gb_s": round(device.bandwidth / 1e9, 1), "gflops": round(device.flops["fp32"] / 1e9),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
        way.release()
        engine.close()
    return rows


def step_seconds(run: Any, batch: int, tokens: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a step of decoding: what twice as many tokens take longer, so that the prompt falls away."""
    from _shapes import Workload

    def best(length: int) -> float:
        load = Workload([[8 + index % 64] * 4 for index in range(batch)], [length] * batch)
        run(load, False)
        found = []
        for _ in range(3):
            start = clock()
            run(load, False)
            found.append(clock() - start)
        return min(found)

    return (best(tokens + tokens // 2) - best(tokens // 2)) / tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--derive", action="store_true")
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=0, help="of --local; 1 counts the CPU's seconds")
    options = parser.parse_args()
    if options.derive:
        for (engine, place), drawn in draw(cases()).items():
            print(f"[{engine}.{place}]  # mean error {drawn.error:.3f}\n{drawn.toml}\n")
    elif options.local:
        local(options.quick, options.threads)
    else:
        rows = beside()
        for row in rows:
            print(
                f"{row['engine']:9}{row['device']:16}{row['model'].split('/')[-1][:24]:25}{row['format']:10}"
                f"{row['kind'][:3]} {row['tokens']:5}{row['context']:6} {row['published']:9.2f} "
                f"{row['predicted']:9.2f} {row['left_out'] or 0:9.2f} {row['ceiling']:9.2f} {row['error']:+.2f} "
                f"{'check ' if row['check'] else ''}{row['why']}"
            )
        print(summary(rows))


if __name__ == "__main__":
    main()
