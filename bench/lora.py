"""What an adapter costs the engine: no adapter, LoRA as a side path, and LoRA merged into the weights in place.

Random weights in the shape of `tiny` and in a Qwen2 of about 24M parameters; 128 samples of one prompt, so that nearly
all time is decoding; every length is forced. The three ways are three models that are sampled in turns; medians of wall
seconds. `switch_*_ms`: from the adapted model to the reference and back, on the shape of `tiny`; `merged_drift`: the
largest |difference| of a weight after so many switches by adding and subtracting (of a side path it is 0: the weights
are not written to).

    python bench/lora.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from transformers import Qwen2Config, Qwen2ForCausalLM

from _result import finish
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.adapter import LoRA, add_lora, reference
from thinksmith.policy.policy import Policy
from thinksmith.recipes.tiny.tokenizer import corpus, train_tokenizer
from thinksmith.records import Request, Sampling

GOALS = {"24m_side_over_merged": 0.7, "side_drift": 0.0}
ROWS = 128
RANK = 16
PROMPT = tuple(range(10, 42))


@dataclass(frozen=True)
class Size:
    """A shape, and the tokens that each sample gets (with --quick, without)."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    tokens: tuple[int, int]


SIZES = {
    "tiny": Size(hidden=160, inner=416, layers=6, heads=4, kv_heads=2, tokens=(24, 96)),
    "24m": Size(hidden=512, inner=1408, layers=8, heads=8, kv_heads=4, tokens=(6, 48)),
}


def policy(size: Size, tokenizer: Any) -> Policy:
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=size.hidden, intermediate_size=size.inner, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, num_key_value_heads=size.kv_heads, max_position_embeddings=1024,
        tie_word_embeddings=True, eos_token_id=None, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    return Policy(Qwen2ForCausalLM(config).eval(), tokenizer, "bench")


def adapted(size: Size, tokenizer: Any) -> Policy:
    """With an adapter that has learnt something."""
    made = policy(size, tokenizer)
    add_lora(made, LoRA(rank=RANK))
    with torch.no_grad():
        for layer in adapter_layers(made):
            layer.lora_B["default"].weight.normal_(0, 0.02)
    made.touch()
    return made


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


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def rates(size: Size, tokenizer: Any, quick: bool) -> dict[str, float]:
    """Tokens per second by way."""
    tokens = size.tokens[0 if quick else 1]
    models = {
        "plain": policy(size, tokenizer),
        "side": adapted(size, tokenizer),
        "merged": merge(adapted(size, tokenizer)),
    }
    ways = {name: sampler(made, tokens) for name, made in models.items()}
    for way in ways.values():
        way()
    rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(3 if quick else 7)]
    return {name: ROWS * tokens / statistics.median(each[name] for each in rounds) for name in ways}


def switches(tokenizer: Any, count: int) -> dict[str, float]:
    """What it costs to switch, and how far the weights are off after `count` times."""
    made = adapted(SIZES["tiny"], tokenizer)
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
    tokenizer = train_tokenizer(corpus(seed=7, problems=200), 1024)
    tokenizer.eos_token = None
    figures: dict[str, float] = {"threads": torch.get_num_threads(), "rows": ROWS, "rank": RANK}
    for name, size in SIZES.items():
        found = rates(size, tokenizer, quick)
        figures |= {f"{name}_{way}_tokens_per_s": round(rate) for way, rate in found.items()}
        figures[f"{name}_side_over_merged"] = round(found["side"] / found["merged"], 2)
        told = "   ".join(f"{way} {rate:8,.0f} tok/s" for way, rate in found.items())
        print(f"{name:5} {told}   side over merged {figures[f'{name}_side_over_merged']}", flush=True)
    figures |= switches(tokenizer, 100 if quick else 1000)
    print(f"a switch: side {figures['switch_side_ms']} ms, merged {figures['switch_merged_ms']} ms", flush=True)
    holds = figures["24m_side_over_merged"] >= GOALS["24m_side_over_merged"] and figures["side_drift"] == 0
    finish("lora", figures, GOALS, holds)


if __name__ == "__main__":
    main()
