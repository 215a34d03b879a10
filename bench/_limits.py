"""How fast the machine allows a model to be sampled: by its matrix products, by the bytes that a step reads."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch

from _peers import Way
from _shapes import Shape, Workload
from _timing import seconds, synchronize
from thinksmith.policy.policy import Policy


def matmul_rate(model: Any, rows: int) -> float:
    """Tokens per second if nothing but the matrix products of one step were computed for so many rows."""
    linears = [m.weight.detach() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {size: linears[0].new_ones(rows, size).normal_() for size in {weight.shape[1] for weight in linears}}

    def step() -> None:
        for weight in linears:
            torch.mm(inputs[weight.shape[1]], weight.T)
        synchronize()

    step()
    return rows / statistics.median(seconds(step) for _ in range(10))


def matmul_figures(policy: Policy, way: Way, shape: Shape) -> dict[str, Any]:
    """The engine on `slots` short prompts beside the matrix products of as many rows, in turns."""
    load = Workload([[8 + index % 64] * 4 for index in range(shape.slots)], [min(64, shape.mean)] * shape.slots)
    way.run(load, False)
    pairs = [
        (load.tokens / seconds(partial(way.run, load, False)), matmul_rate(policy.model, shape.slots)) for _ in range(3)
    ]
    rate, limit = (statistics.median(column) for column in zip(*pairs, strict=True))
    rows = shape.requests[0]
    print(
        f"{shape.slots} slots: engine {rate:,.0f} tok/s, matrix products alone {limit:,.0f} tok/s: {rate / limit:.2f}"
    )
    return {
        "slots": shape.slots,
        "slots_tokens_per_s": round(rate),
        "matmul_tokens_per_s": round(limit),
        "rows_of_equal": rows,
        "matmul_tokens_per_s_at_rows": round(matmul_rate(policy.model, rows)),
        "matmul_share": round(rate / limit, 2),
    }


def bandwidth_figures(policy: Policy, way: Way, shape: Shape) -> dict[str, Any]:
    """The engine's steps on a GPU beside the time in which their bytes could be read, at batch 1, 16 and 64."""
    bandwidth = copy_bandwidth(policy.device)
    found: dict[str, Any] = {"bandwidth_gb_per_s": round(bandwidth / 1e9)}
    config = shape.config
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = policy.model.dtype.itemsize
    token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * dim * size
    # The output layer is the embedding, so a step reads all of it.
    weights = sum(parameter.numel() for parameter in policy.model.parameters()) * size
    for rows in (1, 16, 64):
        load = Workload([[8 + index % 64] * 32 for index in range(rows)], [256] * rows)
        way.run(load, False)
        rate = load.tokens / statistics.median(seconds(partial(way.run, load, False)) for _ in range(5))
        step_bytes = weights + rows * token_bytes * (32 + 256 / 2)
        share = rate / (rows * bandwidth / step_bytes)
        print(f"batch {rows}: {rate:,.0f} tok/s, {share:.2f} of the memory's bandwidth")
        found |= {f"batch_{rows}_tokens_per_s": round(rate), f"bandwidth_share_{rows}": round(share, 2)}
    return found


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second that a large copy on the device reads and writes."""
    source = torch.zeros(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        synchronize()

    copy()
    return 2 * source.numel() / statistics.median(seconds(copy) for _ in range(10))
