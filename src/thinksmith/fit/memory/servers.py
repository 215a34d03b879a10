"""The memory of vLLM, llama.cpp and Ollama beside the process: by the sizes that they reserve, and by what they report.

What they need is less than what vLLM takes: that is nine tenths of the GPU by default, all the rest of it for keys and
values (https://docs.vllm.ai/en/stable/configuration/engine_args.html, gpu_memory_utilization).
"""

from __future__ import annotations

from thinksmith.fit.formats.formats import Format, tensor_bytes, weights_bytes
from thinksmith.fit.formats.kv_formats import KVFormat, cache_bytes
from thinksmith.fit.memory.estimate import Item
from thinksmith.fit.memory.serving import Serving
from thinksmith.fit.rounding import round_up
from thinksmith.fit.shapes.shape import Cache, Shape
from thinksmith.fit.speed.device import Device

MiB, GiB = 2**20, 2**30
FLOAT = 4

# vLLM: tokens of one pass and sequences at a time by default, on GPUs of 70 GiB or more that are no A100 and on others:
# `get_batch_defaults` in https://github.com/vllm-project/vllm/blob/main/vllm/engine/arg_utils.py
LARGE, LARGE_TOKENS, LARGE_ROWS = 70 * GiB, 8192, 1024
TOKENS, ROWS = 2048, 256
VLLM_BLOCK = 16  # tokens: https://docs.vllm.ai/en/stable/design/paged_attention.html
# Bytes for each entry of the logits of so many rows while vLLM tries out its sampler with top-p: logits in 16 and 32
# bits (6), sorted ones with their order in int64 (12), and as much again and more for torch's sort on a GPU. It reports
# 1.40 GiB for 256 rows of 151,936 (Qwen3-8B) and 5.59 GiB for 1,024, which is 38.6; with FlashInfer's sampler, which
# does not sort, less than half.
SAMPLED = 38.6
# "Graph capturing finished in .. secs, took ..": 0.51 to 0.59 GiB in logs of models of 7 to 14B on one GPU
GRAPHS = int(0.55 * GiB)
# What libraries take on the GPU beside torch: "non_torch_memory takes 0.16GiB" on one GPU, in
# https://github.com/generative-computing/mellea/pull/416
LIBRARIES = int(0.16 * GiB)

# llama.cpp: tokens of a micro-batch, and what a context is rounded up to: `llama_context_default_params` and the
# constructor of llama_context in https://github.com/ggml-org/llama.cpp/blob/master/src/llama-context.cpp
MICRO, PADDED = 512, 256


def vllm_items(shape: Shape, serving: Serving, device: Device, format: Format, kv: KVFormat) -> tuple[Item, ...]:
    """What vLLM needs on one GPU with its defaults. It keeps windows and latents as small as the model allows."""
    large = device.memory >= LARGE and "a100" not in device.name.casefold()
    tokens, rows = (LARGE_TOKENS, LARGE_ROWS) if large else (TOKENS, ROWS)
    rows = max(rows, serving.batch)
    each = cache_bytes(shape, round_up(serving.context, VLLM_BLOCK), kv)
    hidden = 2 * tokens * shape.hidden
    layer = tokens * 2 * (2 * shape.hidden + 3 * shape.inner)
    draws = hidden + int(SAMPLED * rows * shape.vocab)
    why = "trying out the sampler" if draws > layer else "a layer"
    return (
        Item("weights", weights_bytes(shape, format), _weights(shape, format)),
        Item("KV cache", serving.batch * each, f"{serving.batch} × {serving.context} tokens in {kv.name}"),
        Item("pass", max(layer, draws), f"{why}: {tokens} tokens and {rows} sequences at a time by default"),
        Item("CUDA graphs", GRAPHS, "as vLLM reports for models of 7 to 14B"),
        Item("libraries on the GPU", LIBRARIES, "as vLLM reports for one GPU"),
    )


def llamacpp_items(shape: Shape, serving: Serving, device: Device, format: Format, kv: KVFormat) -> tuple[Item, ...]:
    """What llama.cpp takes with flash attention, and Ollama, which runs it: all layers on the device."""
    away = 0
    apart = device.kind == "cuda" and not device.unified
    if apart and not shape.tied:  # the table of embeddings stays in main memory, where one row of it is looked up
        away = sum(tensor_bytes(each, shape, format) for each in shape.tensors if each.part == "embedding")
    why = _weights(shape, format) + (", the embeddings in main memory" if away else "")
    context = round_up(serving.context, PADDED)
    return (
        Item("weights", weights_bytes(shape, format) - away, why),
        Item(
            "KV cache", llamacpp_cache_bytes(shape, context, serving.batch, kv), f"{serving.batch} × {context} tokens"
        ),
        Item("pass", compute_bytes(shape, context * serving.batch, apart), f"compute buffer for {MICRO} tokens"),
        Item("logits", serving.batch * shape.vocab * FLOAT, "of the last token of each sequence"),
    )


def compute_bytes(shape: Shape, tokens: int, apart: bool = False) -> int:
    """llama.cpp's compute buffer for a cache of so many tokens: logits of a micro-batch beside its hidden states, or a
    feed-forward beside the mask. `apart`: hidden states come in from main memory."""
    head = FLOAT * (shape.vocab + (1 if apart else 2) * shape.hidden)
    layer = FLOAT * (3 * shape.inner + 4 * shape.hidden) + 2 * tokens
    return MICRO * max(head, layer)


def llamacpp_cache_bytes(shape: Shape, context: int, batch: int, kv: KVFormat) -> int:
    """Bytes of its cache: of layers with a window only that, a micro-batch more, and rounded up
    (`llama_kv_cache_iswa` in https://github.com/ggml-org/llama.cpp/blob/master/src/llama-kv-cache-iswa.cpp)."""
    total = 0
    for cache in shape.caches:
        cells = context * batch
        if cache.window is not None:
            cells = min(cells, round_up(cache.window * batch + MICRO, PADDED))
        growing = Cache(cache.layers, cache.per_token).numbers(cells)
        total += -(-growing // kv.numbers) * kv.bytes + batch * cache.layers * cache.fixed * kv.state
    return total


def _weights(shape: Shape, format: Format) -> str:
    return f"{shape.params / 1e9:.2f}B parameters in {format.name}"
