"""What an adapter costs the engine: no adapter, LoRA as a side path, and LoRA merged into the weights in place.

Random weights in the shape of `tiny` and in a Qwen2 of about 25M parameters; 128 samples of one prompt, so that nearly
all time is decoding; every length is forced. The three ways are three models that are sampled in turns; medians of wall
seconds. `switch_*_ms`: from the adapted model to the reference and back, on the shape of `tiny`; `merged_drift`: the
largest |difference| of a weight after so many switches by adding and subtracting (of a side path it is 0: the weights
are not written to).

    python bench/lora.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from _result import finish
from _shapes import SHAPES, make_policy
from _timing import seconds
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.adapter import LoRA, add_lora, reference
from thinksmith.policy.policy import Policy
from thinksmith.records import Request, Sampling

GOALS = {"25m_side_over_merged": 0.7, "side_drift": 0.0}
ROWS = 128
RANK = 16
PROMPT = tuple(range(10, 42))


TOKENS = {"tiny": (24, 96), "25m": (6, 48)}  # of each sample: with --quick, without


def adapted(name: str) -> Policy:
    """With an adapter that has learnt something."""
    made = policy(name)
    add_lora(made, LoRA(rank=RANK))
    with torch.no_grad():
        for layer in adapter_layers(made):
            layer.lora_B["default"].weight.normal_(0, 0.02)
    made.touch()
    return made


def policy(name: str) -> Policy:
    return make_policy(SHAPES[name], torch.device("cpu"))


def adapter_layers(made: Policy) -> list[Any]:
    return [module for module in made.model.modules() if isinstance(module, LoraLayer)]


def merge(made: Policy) -> Policy:
    for layer in adapter_layers(made):
        layer.merge()
    made.touch()
    return made


def unmerge(made: Policy) -> None:
    for layer in adapter_layers(made):
        layer.unmerge()
    made.touch()


def sampler(made: Policy, tokens: int) -> Callable[[], None]:
    engine = LocalEngine(made, slots=ROWS)
    request = Request(token_ids=PROMPT, n=ROWS, sampling=Sampling(temperature=1.0, max_tokens=tokens, seed=1))

    def sample() -> None:
        (traces,) = engine.sample_all([request])
        assert sum(len(trace.token_ids) for trace in traces) == ROWS * tokens

    return sample


def rates(name: str, quick: bool) -> dict[str, float]:
    """Tokens per second by way."""
    tokens = TOKENS[name][0 if quick else 1]
    models = {
        "plain": policy(name),
        "side": adapted(name),
        "merged": merge(adapted(name)),
    }
    ways = {name: sampler(made, tokens) for name, made in models.items()}
    for way in ways.values():
        way()
    rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(3 if quick else 7)]
    return {name: ROWS * tokens / statistics.median(each[name] for each in rounds) for name in ways}


def switches(count: int) -> dict[str, float]:
    """What it costs to switch, and how far the weights are off after `count` times."""
    made = adapted("tiny")
    bases = [layer.get_base_layer().weight for layer in adapter_layers(made)]
    kept = [weight.detach().clone() for weight in bases]

    def side() -> None:
        with reference(made):
            pass

    def merging() -> None:
        merge(made)
        unmerge(made)

    found: dict[str, float] = {"switches": count}
    for name, way in (("side", side), ("merged", merging)):
        took = seconds(lambda way=way: [way() for _ in range(count)])
        found[f"switch_{name}_ms"] = round(1000 * took / count, 2)
        drift = max(float((weight - old).abs().max()) for weight, old in zip(bases, kept, strict=True))
        found[f"{name}_drift"] = drift
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tokens, 3 repetitions, 100 switches")
    quick = parser.parse_args().quick
    figures: dict[str, float] = {"threads": torch.get_num_threads(), "rows": ROWS, "rank": RANK}
    for name in TOKENS:
        found = rates(name, quick)
        figures |= {f"{name}_{way}_tokens_per_s": round(rate) for way, rate in found.items()}
        figures[f"{name}_side_over_merged"] = round(found["side"] / found["merged"], 2)
        told = "   ".join(f"{way} {rate:8,.0f} tok/s" for way, rate in found.items())
        print(f"{name:5} {told}   side over merged {figures[f'{name}_side_over_merged']}", flush=True)
    figures |= switches(100 if quick else 1000)
    print(f"a switch: side {figures['switch_side_ms']} ms, merged {figures['switch_merged_ms']} ms", flush=True)
    holds = figures["25m_side_over_merged"] >= GOALS["25m_side_over_merged"] and figures["side_drift"] == 0
    finish("lora", figures, GOALS, holds)


if __name__ == "__main__":
    main()
