"""The most memory that one forward and backward pass takes at one time, beside weights and optimiser states.

What autograd keeps (`activations.py`) goes as the backward pass comes down through the layers, and gradients come. So
there are a few moments at which the whole can be largest; each is a `Moment`, and the largest of them is the peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thinksmith.fit.memory.activations import (
    DOWNS,
    FLOAT,
    INDEX,
    Way,
    adapter_bytes,
    is_linear,
    kept,
    kept_once,
    norm_bytes,
    of_layer,
)
from thinksmith.fit.rounding import round_up
from thinksmith.fit.shapes.shape import Shape

CHUNK_ELEMENTS = 1 << 24  # logits in one chunk, as `policy/logprobs.py` has it
SOFTMAX_COPIES = 3  # log-probabilities, their gradient and that of the logits: torch's backward pass of cross_entropy
CHUNK_COPIES = 3  # logits, their probabilities, and the product of both, for the entropy
NATIVE_COPIES = 2  # logits and their probabilities; later these and the gradient: `policy/softmax.c`
FILL = 256  # `training/sft.py` rounds the number of logits up to this
LANE = 16  # numbers of a vector, of which a head has whole ones in C, where vectors are 512 bits wide


@dataclass(frozen=True, slots=True)
class Pass:
    """A micro-batch: `rows` sequences of `length` tokens, of which `learnt` in all have logits, all at a time or in
    chunks (`chunked`). `recomputed`: each layer keeps its input alone (checkpointing). `several`: it is not the step's
    only one, so gradients are there already. `gradient`: bytes of a number of these. `native`: log-probabilities are
    computed in C."""

    way: Way
    rows: int
    length: int
    learnt: int
    chunked: bool
    recomputed: bool
    several: bool
    gradient: int
    native: bool = False

    @property
    def tokens(self) -> int:
        return self.rows * self.length


@dataclass(frozen=True, slots=True)
class Moment:
    """Bytes at one moment of a pass."""

    when: str
    gradients: int
    activations: int
    copies: int
    logits: int
    temporary: int

    @property
    def total(self) -> int:
        return self.gradients + self.activations + self.copies + self.logits + self.temporary


def peak(shape: Shape, step: Pass, gradients: int) -> Moment:
    """The largest moment; `gradients`: bytes of all gradients of the step."""
    return max(_moments(shape, step, gradients), key=lambda moment: moment.total)


def _moments(shape: Shape, step: Pass, gradients: int) -> Iterator[Moment]:
    kept_bytes, copies = _kept(shape, step)
    head = shape.vocab * shape.hidden * step.gradient if step.way.full else 0
    # The gradient of a table that is the head too waits, whole, until the table's own comes at the very end; only then
    # are both added to what earlier micro-batches left.
    waiting = head if shape.tied or not step.several else 0
    there = gradients if step.several else 0
    yield from _at_the_loss(shape, step, kept_bytes, copies, head, waiting, there)

    last, inside = _one_layer(shape, step)
    once = step.tokens * norm_bytes(shape, shape.hidden, step.way.stream, step.way)
    matrix = largest_matrix(shape) * step.gradient if step.way.full and not step.several else 0
    yield Moment("backward, last norm", there + waiting, kept_bytes, copies, 0, last.pop("norm"))
    below = kept_bytes - once + (inside if step.recomputed else 0)
    for extra in last.values():
        yield Moment("backward, last layer", there + waiting + matrix, below, copies, 0, extra)
        if not step.several:  # at the end all gradients are there, and one layer's activations
            yield Moment("backward, first layer", gradients, inside, copies, 0, extra)
    if step.way.full:
        table = gradients + (waiting if step.several else 0)
        new = head if shape.tied or step.several else 0
        yield Moment("backward, embeddings", table, step.tokens * shape.hidden * step.way.stream, 0, 0, new)


def _at_the_loss(
    shape: Shape, step: Pass, kept_bytes: int, copies: int, head: int, waiting: int, there: int
) -> Iterator[Moment]:
    way, one = step.way, shape.vocab * FLOAT
    narrow = shape.vocab * way.product if way.product < FLOAT else 0  # logits and their gradient, as multiplied
    if step.chunked:
        learnt, rows = step.learnt, min(step.learnt, max(1, CHUNK_ELEMENTS // shape.vocab))
        softmax = (NATIVE_COPIES if step.native else CHUNK_COPIES) * one * rows
    else:
        learnt = rows = round_up(step.learnt, FILL)
        softmax = SOFTMAX_COPIES * one * rows
    several = rows < learnt
    first = waiting if several else 0  # an earlier chunk's part of the head's gradient
    picked = learnt * shape.hidden * way.product  # the last layer's output where a token is learnt
    kept_picked = picked * (way.full or several)  # for the head's gradient, or to make a chunk again
    whole, product = kept_bytes + learnt * INDEX, (one + narrow) * rows
    # Chunks are largest in the forward pass, when what was picked is there in any case.
    yield Moment("softmax", there + first, whole + (picked if step.chunked else kept_picked), copies, softmax, 0)
    whole += kept_picked
    yield Moment("head", there + first, whole, copies, product, head + rows * shape.hidden * way.product)


def _kept(shape: Shape, step: Pass) -> tuple[int, int]:
    """What is kept of the whole forward pass: activations, and copies of weights."""
    layers = [kept(shape, step.way, layer, step.rows, step.length) for layer in range(shape.layers)]
    once = kept_once(shape, step.way, step.rows, step.length)
    table = shape.vocab * shape.hidden * step.way.product if step.way.cast else 0  # the head's copy
    if step.recomputed:
        return once + shape.layers * step.tokens * shape.hidden * step.way.stream, table
    copies = sum(each.weights for each in layers)
    return once + sum(each.total - each.weights for each in layers), copies + table


def _one_layer(shape: Shape, step: Pass) -> tuple[dict[str, int], int]:
    """The most that the backward pass of the last layer takes beside what is kept, by where it is; and what is kept of
    that layer.

    At the product of the feed-forward: the gradients of both factors and of the residual, while the product itself is
    gone. At a norm: four tensors in float32, in C two. At attention: gradients of its output, of queries, keys and
    values, while the feed-forward's and its norm's are gone; at the norms of queries as many of these as at a norm.
    """
    way, layer = step.way, shape.layers - 1
    own = kept(shape, way, layer, step.rows, step.length)
    stream, hidden = shape.hidden * way.stream, shape.hidden
    queries, keys = shape.heads * shape.key_dim, shape.kv_heads * (shape.key_dim + shape.value_dim)
    feeds = [tensor for tensor in of_layer(shape, layer) if tensor.part == "mlp"]
    gone = own.mlp // step.tokens + adapter_bytes(way, feeds) + norm_bytes(shape, hidden, way.stream, way)
    norm = FLOAT * (2 if way.lean(shape) else 4)
    heads = norm * queries + keys * way.product
    in_heads = (2 * queries + keys) * way.product  # freed with attention's backward pass
    product = 2 * shape.inner * way.product + stream
    if way.product < FLOAT and any(way.learns(tensor) for tensor in feeds):
        product += shape.inner * way.product + stream + 2 * hidden * FLOAT  # adapters take gradients in float32
    found = {
        "norm": norm * hidden + (stream if way.stream < FLOAT else 0),
        "product": product,
        "attention": (queries + keys + shape.heads * shape.value_dim) * way.product + stream - gone + _desk(shape, way),
    }
    if any(tensor.name == "q_norm" for tensor in of_layer(shape, layer)):
        found["heads"] = heads + stream - gone - in_heads
    inside = own.total - (0 if step.recomputed else own.weights)
    return {name: max(0, step.tokens * size) for name, size in found.items()}, inside


def _desk(shape: Shape, way: Way) -> int:
    """What the backward pass of attention in C takes of one token beside its results: queries, the output's gradient
    and keys with whole vectors a head, keys and values turned, sums of their gradients
    (`floats_of` in `training/packed/native/attention.c`); and numbers of 16 bits in 32, with the output and results."""
    if not way.native:
        return 0
    padded, dim = round_up(shape.key_dim, LANE), shape.key_dim
    scratch = (2 * shape.heads + 3 * shape.kv_heads) * padded + 2 * shape.kv_heads * dim
    wide = (4 * shape.heads + 4 * shape.kv_heads) * dim if way.product < FLOAT else 0
    return FLOAT * (scratch + wide)


def largest_matrix(shape: Shape) -> int:
    """Numbers of the largest parameter in a layer. Of all its experts transformers 5 makes one for gate and up, and
    one for down."""
    sizes = [t.shape[0] * t.shape[1] for t in shape.tensors if is_linear(t)]
    entering = [t for t in shape.tensors if t.part == "expert" and not t.name.endswith(DOWNS)]
    return max([*sizes, sum(t.params // max(1, len(t.layers)) for t in entering)], default=0)
