"""How fast the local engine samples, beside transformers' `generate` (dynamic cache), same weights, same run.

The model has the shape of `tiny` and random weights; nothing ends by itself, every length is forced. Workloads: `equal`
has as many tokens for every request; `lognormal` has unequal lengths, of which `generate` decodes the longest for
all; `group` has 16 samples of each long prompt. Only wanted tokens count. `matmul_share`: the engine's rate on `equal`
over that of the model's matrix products alone (torch.mm, same shapes and rows). Wall seconds, interleaved, medians.

    python bench/rollout.py [--quick]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from _result import finish
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.policy import Policy
from thinksmith.recipes.tiny.tokenizer import corpus, train_tokenizer
from thinksmith.records import Request, Sampling

GOALS = {"equal_over_generate": 2.0, "lognormal_over_generate": 4.0, "group_over_generate": 4.0, "matmul_share": 0.7}


@dataclass(frozen=True)
class Workload:
    """Prompts, and for each the tokens that its `samples` samples get."""

    prompts: list[list[int]]
    lengths: list[int]
    samples: int = 1

    @property
    def tokens(self) -> int:
        return self.samples * sum(self.lengths)


def model() -> Policy:
    """Of the shape of `tiny`, with random weights and no end of turn."""
    tokenizer = train_tokenizer(corpus(seed=7, problems=200), 1024)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=160, intermediate_size=416, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
        eos_token_id=None, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    network = Qwen2ForCausalLM(config).eval()
    tokenizer.eos_token = None
    return Policy(network, tokenizer, "bench")


def workloads(quick: bool, vocab: int) -> dict[str, Workload]:
    draw = random.Random(0)

    def prompts(count: int, shortest: int, longest: int) -> list[list[int]]:
        return [[draw.randrange(8, vocab) for _ in range(draw.randint(shortest, longest))] for _ in range(count)]

    mean, most = (32, 256) if quick else (128, 1024)
    sigma = 0.9
    raw = [draw.lognormvariate(0, sigma) for _ in range(256)]
    unequal = [max(1, min(most, round(x * 256 * mean / sum(raw)))) for x in raw]
    found = {
        "equal": Workload(prompts(128, 20, 40), [48 if quick else 128] * 128),
        "lognormal": Workload(prompts(256, 20, 40), unequal),
    }
    if not quick:
        found["group"] = Workload(prompts(16, 512, 512), [128] * 16, samples=16)
    return found


def by_engine(engine: LocalEngine, load: Workload) -> None:
    requests = [
        Request(token_ids=tuple(prompt), n=load.samples, sampling=Sampling(temperature=1.0, max_tokens=length, seed=i))
        for i, (prompt, length) in enumerate(zip(load.prompts, load.lengths, strict=True))
    ]
    traces = engine.sample_all(requests)
    assert sum(len(trace.token_ids) for group in traces for trace in group) == load.tokens


@torch.inference_mode()
def by_generate(policy: Policy, load: Workload) -> None:
    width, most = max(map(len, load.prompts)), max(load.lengths)
    rows = [[0] * (width - len(prompt)) + prompt for prompt in load.prompts for _ in range(load.samples)]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in load.prompts for _ in range(load.samples)]
    out = policy.model.generate(
        torch.tensor(rows), attention_mask=torch.tensor(mask), do_sample=True, temperature=1.0, top_k=0,
        max_new_tokens=most, pad_token_id=0,
    )  # fmt: skip
    assert out.shape[1] == width + most


def same_greedy_tokens(policy: Policy, engine: LocalEngine, load: Workload) -> bool:
    """Do both compute the same model?"""
    for prompt in load.prompts[:4]:
        (trace,) = engine.sample_all(
            [Request(token_ids=tuple(prompt), sampling=Sampling(temperature=0, max_tokens=16))]
        )[0]
        ids = torch.tensor([prompt])
        out = policy.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)
        if tuple(out[0, len(prompt) :].tolist()) != trace.token_ids:
            return False
    return True


@torch.inference_mode()
def matmul_rate(policy: Policy, rows: int) -> float:
    """Tokens per second if nothing but the matrix products of one step were computed for so many rows."""
    linears = [m.weight for m in policy.model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {size: torch.randn(rows, size) for size in {weight.shape[1] for weight in linears}}

    def step() -> None:
        for weight in linears:
            torch.mm(inputs[weight.shape[1]], weight.T)

    return rows / statistics.median(seconds(step) for _ in range(30))


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def rates(load: Workload, ways: Sequence[Callable[[], None]], repetitions: int) -> list[float]:
    """Wanted tokens per second of each way, measured in turns."""
    for way in ways:
        way()
    times = [[seconds(way) for way in ways] for _ in range(repetitions)]
    return [load.tokens / statistics.median(column) for column in zip(*times, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter lengths, 3 repetitions, no long prompts")
    quick = parser.parse_args().quick
    policy = model()
    engine = LocalEngine(policy)
    loads = workloads(quick, policy.vocab_size)
    figures: dict[str, float | bool | int] = {"threads": torch.get_num_threads()}
    figures["same_greedy_tokens"] = same_greedy_tokens(policy, engine, loads["equal"])
    for name, load in loads.items():
        ways = (lambda load=load: by_engine(engine, load), lambda load=load: by_generate(policy, load))
        ours, theirs = rates(load, ways, 3 if quick else 5)
        figures |= {f"{name}_tokens_per_s": round(ours), f"{name}_generate_tokens_per_s": round(theirs)}
        figures[f"{name}_over_generate"] = round(ours / theirs, 2)
        print(f"{name:10} {ours:8,.0f} tok/s   generate {theirs:8,.0f} tok/s   {ours / theirs:.2f} times", flush=True)
    limit = matmul_rate(policy, len(loads["equal"].prompts))
    figures["matmul_share"] = round(float(figures["equal_tokens_per_s"]) / limit, 2)
    print(f"matrix products alone {limit:,.0f} tok/s: the engine reaches {figures['matmul_share']}")
    goals = {name: goal for name, goal in GOALS.items() if name in figures}
    holds = bool(figures["same_greedy_tokens"]) and all(float(figures[name]) >= goal for name, goal in goals.items())
    finish("rollout", figures, goals, holds)


if __name__ == "__main__":
    main()
