"""Does a request get the same tokens alone and among 200 others? By road and type of the weights, on `tiny`.

Each of some requests is sampled alone, then all of them together with 200 others, at temperature 1. Figures: the share
of requests that are the same in every token and every bit of a log-probability, the share with the same tokens, and
the largest difference of a log-probability up to where tokens first differ. In float32 on a CPU both roads promise
identity; in bfloat16 nothing is promised, and this is what comes of it.

    python bench/company.py [--quick]
"""

from __future__ import annotations

import argparse

from _result import finish
from thinksmith.engines import open_engine
from thinksmith.problems.families import mixture
from thinksmith.records import Request, Sampling, Trace

ROADS = {"native": ("tiny", True), "transformers": ("tiny", False), "bfloat16": ("tiny:bfloat16", False)}
OTHERS = 200
GOALS = {"native_identical_share": 1.0, "transformers_identical_share": 1.0}


def requests(count: int, seed: int) -> list[Request]:
    problems = mixture(count, split="test", seed=seed)
    return [
        Request(messages=problem.messages, sampling=Sampling(temperature=1.0, max_tokens=256, seed=index))
        for index, problem in enumerate(problems)
    ]


def gap(one: Trace, other: Trace) -> float:
    """The largest difference of a log-probability as long as the tokens before it are the same."""
    largest = 0.0
    for left, right, p, q in zip(one.token_ids, other.token_ids, one.logprobs, other.logprobs, strict=False):
        if left != right:
            break
        largest = max(largest, abs(p - q))
    return largest


def measure(model: str, native: bool, count: int) -> dict[str, float]:
    engine = open_engine(model, native=native, slots=count + OTHERS)
    ours = requests(count, seed=1)
    alone = [engine.sample_all([each])[0][0] for each in ours]
    together = [traces[0] for traces in engine.sample_all([*ours, *requests(OTHERS, seed=2)])[:count]]
    pairs = list(zip(alone, together, strict=True))
    same = sum(one.token_ids == other.token_ids and one.logprobs == other.logprobs for one, other in pairs)
    tokens = sum(one.token_ids == other.token_ids for one, other in pairs)
    return {
        "identical_share": same / count,
        "same_tokens_share": tokens / count,
        "largest_gap": max(gap(one, other) for one, other in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few requests")
    count = 12 if parser.parse_args().quick else 60
    figures: dict[str, float] = {"requests": count, "others": OTHERS}
    for road, (model, native) in ROADS.items():
        found = measure(model, native, count)
        figures |= {f"{road}_{name}": round(value, 6) for name, value in found.items()}
        print(
            f"{road:12} {found['identical_share']:.1%} identical, {found['same_tokens_share']:.1%} with the same "
            f"tokens, log-probabilities up to {found['largest_gap']:.1e} apart",
            flush=True,
        )
    finish("company", figures, GOALS, all(figures[name] >= goal for name, goal in GOALS.items()))


if __name__ == "__main__":
    main()
