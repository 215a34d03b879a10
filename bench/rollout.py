"""How fast the local engine samples, beside transformers' `generate` and continuous batching and llama.cpp: same
weights, same prompts, same lengths, same threads, in turns.

Weights are random; nothing ends by itself, every length is forced; temperature 1 without filters. Workloads: `equal`
has as many tokens for every request; `lognormal` has unequal lengths, of which `generate` decodes the longest for all;
`group` has 16 samples of each long prompt. Only wanted tokens count. Wall seconds, medians. A slow peer does a part of
the requests (the table says how many) and fewer repetitions. Memory is what the process took on top while a way ran.

`matmul_share`: the engine's rate with 256 short prompts over that of the model's matrix products alone (torch.mm, same
shapes and rows). `bandwidth_share` (GPU): the engine's rate over that at which weights, keys and values could be read.
`over_generate` is over the faster of the two caches. Goals hold for the models that do the workloads in full.

    python bench/rollout.py [--quick]
    python bench/rollout.py --model 25m --workload group --peers generate_batch llama.cpp   # a part

Parts are put into the result of earlier runs of the same machine and versions.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from _limits import bandwidth_figures, matmul_figures
from _peers import PAGE, PAGED_ROWS, PAGED_TOKENS, Way, by_engine, by_generate, by_generate_batch, twin
from _result import RESULTS, finish, is_full, machine, versions
from _shapes import MODELS, SHAPES, WORKLOADS, Shape, Workload, device_type, make_policy, short, workloads
from _timing import Contestant, contest
from thinksmith.engines.local.engine import LocalEngine

GOALS = {
    "cpu": {
        "equal_over_generate": 2.0, "lognormal_over_generate": 4.0, "group_over_generate": 4.0,
        "equal_over_generate_batch": 5.0, "lognormal_over_generate_batch": 5.0, "group_over_generate_batch": 5.0,
        "matmul_share": 0.7,
    },
    "cuda": {
        "equal_over_generate": 10.0, "lognormal_over_generate": 10.0, "group_over_generate": 10.0,
        "bandwidth_share_1": 0.5, "bandwidth_share_16": 0.5, "bandwidth_share_64": 0.5,
    },
}  # fmt: skip
MEMORY_GOAL = 1.05  # peak over what the engine said, at most
PEERS = ("generate", "generate_static", "generate_sorted", "generate_batch", "llama.cpp")
ALLOWANCE = 15.0  # seconds that a peer's repetitions of one workload may take


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio`: the engine's rate over this one."""

    model: str
    workload: str
    peer: str
    tokens_per_s: int
    ratio: float
    requests: str
    repetitions: int
    memory_mb: int
    planned_mb: int | None
    same_greedy: bool

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.workload, self.peer


def make_ways(engine: LocalEngine, other: Any, wanted: Iterable[str]) -> list[Way]:
    """The engine, then the wanted peers, which work on `other`."""
    make: dict[str, Callable[[Any], Way | None]] = {
        "generate": by_generate,
        "generate_static": partial(by_generate, name="generate_static", cache="static"),
        "generate_sorted": partial(by_generate, name="generate_sorted", batches=4),
        "generate_batch": by_generate_batch,
        "llama.cpp": llama,
    }
    ways = [make[name](other) for name in PEERS if name in wanted]
    return [by_engine(engine), *(way for way in ways if way is not None)]


def llama(model: Any) -> Way | None:
    try:
        from _llama import by_llama
    except ImportError as error:
        print(f"llama.cpp is left out ({error}); the bench extra installs it", flush=True)
        return None
    try:
        return by_llama(model)
    except RuntimeError as error:
        print(f"llama.cpp is left out: {error}", flush=True)
        return None


def greedy_agreement(ways: Iterable[Way], other: Any, load: Workload) -> dict[str, bool]:
    """Does each compute the same model? Against `generate`, one prompt at a time, without padding."""
    few = Workload(load.prompts[:4], [16] * 4)
    judge = by_generate(other)
    truth = [judge.run(Workload([prompt], [16]), True)[0] for prompt in few.prompts]
    return {way.name: way.run(few, True) == truth for way in ways}


def measured(
    name: str, shape: Shape, workload: str, load: Workload, ways: list[Way], engine: LocalEngine,
    options: argparse.Namespace, agreement: dict[str, bool],
) -> list[Row]:  # fmt: skip
    """One workload: the lines of the engine and of each peer."""
    at = WORKLOADS.index(workload)
    contestants = [
        Contestant(way, load.part(shape.parts.get(way.name, (1, 1, 1))[at]), options.allowance)
        for way in ways
        if way.name != "generate_sorted" or workload == "lognormal"  # nothing to sort elsewhere
    ]
    contestants[0] = replace(contestants[0], allowance=shape.allowance, planned=lambda: getattr(engine, "memory", None))
    found = contest(contestants, options.repetitions)
    if not found or found[0] is not contestants[0]:
        raise SystemExit("the engine failed")
    ours = found[0].rate
    rows: list[Row] = []
    for each in found:
        rate = each.rate
        row = Row(
            name, workload, each.way.name, round(rate), round(ours / rate, 2),
            f"{len(each.load.prompts)} of {len(load.prompts)}", len(each.times), round(each.memory / 1e6),
            None if each.said is None else round(each.said / 1e6), agreement[each.way.name],
        )  # fmt: skip
        show(row)
        rows.append(row)
    return rows


def show(row: Row) -> None:
    said = "" if row.planned_mb is None else f" (said {row.planned_mb:,} MB)"
    print(
        f"{row.model:5} {row.workload:10} {row.peer:16} {row.tokens_per_s:8,} tok/s {row.ratio:8.2f} times"
        f" {row.memory_mb:7,} MB{said}   {row.requests} requests, {row.repetitions} runs"
        + ("" if row.same_greedy else "   OTHER GREEDY TOKENS"),
        flush=True,
    )


def measure_model(name: str, shape: Shape, options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """All wanted figures of one model."""
    device = torch.device(device_type())
    policy = make_policy(shape, device)
    engine = LocalEngine(policy)
    other = twin(policy.model)
    ways = make_ways(engine, other, options.peers)
    loads = workloads(shape)
    agreement = greedy_agreement(ways, other, loads["equal"])
    for way in ways[1:]:
        if not agreement[way.name] and device.type == "cpu":  # bfloat16 rounds
            print(f"{way.name} is left out: it computes another model than `generate`", flush=True)
            ways.remove(way)
    rows: list[Row] = []
    for workload in options.workload:
        rows += measured(name, shape, workload, loads[workload], ways, engine, options, agreement)
    limits = bandwidth_figures if device.type == "cuda" else matmul_figures
    found = limits(policy, ways[0], shape) if "equal" in options.workload else {}
    for way in ways:
        way.release()
    engine.close()
    return rows, found


def earlier() -> dict[str, Any]:
    """The figures of full runs on this machine with these versions, which a part is put into."""
    path = RESULTS / "rollout.json"
    if not is_full(path):
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    same = (record["machine"], record["versions"]) == (machine(), versions())
    return record["figures"] if same and "rates" in record["figures"] else {}


def goal_figures(rows: list[Row], limits: dict[str, dict[str, Any]], models: Iterable[str]) -> dict[str, float]:
    """Those figures that goals are about, as far as they were measured."""
    found: dict[str, float] = {}
    for model in models:
        for workload in WORKLOADS:
            ratios = {row.peer: row.ratio for row in rows if (row.model, row.workload) == (model, workload)}
            caches = [ratios[peer] for peer in ("generate", "generate_static") if peer in ratios]
            if caches:
                found[f"{model}.{workload}_over_generate"] = min(caches)
            if "generate_batch" in ratios:
                found[f"{model}.{workload}_over_generate_batch"] = ratios["generate_batch"]
        shares = {name: value for name, value in limits.get(model, {}).items() if "share" in name}
        found |= {f"{model}.{name}": value for name, value in shares.items()}
    said = [row.memory_mb / row.planned_mb for row in rows if row.planned_mb]
    if said:
        found["memory_over_planned"] = round(max(said), 2)
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny only, short lengths, two peers, no long prompts")
    parser.add_argument(
        "--model", nargs="+", choices=list(SHAPES), help="default: those for a CPU, or the one for a GPU"
    )
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS)
    parser.add_argument("--peers", nargs="+", choices=PEERS)
    parser.add_argument("--repetitions", type=int, help="runs of each way, if they do not take too long (default 5)")
    options = parser.parse_args()
    if options.repetitions is not None and options.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    quick = options.quick
    options.model = options.model or (["tiny"] if quick else MODELS[device_type()])
    options.workload = options.workload or WORKLOADS[: 2 if quick else 3]
    options.peers = options.peers or (("generate", "generate_batch") if quick else PEERS)
    options.allowance = ALLOWANCE / 3 if quick else ALLOWANCE
    options.repetitions = options.repetitions or (3 if quick else 5)
    return options


def main() -> None:
    options = parse()
    gc.freeze()  # `generate_batch` collects garbage twice a run: it shall not pay for all that is imported here
    before = {} if options.quick else earlier()
    rows = {row.key: row for row in (Row(**each) for each in before.get("rates", []))}
    limits: dict[str, dict[str, Any]] = {each["model"]: each for each in before.get("limits", [])}
    for name in options.model:
        new, found = measure_model(name, short(SHAPES[name]) if options.quick else SHAPES[name], options)
        rows |= {row.key: row for row in new}
        limits |= {name: {"model": name, **found}} if found else {}
    gated = [name for name in MODELS[device_type()] if SHAPES[name].full]
    reached = goal_figures(list(rows.values()), limits, gated)
    goals = {f"{name}.{goal}": value for name in gated for goal, value in GOALS[device_type()].items()}
    if options.quick:
        goals = {goal: value for goal, value in goals.items() if goal in reached}
    same = all(row.same_greedy for row in rows.values()) or device_type() == "cuda"  # bfloat16 rounds
    holds = same and all(reached.get(goal, 0.0) >= value for goal, value in goals.items())
    if "memory_over_planned" in reached:
        goals["memory_over_planned"] = MEMORY_GOAL
        holds = holds and reached["memory_over_planned"] <= MEMORY_GOAL
    figures = {
        "threads": torch.get_num_threads(),
        "same_greedy_tokens": all(row.same_greedy for row in rows.values()),
        **reached,
        "settings": settings(),
        "limits": list(limits.values()),
        "rates": [asdict(row) for row in sorted(rows.values(), key=place)],
    }
    finish("rollout", figures, goals, holds)


def settings() -> dict[str, str]:
    """How the peers were set, where they leave a choice."""
    found = {
        "generate": "sdpa, all rows at once, static cache without compilation",
        "generate_batch": f"sdpa, pages of {PAGE} tokens, at most {PAGED_ROWS} rows and {PAGED_TOKENS} tokens a step",
    }
    if device_type() == "cuda":
        found["generate_batch"] = "its defaults"
    if find_spec("llama_cpp"):
        found["llama.cpp"] = f"llama-cpp-python {version('llama-cpp-python')}, weights and cache in float32"
    return found


def place(row: Row) -> tuple[int, int, int]:
    return list(SHAPES).index(row.model), WORKLOADS.index(row.workload), ("engine", *PEERS).index(row.peer)


if __name__ == "__main__":
    main()
