"""The memory of the local engine, by the sizes that its own code reserves and by what a pass holds at once.

What is said of a pass of transformers' own code was counted with torch's profiler (bench/_fit_inference.py compares
the whole with what a process took).
"""

from __future__ import annotations

import os
from dataclasses import replace

from thinksmith.fit.formats.formats import PUBLISHED, Format, resolve, weights_bytes
from thinksmith.fit.formats.kv_formats import KVFormat
from thinksmith.fit.memory.estimate import Item
from thinksmith.fit.memory.serving import Serving
from thinksmith.fit.rounding import round_up
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device

BLOCK = 16  # tokens, as in engines/local/cache.py
RESERVED = 2  # blocks
HUGE = 2**21  # bytes of a huge page, of which the last of a buffer is taken whole: half of it on average
PIECE = 512  # tokens of a prompt in one pass, as in engines/local/prompts.py
NATIVE_TOKENS, TOKENS = 1024, 8192  # of all prompts in one pass, by the decoder in C and by transformers' code
LEAST = 16  # rows of a step on a CPU
NATIVE = ("llama", "mistral", "qwen2", "qwen3")  # families that the decoder in C computes
LANES = 32  # rows of a panel of it, where vectors are 512 bits wide: at most
FLOAT = 4
# Bytes for each entry of a row's logits while its token is drawn, the logits included: logits, tempered ones and
# probabilities; with filters also the sorted ones, their order (int64), what was kept and its running sum.
DRAWN, FILTERED = 12, 38
# Resident bytes of a tokenizer for each entry of its vocabulary: measured by bench/fit.py at 32,000 and 151,936.
TOKENIZER = 1045
# glibc's malloc maps buffers of so many bytes and gives them back (M_MMAP_THRESHOLD, at most:
# https://man7.org/linux/man-pages/man3/mallopt.3.html); smaller ones lie in its heap, in which passes of several
# lengths leave holes. They took 1.9 to 2.4 times the bytes that are in use at once, seldom more, and nothing where all
# buffers were mapped: measured by bench/fit.py.
HEAP, KEPT = 2**25, 2.0
SEEN = 6  # floats of what a thread notes of a block


def local_items(shape: Shape, serving: Serving, device: Device, format: Format, kv: KVFormat) -> tuple[Item, ...]:
    """What the local engine takes beside the process. Keys and values are numbers of the kind that it computes in."""
    found = [
        Item("weights", weights_bytes(shape, format), f"{shape.params / 1e9:.2f}B parameters in {format.name}"),
    ]
    if device.kind != "cuda" or device.unified:
        found.append(Item("tokenizer", TOKENIZER * shape.vocab, f"{shape.vocab} entries, measured"))
    found += _loading(shape, device, format)
    later = generating_items(shape, serving, device, format)
    if device.kind == "cpu" and not is_native(shape, device, format):
        later.append(_heap(shape, serving, format))
    return (*found, *(replace(item, phase="generating") for item in later))


def is_native(shape: Shape, device: Device, format: Format) -> bool:
    """Does the decoder in C compute it?"""
    return device.kind == "cpu" and format.name == "fp32" and shape.architecture in NATIVE


def generating_items(shape: Shape, serving: Serving, device: Device, format: Format) -> list[Item]:
    """Keys and values of all that is in hand, and what a pass takes."""
    native = is_native(shape, device, format)
    work = _native(shape, serving) if native else _transformers(shape, serving, device, format)
    return [*_cache(shape, serving, device, format), *work]


def _loading(shape: Shape, device: Device, format: Format) -> list[Item]:
    """Pages of the weights' file. It is mapped, and its pages are the weights where these are as they were published;
    else the weights are a copy beside it, and so they are where they go to a GPU that shares the memory."""
    published = resolve(PUBLISHED, shape)
    if (device.kind == "cuda" and not device.unified) or (device.kind == "cpu" and format.name == published.name):
        return []
    size = shape.stored or weights_bytes(shape, published)
    return [Item("file", size, f"its pages in {published.name}, until the weights are copied", "loading")]


def pool_bytes(shape: Shape, blocks: int, number: int) -> int:
    """Bytes of so many blocks of keys and values (of latents, where that is what the model keeps), the reserved ones
    included, in numbers of `number` bytes: of all layers, for every token, whatever windows they have."""
    return (blocks + RESERVED) * BLOCK * sum(cache.layers * cache.per_token for cache in shape.caches) * number


def _cache(shape: Shape, serving: Serving, device: Device, format: Format) -> list[Item]:
    prompt = min(serving.prompt, serving.context)
    if serving.group > 1:  # a prompt's last token is the first that its completions compute
        blocks = serving.prompts * _blocks(prompt - 1) + serving.batch * _blocks(serving.context - prompt)
    else:  # a prompt's last block and a row's first one are both broken
        blocks = serving.batch * (_blocks(serving.context) + 1)
    why = f"{serving.batch} × {serving.context} tokens in blocks of {BLOCK}, {8 * format.rest} bits a number"
    found = [Item("KV cache", pool_bytes(shape, blocks, format.rest), why)]
    if device.kind == "cpu":
        found.append(Item("huge pages", 2 * shape.layers * HUGE // 2, "the last page of each layer's keys and values"))
    return found


def _native(shape: Shape, serving: Serving) -> list[Item]:
    """The decoder in C keeps its buffers from pass to pass."""
    rows = max(serving.batch, _read(serving, NATIVE_TOKENS))
    scratch = scratch_bytes(shape, rows, serving.context, os.cpu_count() or 1)
    logits = round_up(serving.batch, LANES) * shape.vocab * FLOAT
    found = [
        Item("pass", scratch, "scratch of the decoder in C"),
        Item("logits", logits, f"{serving.batch} rows of {shape.vocab} in float32"),
        Item("angles", angles_bytes(shape, serving.context), "cosines and sines of the positions"),
    ]
    if serving.filtered:
        found.append(Item("drawing", FILTERED * max(serving.batch, LEAST) * shape.vocab, "sorted probabilities"))
    return found


def angles_bytes(shape: Shape, context: int) -> int:
    """Cosines and sines of the positions up to `context`, which come in doubles of what was there."""
    positions = min(max(2 * context, 256), max(shape.context, context))
    return 2 * positions * shape.key_dim * FLOAT


def scratch_bytes(shape: Shape, rows: int, context: int, threads: int, lanes: int = LANES) -> int:
    """Scratch of the decoder in C for a pass over so many rows: `forward_scratch` of engines/local/native/decoder.c."""
    queries, keys = shape.heads * shape.key_dim, shape.kv_heads * shape.key_dim
    blocks = _blocks(context) + 2
    own = 4 * BLOCK * blocks + 2 * blocks * SEEN
    wide = 2 * shape.hidden + 3 * queries + 2 * keys + 2 * shape.inner
    return FLOAT * (round_up(rows, lanes) * wide + threads * own)


def _transformers(shape: Shape, serving: Serving, device: Device, format: Format) -> list[Item]:
    """A pass over prompts and a step are not there at the same time: the larger of them counts."""
    number = format.rest
    tokens = _read(serving, TOKENS)
    reads = tokens * number * (4 * shape.hidden + 3 * shape.inner)
    past = min(serving.prompt, serving.context)
    if past > PIECE:  # a later piece looks at copies of the earlier ones, made as many as there are query heads
        prompts = min(serving.prompts, TOKENS // PIECE)
        both = shape.key_dim + shape.value_dim
        reads += prompts * past * number * both * (shape.kv_heads + shape.heads)
    rows = max(serving.batch, LEAST) if device.kind == "cpu" else serving.batch
    one = rows * round_up(serving.context, BLOCK) * shape.kv_heads * (shape.key_dim + shape.value_dim) * number
    draws = _drawn(shape, serving) * rows
    why = {reads: "a pass over prompts", one: "a layer's keys and values, gathered", draws: "drawing from the logits"}
    found = [Item("pass", max(why), why[max(why)])]
    if device.kind == "cuda":
        buckets = _buckets(_blocks(serving.context) + 1)
        found.append(Item("graphs", buckets * rows * shape.vocab * FLOAT, f"logits of each of {buckets} CUDA graphs"))
    return found


def _heap(shape: Shape, serving: Serving, format: Format) -> Item:
    """What malloc keeps of the buffers of transformers' code."""
    tokens, draws = _read(serving, TOKENS), _drawn(shape, serving) * max(serving.batch, LEAST)
    small = sum(count * min(HEAP, tokens * format.rest * size) for count, size in ((4, shape.hidden), (3, shape.inner)))
    return Item("heap", int(KEPT * max(small, min(draws, 3 * HEAP))), "what malloc keeps of small buffers")


def _drawn(shape: Shape, serving: Serving) -> int:
    """Bytes for a row while its token is drawn."""
    return (FILTERED if serving.filtered else DRAWN) * shape.vocab


def bucket(entries: int) -> int:
    """Blocks of the graph that does a step of so many: `bucket` of engines/local/graphs.py."""
    quarter = (1 << max(0, entries - 1).bit_length()) // 4
    return round_up(entries, max(8, quarter))


def _buckets(most: int) -> int:
    """How many of them there are for up to so many blocks."""
    count = reached = 0
    while reached < most:
        count, reached = count + 1, bucket(reached + 1)
    return count


def _read(serving: Serving, most: int) -> int:
    """Tokens of prompts in one pass."""
    return min(most, serving.prompts * round_up(min(serving.prompt, serving.context, PIECE), BLOCK))


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK)
