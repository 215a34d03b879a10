"""Is thinking longer worth it? Accuracy against tokens of recorded attempts, of `tiny`, and of two siblings of it.

`recorded`: 100 problems of MATH with eight responses each and a reward model's scores, judged anew by our own
extraction and equivalence; what strategies come to on them. Tokens are characters over 4 there: nobody counted them.

`tiny`: budgets of thinking, forced thinking ("Wait" so many times), voting and stopping early, on held-out problems of
all families. `saving` has what `adaptive` loses to vote@16, paired over problems, at what share of its tokens.

`siblings`: a smaller model that thinks against a larger one that answers at once, paired over problems: made where two
folders are named, and kept from the result before where they are not. Accuracies are shares with their 95 % interval,
tokens and FLOPs the mean of a problem.

    python bench/scale.py [--quick]
    python bench/scale.py --smaller FOLDER --larger FOLDER    # made by python -m thinksmith.recipes.tiny.make

A full run also writes docs/scale.svg, and docs/scale-siblings.svg where there are siblings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _result import RESULTS, finish
from thinksmith.engines import open_engine
from thinksmith.evaluate.scaling.curve import Between, Point, difference, interval
from thinksmith.evaluate.scaling.policies import parse_policies
from thinksmith.evaluate.scaling.pool import Pool, pool_of_file
from thinksmith.evaluate.scaling.scale import Scale, Setting, known_shape, make_pool, parse_settings, work_out
from thinksmith.evaluate.scaling.scale_report import write_report
from thinksmith.problems.load import load_checked
from thinksmith.records import Problem
from thinksmith.store.store import Store

DOCS = Path(__file__).parent.parent / "docs"
DATA = Path(os.environ.get("THINKSMITH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
GOALS = {
    "recorded_avg": 0.910, "recorded_best_of_8": 0.94, "recorded_pass_8": 0.96, "within": 0.0101,
    "recorded_adaptive_loses_at_most": 0.01, "recorded_adaptive_samples_at_most": 0.55,
    "tiny_adaptive_loses_at_most": 0.01, "tiny_adaptive_tokens_at_most": 1 / 3,
    "smaller_thinking_over_larger_at_once": "the whole paired interval is above 0",
}  # fmt: skip
MOST_TOKENS = 400
THRESHOLDS = (0.8, 0.95)  # beside the default


def recorded() -> dict[str, Any]:
    """Curves of the recorded set, or why there are none."""
    path = DATA / "replay" / "math_cot_100.jsonl"
    if not path.exists():
        return {"missing": f"{path.name} is not here; THINKSMITH_DATA names the folder of the data sets"}
    strategies = "single,vote,adaptive,adaptive:threshold=0.95,best_of:by=recorded,confident:by=recorded,pass"
    policies = parse_policies(strategies + ",confident:by=recorded,first=4,step=1")
    made = work_out([pool_of_file(str(path))], policies, title="recorded")
    vote, adaptive = (_point(made, spec, 8) for spec in ("vote", "adaptive"))
    return {
        "problems": made.curves.problems,
        "curves": _table(made),
        "adaptive_loses": _between(difference(vote.score_P, adaptive.score_P)),
        "adaptive_samples_of_vote": round(adaptive.traces / vote.traces, 3),
    }


def tiny(problems: Sequence[Problem], samples: int, store: Store, quick: bool) -> tuple[dict[str, Any], Scale]:
    """Budgets, forced thinking and strategies on the embedded model."""
    budgets = ("0,none", "", "1") if quick else ("0,16,32,64,none", "128,256", "1,2,4")
    pools = _pools("tiny", parse_settings(*budgets), problems, samples, store)
    whole = next(pool for pool in pools if pool.budget == "none")
    adaptive = ["adaptive", *(f"adaptive:threshold={threshold}" for threshold in THRESHOLDS)]
    policies = parse_policies(",".join(["vote", *adaptive, "adaptive:rule=window,window=4", "best_of", "pass"]))
    voting = work_out([whole], policies, title="tiny")
    made = work_out(pools, parse_policies("single"), title="tiny", own=voting.curves.points)
    vote = _point(made, "vote", samples)
    saving = []
    for spec in adaptive:
        point = _point(made, spec, samples)
        loses = difference(vote.score_P, point.score_P)
        share = point.x("tokens") / vote.x("tokens")
        saving.append({"strategy": point.label, **_between(loses, "loses"), "tokens_of_vote": round(share, 3)})
    none = _single(made, "tiny", "none")
    forced = [
        {
            "budget": each.budget,
            **_between(difference(each.score_P, none.score_P), "gains"),
            "tokens": round(each.x("tokens"), 1),
        }
        for each in made.curves.points
        if each.strategy == "single" and each.budget != "none"
    ]
    figures = {
        "problems": made.curves.problems,
        "samples": samples,
        "points": _table(made),
        "saving": saving,
        "against_no_budget": forced,
    }
    return figures, made


def siblings(
    smaller: str, larger: str, problems: Sequence[Problem], samples: int, store: Store
) -> tuple[dict[str, Any], Scale]:
    """A smaller model that thinks against a larger one that answers at once."""
    pools = _pools(smaller, parse_settings("0,32,64,none", "", "1,2"), problems, samples, store, "smaller")
    pools += _pools(larger, parse_settings("0,none"), problems, samples, store, "larger")
    thinking = [pool for pool in pools if pool.budget == "none"]
    voting = work_out(thinking, parse_policies("vote,adaptive:threshold=0.9"), title="siblings")
    at_once = [pool for pool in pools if pool.model == "larger" and pool.budget == "at once"]
    voted = work_out(at_once, parse_policies("vote"), title="siblings").curves.points
    extra = (*voting.curves.points, *(replace(point, series="larger vote at once") for point in voted))
    made = work_out(pools, parse_policies("single"), title="siblings", axis="flops", own=extra)
    long, short = _single(made, "smaller", "none"), _single(made, "larger", "at once")
    return {
        "smaller_parameters": getattr(known_shape(smaller), "params", None),
        "larger_parameters": getattr(known_shape(larger), "params", None),
        "problems": made.curves.problems,
        "samples": samples,
        "points": _table(made),
        "smaller_thinking_over_larger_at_once": _between(difference(long.score_P, short.score_P)),
        "smaller_thinking_flops_of_larger_at_once": round(long.x("flops") / short.x("flops"), 2),
    }, made


def _pools(
    model: str, settings: Sequence[Setting], problems: Sequence[Problem], samples: int, store: Store, name: str = ""
) -> list[Pool]:
    engine = open_engine(model)
    sampling = replace(engine.info.sampling, max_tokens=MOST_TOKENS)
    made = []
    try:
        for setting in settings:
            pool = make_pool(
                problems, engine, setting, sampling=sampling, store=store, name="bench scale", samples=samples,
                shape=known_shape(model),
            )  # fmt: skip
            made.append(pool.named(name or model, setting.name))
            mean = sum(float(each.right_N.mean()) for each in pool.problems) / len(pool.problems)
            print(f"{name or model:<8} {setting.name:<10} {mean:.1%} correct", flush=True)
    finally:
        asyncio.run(engine.aclose())
    return made


def _point(made: Scale, spec: str, size: int) -> Point:
    return next(each for each in made.curves.points if (each.strategy, each.size) == (spec, size))


def _single(made: Scale, model: str, budget: str) -> Point:
    points = made.curves.points
    return next(e for e in points if (e.strategy, e.model, e.budget) == ("single", model, budget))


def _table(made: Scale) -> list[dict[str, Any]]:
    """A row a point."""
    several = len({point.model for point in made.curves.points}) > 1
    found = []
    for point in made.curves.points:
        if point.size == 1 and point.strategy != "single":
            continue
        row: dict[str, Any] = {"model": point.model} if several else {}
        row |= {"budget": point.budget} if point.budget else {}
        row |= {"strategy": point.label, **_between(interval(point.score_P, point.trials), "accuracy")}
        row |= {"tokens": round(point.x("tokens"), 1), "traces": round(point.traces, 2)}
        flops = point.x("flops")
        found.append(row | ({"mflops": round(flops / 1e6, 1)} if flops == flops else {}))
    return found


def _between(value: Between, name: str = "") -> dict[str, float]:
    """With plain names for the table."""
    names = (name or "mean", f"{name}_low".lstrip("_"), f"{name}_high".lstrip("_"))
    return {key: round(number, 4) + 0.0 for key, number in zip(names, (value.mean, value.low, value.high), strict=True)}


def _before() -> Any:
    """The siblings' figures of the result that is there."""
    try:
        return json.loads((RESULTS / "scale.json").read_text(encoding="utf-8"))["figures"].get("siblings")
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def holds(figures: dict[str, Any]) -> bool:
    """Whether every goal is met that something was measured for; a part that is missing is no goal met."""
    known, models, pair = figures["recorded"], figures["tiny"], figures.get("siblings")
    if "missing" in known or not pair:
        return False
    found = {row["strategy"]: row["accuracy"] for row in known["curves"]}
    wanted = {"single": "recorded_avg", "best_of@8:by=recorded": "recorded_best_of_8", "pass@8": "recorded_pass_8"}
    return (
        all(abs(found[spec] - GOALS[goal]) <= GOALS["within"] for spec, goal in wanted.items())
        and known["adaptive_loses"]["mean"] <= GOALS["recorded_adaptive_loses_at_most"]
        and known["adaptive_samples_of_vote"] <= GOALS["recorded_adaptive_samples_at_most"]
        and models["saving"][0]["loses"] <= GOALS["tiny_adaptive_loses_at_most"]  # by the default threshold
        and models["saving"][0]["tokens_of_vote"] <= GOALS["tiny_adaptive_tokens_at_most"]
        and pair["smaller_thinking_over_larger_at_once"]["low"] > 0
    )


def report(figures: dict[str, Any]) -> None:
    for part in ("recorded", "tiny", "siblings"):
        rows = (figures.get(part) or {}).get("curves") or (figures.get(part) or {}).get("points") or []
        for row in rows:
            who = f"{part:<9} {row.get('model', ''):<8} {row.get('budget', ''):<10} {row['strategy']:<34}"
            bounds = f"[{row['accuracy_low']:.1%}, {row['accuracy_high']:.1%}]"
            print(f"{who} {row['accuracy']:7.1%} {bounds:<18} {row['tokens']:>8,.0f} tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few problems of tiny, four samples")
    parser.add_argument("--smaller", default="", help="a folder: a smaller model that thinks")
    parser.add_argument("--larger", default="", help="a folder: a larger one, which is asked to answer at once")
    parser.add_argument("--store", default="", help="where attempts are kept: an interrupted bench goes on")
    options = parser.parse_args()
    if bool(options.smaller) != bool(options.larger):
        parser.error("name both --smaller and --larger, or none")
    problems = load_checked("mixed", 16 if options.quick else 120, split="test", seed=0).problems
    samples = 4 if options.quick else 16
    figures: dict[str, Any] = {"recorded": recorded(), "siblings": _before()}
    pair = None
    with TemporaryDirectory() as folder, Store.open(options.store or str(Path(folder) / "bench.db")) as store:
        figures["tiny"], made = tiny(problems, samples, store, options.quick)
        if options.smaller:
            figures["siblings"], pair = siblings(options.smaller, options.larger, problems, samples, store)
    if not options.quick:
        write_report(DOCS / "scale.svg", made)
        if pair:
            write_report(DOCS / "scale-siblings.svg", pair)
    report(figures)
    finish("scale", figures, GOALS, holds(figures))


if __name__ == "__main__":
    main()
