"""The formats of weights, best first, with what each costs and who runs it.

The order goes by how far a format moves a model, and is an order only. Within GGUF: the perplexity that Llama-3-8B
loses, as `llama-quantize --help` tells (tools/quantize/quantize.cpp of https://github.com/ggml-org/llama.cpp), and for
the i-quants the median KL divergence on Mistral-7B (https://gist.github.com/Artefact2/b5f810600771265fc1e39442288e8ec9).
Between the rest: FP8 is near lossless, INT8 loses a little, INT4 with groups a little more (Kurtic et al. 2024,
arXiv:2411.02355); NF4 loses less than 4-bit floats (Dettmers et al. 2023, arXiv:2305.14314, table 2), NVFP4 less than
MXFP4 (Egiazarian et al. 2025, arXiv:2509.23202). torchao's int4 rounds as Q4_1 and Q4_0 do, and stands with them. A
model that was trained in a format, as gpt-oss was in MXFP4, loses nothing by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from thinksmith.fit.formats.ggml import BLOCKS
from thinksmith.fit.formats.gguf_mixes import MIXES

Multiplied = Literal["fp32", "bf16", "fp8", "int8", "fp4"]


@dataclass(frozen=True, slots=True)
class Packing:
    """How a linear layer is packed: `bits` of a number, and for each group of (outputs, inputs) so many `scale_bits`
    for scale and zero (0: all of them are one group). `flat`: groups run over the flattened matrix instead. `nested`:
    so many scales share a 32-bit one. `once`: bytes that a matrix has once; `column`: bytes that each input has.
    `pad`: what outputs and inputs are filled up to a multiple of.
    """

    bits: int
    group: tuple[int, int] = (0, 0)
    scale_bits: int = 32
    flat: int = 0
    nested: int = 0
    once: int = 0
    column: int = 0
    pad: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Format:
    """`bits`: of one number that is packed, its share of the scales included. `engines`: which run it (`local`,
    `vllm`, `llamacpp`, `ollama`). `multiplied`: the format that its products are computed in; weight-only formats are
    unpacked first. `rest`: bytes of a number that is not packed. `experts_only`: of a mixture only the experts are
    packed. `mix`: of a GGUF, its name in llama.cpp.
    """

    name: str
    bits: float
    engines: tuple[str, ...]
    multiplied: Multiplied
    about: str
    packing: Packing | None = None
    rest: int = 2
    experts_only: bool = False
    mix: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """Place in the order of fidelity, 0 is best."""
        return _RANKS.get(self.name, 0)


# DeepSeek-V3's and Qwen3's FP8: blocks of 128×128 with a 32-bit scale (arXiv:2412.19437, section 3.3).
_FP8 = Packing(8, group=(128, 128))
_FP8_TENSOR = Packing(8, scale_bits=0, once=4)
# torchao 0.18: each output has a 32-bit scale and an 8-bit zero (Int8Tensor).
_INT8 = Packing(8, group=(1, 0), scale_bits=40)
_W8A8 = Packing(8, group=(1, 0), scale_bits=32)
# AWQ and GPTQ: a 16-bit scale and a 4-bit zero for 128 inputs; GPTQ has a 32-bit group number for each input besides.
_INT4 = Packing(4, group=(1, 128), scale_bits=20)
_GPTQ = Packing(4, group=(1, 128), scale_bits=20, column=4)
# torchao 0.18 on a GPU (Int4TilePackedTo4dTensor): 16-bit scale and zero, inputs filled up to 1024, outputs to 8.
_INT4_32 = Packing(4, group=(1, 32), scale_bits=32, pad=(8, 1024))
# torchao 0.18 on a CPU (IntxUnpackedToInt8Tensor): a byte a number, a 16-bit scale and an 8-bit zero.
_INT4_CPU = Packing(8, group=(1, 32), scale_bits=24)
# bitsandbytes with double quantisation (arXiv:2305.14314): 64 share an 8-bit scale, 256 of these a 32-bit one; each
# matrix has their mean, and the tables of 16 and of 256 values that the codes stand for, in 32 bits.
_NF4 = Packing(4, flat=64, scale_bits=8, nested=256, once=4 * (1 + 16 + 256))
# OCP microscaling formats 1.0: 32 share a power of two. NVIDIA's: 16 share an fp8 scale, a matrix has a 32-bit one.
_MXFP4 = Packing(4, group=(1, 32), scale_bits=8)
_NVFP4 = Packing(4, group=(1, 16), scale_bits=8, once=4)

_ALL = ("local", "vllm")
_VLLM = ("vllm",)
_LLAMA = ("llamacpp", "ollama")


def _packed(
    name: str,
    about: str,
    packing: Packing,
    *aliases: str,
    engines: tuple[str, ...] = _VLLM,
    multiplied: Multiplied = "bf16",
    experts_only: bool = False,
) -> Format:
    share = packing.flat or packing.group[0] * packing.group[1]
    bits = packing.bits + (packing.scale_bits / share if share else 0)
    bits += 32 / (share * packing.nested) if packing.nested else 0
    return Format(name, bits, engines, multiplied, about, packing, experts_only=experts_only, aliases=aliases)


def _gguf(mix: str, about: str, *aliases: str, name: str = "", engines: tuple[str, ...] = _LLAMA) -> Format:
    block = BLOCKS[MIXES[mix].most]
    multiplied: Multiplied = "fp32" if mix == "F32" else "bf16"
    bits = 8 * block.bytes / block.numbers
    return Format(name or mix.casefold(), bits, engines, multiplied, about, mix=mix, aliases=aliases)


TABLE = (
    Format("fp32", 32, _ALL, "fp32", "32-bit floats", rest=4, aliases=("float32", "32bit")),
    _gguf("F32", "32-bit floats in a GGUF", engines=("llamacpp",)),
    Format("bf16", 16, _ALL, "bf16", "16-bit floats with the range of 32 bits", aliases=("bfloat16", "16bit")),
    _gguf("BF16", "bf16 in a GGUF, norms in 32 bits", name="bf16_gguf"),
    Format("fp16", 16, _ALL, "bf16", "16-bit floats", aliases=("float16", "half")),
    _gguf("F16", "fp16 in a GGUF, norms in 32 bits", "fp16_gguf"),
    _gguf("Q8_0", "8 bits, 32 share a scale", "q8"),
    _packed("fp8", "8-bit floats, 128×128 share a scale", _FP8, "fp8_block", "float8", multiplied="fp8"),
    _packed("fp8_tensor", "8-bit floats, a scale for each matrix", _FP8_TENSOR, multiplied="fp8"),
    _packed("int8", "8-bit integers, a scale for each output", _INT8, "8bit", "w8a16", engines=_ALL),
    _packed(
        "w8a8",
        "int8 that multiplies activations in int8 too",
        _W8A8,
        "int8_w8a8",
        multiplied="int8",
    ),
    _gguf("Q6_K", "6 bits", "q6"),
    _gguf("Q5_K_M", "5 bits, 6 for half of what matters most", "q5_k", "q5"),
    _gguf("Q5_K_S", "5 bits"),
    _gguf("Q5_1", "5 bits, 32 share a scale and a least value"),
    _gguf("Q5_0", "5 bits, 32 share a scale"),
    _gguf("Q4_K_M", "4 bits, 6 for half of what matters most", "q4_k", "q4"),
    _gguf("Q4_K_S", "4 bits, 5 for the first layers' values"),
    _gguf("IQ4_NL", "4 bits on an uneven grid, 32 share a scale"),
    _gguf("IQ4_XS", "4 bits on an uneven grid", "iq4"),
    _packed("int4", "4-bit integers, 128 share scale and zero (AWQ)", _INT4, "awq", "4bit", "w4a16"),
    _packed("gptq", "as int4, and each input names its group (GPTQ)", _GPTQ, "gptq_int4"),
    _packed(
        "nf4", "4 bits at the quantiles of a normal distribution: QLoRA's", _NF4, "bnb", "bnb_4bit", "bitsandbytes"
    ),
    _packed("nvfp4", "4-bit floats, 16 share a scale", _NVFP4, "fp4", multiplied="fp4"),
    _packed(
        "mxfp4",
        "4-bit floats, 32 share a power of two; of a mixture only the experts",
        _MXFP4,
        engines=("vllm", "ollama"),
        experts_only=True,
    ),
    _gguf("MXFP4_MOE", "experts in 4-bit floats, the rest in 8 bits", "mxfp4_gguf"),
    _packed(
        "int4_32",
        "4-bit integers, 32 share scale and zero: torchao's on a GPU",
        _INT4_32,
        engines=("local",),
    ),
    _gguf("Q4_1", "4 bits, 32 share a scale and a least value"),
    _packed(
        "int4_cpu",
        "4 bits in a byte, 32 share a scale: torchao's on a CPU",
        _INT4_CPU,
        engines=("local",),
    ),
    _gguf("Q4_0", "4 bits, 32 share a scale"),
    _gguf("Q3_K_L", "3 bits, 5 for what matters most"),
    _gguf("Q3_K_M", "3 bits, 4 and 5 for what matters most", "q3_k", "q3"),
    _gguf("IQ3_M", "3 bits on a grid, 4 for what matters most"),
    _gguf("IQ3_S", "3 bits on a grid"),
    _gguf("IQ3_XS", "3 bits on a grid, fewer in the middle layers"),
    _gguf("Q3_K_S", "3 bits"),
    _gguf("IQ3_XXS", "3 bits on a grid, 256 share a scale", "iq3"),
    _gguf("Q2_K", "2 bits, 3 and 4 for what matters most", "q2"),
    _gguf("IQ2_M", "2 bits on a grid, 3 for what matters most", "iq2"),
    _gguf("Q2_K_S", "2 bits"),
    _gguf("IQ2_S", "2 bits on a grid, 3 for what matters most"),
    _gguf("IQ2_XS", "2 bits on a grid"),
    _gguf("IQ2_XXS", "2 bits on a grid, 256 share a scale"),
    _gguf("IQ1_M", "below 2 bits"),
    _gguf("IQ1_S", "1.6 bits", "iq1"),
    _gguf("TQ2_0", "three values in 2 bits, for models that were trained so"),
    _gguf("TQ1_0", "three values in 1.7 bits, for models that were trained so"),
)
_RANKS = {each.name: rank for rank, each in enumerate(TABLE)}
