"""What autograd keeps of a forward pass until its backward pass, by derivation from the code that is run.

That code is transformers 5's decoder layers (Llama, Qwen2, Qwen3, Mistral and those that share them) with its
`sdpa_attention_forward`, and this project's losses. torch keeps a tensor when a backward formula names it
(https://github.com/pytorch/pytorch/blob/main/tools/autograd/derivatives.yaml); tensors that share memory count once,
and parameters are there anyway. In the comments H is the hidden size, I the inner size of the feed-forward, A the width
of all queries, K of the keys and V of the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thinksmith.fit.shapes.shape import Shape, Tensor

FLOAT = 4  # norms, softmax and losses are taken in float32 whatever the weights are
INDEX = 8  # an id is an int64
HEAD_NORMS = ("q_norm", "k_norm")
GATES = ("gate_proj", "gate_up_proj")
DOWNS = ("down_proj", "w2")
WIDE_NORMS = ("olmo2", "gemma", "cohere")  # multiply by the norm's weight before they leave float32
FUSED = ("llama", "mistral", "qwen2", "qwen3")  # whose norms and gates `training/packed/native/fused.py` computes


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is trained, as far as one pass goes.

    `stream`: bytes of a number that goes from layer to layer; `product`: of one that is multiplied. `full`: all weights
    are learnt, else only adapters of `rank` on the matrices `targets` (empty: all in the layers). `cast`: weights are
    multiplied as copies in `product` bytes, which the graph holds (autocast). `unpacked`: the format (int8, int4) of
    frozen weights that are made whole for each product, and that the graph holds so (torchao). `fused`: attention keeps
    no scores. `native`: a packed row on a CPU, computed by the code in C of `training/packed/native/`.
    """

    stream: int
    product: int
    full: bool = True
    rank: int = 0
    targets: tuple[str, ...] = ()
    cast: bool = False
    unpacked: str = ""
    fused: bool = True
    native: bool = False

    def learns(self, tensor: Tensor) -> bool:
        """Is an adapter put on this matrix?"""
        return not self.full and is_linear(tensor) and (not self.targets or tensor.name in self.targets)

    def lean(self, shape: Shape) -> bool:
        """Do norms and gates keep nothing but what they read?"""
        return self.native and self.stream == self.product == FLOAT and shape.architecture in FUSED


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes kept of one layer: of its norms, attention, feed-forward and adapters, and copies of weights."""

    norms: int
    attention: int
    mlp: int
    adapters: int
    weights: int

    @property
    def total(self) -> int:
        return self.norms + self.attention + self.mlp + self.adapters + self.weights


def is_linear(tensor: Tensor) -> bool:
    """Is it the matrix of one of a layer's linear modules? (Of experts transformers 5 makes one parameter.)"""
    return len(tensor.shape) == 2 and tensor.part in ("attention", "mlp") and bool(tensor.layers)


def of_layer(shape: Shape, layer: int) -> list[Tensor]:
    return [tensor for tensor in shape.tensors if layer in tensor.layers]


def kept(shape: Shape, way: Way, layer: int, rows: int, length: int) -> Kept:
    """What the graph holds of one layer after its forward pass over `rows` sequences of `length` tokens."""
    tensors, tokens = of_layer(shape, layer), rows * length
    # With frozen weights nothing before the first adapter needs a gradient: not the first layer's first norm, and not
    # the products that it goes into.
    reached = way.full or layer > 0
    norms = len(_stream_norms(shape, tensors)) - (0 if reached else 1)
    return Kept(
        norms=tokens * norms * norm_bytes(shape, shape.hidden, way.stream, way),
        attention=tokens * _attention(shape, way, tensors, reached) + _scores(shape, way, rows, length),
        mlp=tokens * _mlp(shape, way, tensors) + _ends(tensors),
        adapters=tokens * adapter_bytes(way, tensors),
        weights=_weights(way, tensors, reached),
    )


def kept_once(shape: Shape, way: Way, rows: int, length: int) -> int:
    """What the graph holds beside the layers: ids, the last norm, and the rotation's cosine and sine."""
    tokens = rows * length
    ids = tokens * INDEX if way.full else 0  # the table's backward pass wants them
    rotary = 2 * length * shape.key_dim * way.stream  # one row does for all sequences
    return ids + rotary + tokens * norm_bytes(shape, shape.hidden, way.stream, way)


def norm_bytes(shape: Shape, width: int, number: int, way: Way) -> int:
    """Of one token: RMSNorm's input in float32 (for the square and for the product), 1 / its root mean square, and
    the normalised input in its type of `number` bytes, which the gradient of its weight needs. Its output is kept by
    whoever multiplies it."""
    if way.lean(shape):
        return width * FLOAT + FLOAT
    if shape.architecture.lower().startswith(WIDE_NORMS):
        number = FLOAT
    return width * FLOAT + FLOAT + (width * number if way.full else 0)


def _stream_norms(shape: Shape, tensors: list[Tensor]) -> list[Tensor]:
    return [t for t in tensors if t.part == "norm" and t.shape == (shape.hidden,) and t.name not in HEAD_NORMS]


def _attention(shape: Shape, way: Way, tensors: list[Tensor], reached: bool) -> int:
    """Of one token. The inputs of products; queries and keys after the rotation, values, the output, and the logarithm
    of the softmax's sum in float32: scaled_dot_product_attention's fused kernels (flash on a GPU, and on a CPU) keep
    these and no scores. Keys and values that several heads share are not repeated (`use_gqa_in_sdpa`)."""
    heads, repeated = shape.heads, _repeats(shape)
    keys = shape.key_dim * (heads if repeated else shape.kv_heads)
    values = shape.value_dim * (heads if repeated else shape.kv_heads)
    queries, out = heads * shape.key_dim, heads * shape.value_dim
    inputs = _inputs(way, [t for t in tensors if t.part == "attention" and is_linear(t) and t.name != "o_proj"])
    rotated = (queries + keys + values + out) * way.product
    if any(t.name == "qkv_proj" for t in tensors):  # values are a part of it, so it is kept whole; and o_proj copies
        rotated += (queries + keys + out) * way.product
    return inputs + rotated + heads * FLOAT + sum(_head_norms(shape, way, tensors, reached))


def _repeats(shape: Shape) -> bool:
    return shape.key_dim != shape.value_dim or shape.key_dim > 256


def _inputs(way: Way, linears: list[Tensor]) -> int:
    """Of one token: what goes into these products, which their weights' gradients need. Those that read the same share
    it; under autocast each has its own copy in 16 bits."""
    if not way.full:
        return 0
    widths = [t.shape[1] for t in linears]
    return way.product * (sum(widths) if way.cast else sum(dict.fromkeys(widths)))


def _head_norms(shape: Shape, way: Way, tensors: list[Tensor], reached: bool) -> Iterator[int]:
    """Norms of queries and keys, of each head (Qwen3) or of all together (OLMo 2)."""
    learnt = {tensor.name for tensor in tensors if way.learns(tensor)}
    for tensor in tensors:
        needed = reached or tensor.name.replace("norm", "proj") in learnt
        if tensor.part == "norm" and tensor.name in HEAD_NORMS and needed:
            heads = shape.heads if tensor.name == "q_norm" else shape.kv_heads
            count = heads if tensor.shape == (shape.key_dim,) else 1
            yield count * norm_bytes(shape, tensor.shape[0], way.product, way)


def _scores(shape: Shape, way: Way, rows: int, length: int) -> int:
    """Attention's probabilities, where no fused kernel does: torch's plain one keeps them, [heads, length, length]."""
    return 0 if way.fused else rows * shape.heads * length * length * FLOAT


def _mlp(shape: Shape, way: Way, tensors: list[Tensor]) -> int:
    """Of one token. down(silu(gate(x)) · up(x)): gate's output is kept for silu, silu's and up's for the product, and
    the product for down's gradient; x for those of gate and up. In C silu is computed again, and not kept. Without a
    gate: the input of the activation and its output."""
    dense = [t for t in tensors if t.part == "mlp" and is_linear(t)]
    experts = [t for t in tensors if t.part == "expert"]
    gated = any(t.name in GATES for t in dense) or bool(experts)
    inner = _inner(tensors)
    factors = (2 if way.lean(shape) else 3) if gated else 1
    inside = factors * inner + (inner if way.full or experts else 0)
    read = _inputs(way, [t for t in dense if t.name not in DOWNS])
    return inside * way.product + read + _routing(shape, way, tensors, bool(read))


def _inner(tensors: list[Tensor]) -> int:
    """Inner width that a token passes through in this layer."""
    return sum(t.shape[1] * t.active for t in tensors if t.part in ("mlp", "expert") and t.name.endswith(DOWNS))


def _routing(shape: Shape, way: Way, tensors: list[Tensor], read: bool) -> int:
    """Of one token that goes to k of E experts (`grouped_mm_experts_forward`): the router's input and its softmax in
    float32; k times the token's place in the order by expert, and which of its experts that was, each twice; k copies
    of the input, k outputs and what each is multiplied by."""
    routed = [t for t in tensors if t.part == "expert"]
    if not routed:
        return 0
    k, experts = routed[0].active, routed[0].copies
    router = (0 if read else shape.hidden * way.product) + experts * FLOAT + 4 * k * INDEX
    return router + k * (2 * shape.hidden + 1) * way.product


def _ends(tensors: list[Tensor]) -> int:
    """Where each expert's tokens end, as int32."""
    return next((4 * t.copies for t in tensors if t.part == "expert"), 0)


def adapter_bytes(way: Way, tensors: list[Tensor]) -> int:
    """Of one token, of the adapters on `tensors`: the input of each in float32, as its weights are, and what is between
    its two matrices. A float32 input is one for all that read it; of o_proj it is attention's output, which is kept
    already."""
    linears = [t for t in tensors if way.learns(t)]
    between = len(linears) * way.rank * FLOAT
    if way.product == FLOAT:
        return between + FLOAT * sum({_reads(t): t.shape[1] for t in linears if t.name != "o_proj"}.values())
    return between + FLOAT * sum(t.shape[1] for t in linears)


def _reads(tensor: Tensor) -> str:
    if tensor.name.endswith(DOWNS):
        return "product"
    return f"{tensor.part} norm"


def _weights(way: Way, tensors: list[Tensor], reached: bool) -> int:
    """Copies of this layer's weights that products made and that the graph holds for the gradient of their inputs."""
    if way.cast:
        return way.product * sum(t.params // max(1, len(t.layers)) for t in tensors if len(t.shape) == 2)
    if not way.unpacked:
        return 0
    linears = [t for t in tensors if is_linear(t) and (reached or t.name == "o_proj" or t.part == "mlp")]
    scales = sum(t.shape[0] for t in linears) if way.unpacked == "int8" else 0  # one an output, multiplied afterwards
    return way.product * (sum(t.shape[0] * t.shape[1] for t in linears) + scales)
