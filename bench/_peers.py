"""The ways of sampling that `rollout.py` compares: the engine, and what transformers itself offers.

A way gets a workload and returns the tokens of each row: prompts in order, the samples of a prompt side by side. The
peers work on a second model object that shares the engine's parameters and has transformers' own attention.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.utils import WorkloadHints

from _shapes import Workload
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.records import Request, Sampling

Rows = list[list[int]]
PAGE = 32  # tokens of a page of the paged cache
# More rows at a time are slower without flash attention: each row then looks, masked, at the columns of all others.
PAGED_ROWS = 32
PAGED_TOKENS = 512
GREEDY: dict[str, Any] = {"do_sample": False}
UNFILTERED: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


@dataclass(frozen=True)
class Way:
    """`run(workload, greedy)`; `release` gives back what a run keeps for the next one."""

    name: str
    run: Callable[[Workload, bool], Rows]
    release: Callable[[], None] = lambda: None


def by_engine(engine: LocalEngine) -> Way:
    def run(load: Workload, greedy: bool) -> Rows:
        temperature = 0.0 if greedy else 1.0
        traces = engine.sample_all(
            [
                Request(
                    token_ids=tuple(prompt),
                    n=load.samples,
                    sampling=Sampling(temperature=temperature, max_tokens=length, seed=index),
                )
                for index, (prompt, length) in enumerate(zip(load.prompts, load.lengths, strict=True))
            ]
        )
        return [list(trace.token_ids) for group in traces for trace in group]

    return Way("engine", run, engine.release)


def twin(model: Any) -> Any:
    """The same parameters in a second model object, with transformers' own attention."""
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    other = copy.deepcopy(model, memo)
    other.set_attn_implementation("sdpa")
    return other


def by_generate(model: Any, name: str = "generate", *, cache: str | None = None, batches: int | None = None) -> Way:
    """`generate`, all rows at once. With `batches`, in so many batches sorted by length: who knew the lengths, as
    nobody does beforehand, would do so."""

    def run(load: Workload, greedy: bool) -> Rows:
        wanted = load.rows
        size = -(-len(wanted) // (batches or 1))
        order = sorted(range(len(wanted)), key=lambda index: wanted[index][1]) if batches else list(range(len(wanted)))
        out: Rows = [[] for _ in wanted]
        for start in range(0, len(wanted), size):
            part = order[start : start + size]
            for index, tokens in zip(part, _generate(model, [wanted[i] for i in part], cache, greedy), strict=True):
                out[index] = tokens
        return out

    return Way(name, run)


@torch.inference_mode()
def _generate(model: Any, wanted: list[tuple[list[int], int]], cache: str | None, greedy: bool) -> Rows:
    """Every row is decoded to the longest length; what nobody asked for is cut off."""
    width, most = max(len(prompt) for prompt, _ in wanted), max(length for _, length in wanted)
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt, _ in wanted])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt, _ in wanted])
    out = model.generate(
        ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=most, pad_token_id=0,
        cache_implementation=cache, disable_compile=True, **(GREEDY if greedy else UNFILTERED),
    )  # fmt: skip
    assert out.shape[1] == width + most
    return [row[:length] for row, (_, length) in zip(out[:, width:].tolist(), wanted, strict=True)]


def by_generate_batch(model: Any) -> Way:
    """Continuous batching of transformers: what `generate_batch` does, with a length for each request, which
    it does not take. The samples of a prompt are forks of one prefill."""
    logging.getLogger("transformers.generation.continuous_batching").setLevel(logging.ERROR)

    def run(load: Workload, greedy: bool) -> Rows:
        generation = GenerationConfig(
            max_new_tokens=max(load.lengths), num_return_sequences=load.samples, eos_token_id=-1, pad_token_id=0,
            **(GREEDY if greedy else UNFILTERED),
        )  # fmt: skip
        hints = WorkloadHints(max(map(len, load.prompts)), max(load.lengths), len(load.rows))
        manager = model.continuous_batching_context_manager(
            generation_config=generation, continuous_batching_config=_paged(model, load), workload_hints=hints
        )
        found: dict[str, list[int]] = {}
        with manager as running:
            for index, (prompt, length) in enumerate(zip(load.prompts, load.lengths, strict=True)):
                running.add_request(prompt, request_id=str(index), max_new_tokens=length, eos_token_id=-1)
            while len(found) < len(load.rows):
                result = running.get_result(timeout=1)
                if result is None:
                    assert running.is_running(), "generate_batch ended before its requests"
                elif result.is_finished():
                    assert result.error is None, result.error
                    found[result.request_id] = list(result.generated_tokens)
        names = [(str(i), *(f"{i}__child#{k}" for k in range(load.samples - 1))) for i in range(len(load.prompts))]
        return [found[name] for group in names for name in group]

    return Way("generate_batch", run)


def _paged(model: Any, load: Workload) -> ContinuousBatchingConfig:
    """On a CPU, as many pages as the whole workload takes: left alone it would take 60 % of the memory. On a GPU
    its own defaults are made for it."""
    if model.device.type == "cuda":
        return ContinuousBatchingConfig()
    pages = sum(-(-(len(prompt) + length) // PAGE) + 1 for prompt, length in load.rows)
    return ContinuousBatchingConfig(
        page_size=PAGE, num_blocks=pages, max_batch_tokens=PAGED_TOKENS, max_requests_per_batch=PAGED_ROWS,
        auto_switch_to_flash=False,
    )  # fmt: skip
