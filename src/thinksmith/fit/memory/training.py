"""How much memory a training takes, part by part and stage by stage.

A step has up to three stages: the rollout of reinforcement learning, forward and backward passes over micro-batches,
and the optimiser's step. What one of them takes is given back before the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import find_format, weights_bytes
from thinksmith.fit.memory.activations import FLOAT, Way, is_linear
from thinksmith.fit.memory.estimate import Estimate, Item
from thinksmith.fit.memory.local import generating_items
from thinksmith.fit.memory.optimizers import STATES, STEPS, number, state_bytes, step_bytes, trained_bytes
from thinksmith.fit.memory.passes import Pass, peak
from thinksmith.fit.memory.runtime import TRACE, TRAINER, runtime_items
from thinksmith.fit.memory.serving import MOST as MOST_SERVED
from thinksmith.fit.memory.serving import Serving
from thinksmith.fit.plans.verdict import largest
from thinksmith.fit.rounding import round_up
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device

Method = Literal["sft", "dpo", "grpo"]
Tuning = Literal["full", "lora", "qlora"]
Precision = Literal["fp32", "bf16", "mixed"]
Optimizer = Literal["adamw", "adamw8bit", "muon", "sgd"]
Reference = Literal["none", "adapter", "copy"]

CHOICES: dict[str, tuple[str, ...]] = {
    "method": ("sft", "dpo", "grpo"),
    "tuning": ("full", "lora", "qlora"),
    "precision": ("fp32", "bf16", "mixed"),
    "base": ("", "fp32", "bf16", "int8", "int4", "nf4"),
    "optimizer": ("adamw", "adamw8bit", "muon", "sgd"),
    "reference": ("none", "adapter", "copy"),
}
LEAST = {"length": 2, "micro_tokens": 0, "batch": 1, "lora_rank": 1, "num_generations": 2, "prompts": 1,
         "prompt_tokens": 0, "max_tokens": 0}  # fmt: skip
MOST = 10**12  # more tokens than anybody has: a sum of such numbers is still a number
STEP = 16  # `training/batches.py` rounds lengths up to this
MOST_GROUP = 1024
SLOTS = 256  # completions that the local engine decodes at one time


@dataclass(frozen=True, slots=True)
class Training:
    """One way of training. Raises UserError for values that are none.

    `tuning`: all weights, or a LoRA adapter in float32 on weights that are frozen (`lora`) and quantised (`qlora`).
    `precision`: of weights, gradients, optimiser states and activations; `mixed` keeps activations in bfloat16 and the
    rest in float32 (autocast). `base`: the format of frozen weights, by default `nf4` for qlora and else `precision`'s.

    `length`: tokens of the longest sequence; of GRPO they are a prompt's and a completion's, so `length` follows from
    `max_tokens` where that is given, and else the other way round. `prompt_tokens` are read and not learnt.
    `micro_tokens`: padded tokens of a micro-batch, at least one sequence (0: just one; of DPO a pair). `packed`: it is
    one row without padding in which a prompt stands once; by default so where the trainer does that (GRPO).

    `batch`: sequences of a step, or pairs of DPO; of GRPO there are `prompts` times `num_generations`.
    `checkpointing`: layers are computed again in the backward pass. `chunk_logits`: not all logits of a micro-batch at
    a time; by default so where the trainers do (DPO, GRPO). `lora_targets`: by default all matrices of the layers.
    `reference`: the model before training, beside the one that is trained: by switching the adapter off, or a copy.
    """

    method: Method = "sft"
    tuning: Tuning = "full"
    precision: Precision = "fp32"
    base: str = ""
    optimizer: Optimizer = "adamw"
    length: int = 2048
    micro_tokens: int = 0
    batch: int = 16
    checkpointing: bool = False
    chunk_logits: bool | None = None
    lora_rank: int = 16
    lora_targets: tuple[str, ...] = ()
    num_generations: int = 16
    prompts: int = 16
    prompt_tokens: int = 0
    max_tokens: int = 0
    reference: Reference = "none"
    packed: bool | None = None

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                words = ", ".join(word for word in known if word)
                raise UserError(f"{name} must be one of {words}, not {str(getattr(self, name))[:40]!r}")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= MOST:
                raise UserError(f"{name} must be a whole number from {least}, not {str(value)[:40]}")
        if self.method == "grpo" and self.max_tokens:
            object.__setattr__(self, "length", self.prompt_tokens + self.max_tokens)
        self._check()
        if self.method == "grpo":
            object.__setattr__(self, "max_tokens", self.length - self.prompt_tokens)

    def _check(self) -> None:
        rules = (
            (self.prompt_tokens < self.length, f"prompt_tokens must be below length, which is {self.length}"),
            (self.tuning != "full" or not self.base, "base is of frozen weights: choose tuning lora or qlora"),
            (self.tuning != "full" or self.reference != "adapter", "reference adapter needs tuning lora or qlora"),
            (self.tuning != "qlora" or self.base not in ("fp32", "bf16"), "qlora needs base int8, int4 or nf4"),
            (self.tuning == "full" or self.optimizer != "muon", "muon is for whole weights: use adamw for an adapter"),
        )
        for holds, rule in rules:
            if not holds:
                raise UserError(rule)

    @property
    def frozen(self) -> str:
        """The format of the weights under an adapter."""
        if self.base:
            return self.base
        return "nf4" if self.tuning == "qlora" else "fp32" if self.precision == "fp32" else "bf16"

    @property
    def packs(self) -> bool:
        """Are micro-batches packed?"""
        return self.method == "grpo" if self.packed is None else self.packed

    @property
    def padded(self) -> int:
        """Tokens of a sequence in a batch."""
        return self.length if self.packs else round_up(self.length, STEP)

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch, as they are computed."""
        if not self.packs:
            return self.rows * self.padded
        whole = self.sequences * self.length
        if self.method == "grpo":
            whole -= self.prompts * (self.num_generations - 1) * self.prompt_tokens
        return max(self.length, min(self.micro_tokens, whole))

    @property
    def rows(self) -> int:
        """Sequences of a micro-batch; of a packed one, of the longest."""
        if self.packs:
            room = (self.tokens - self.prompt_tokens) // max(1, self.length - self.prompt_tokens)
            return min(max(1, room), self.sequences)
        pair = 2 if self.method == "dpo" else 1
        return min(pair * max(1, self.micro_tokens // (pair * self.padded)), self.sequences)

    @property
    def sequences(self) -> int:
        """Sequences of a step."""
        if self.method == "grpo":
            return self.prompts * self.num_generations
        return self.batch * (2 if self.method == "dpo" else 1)


def training_memory(shape: Shape, training: Training, device: Device) -> Estimate:
    """What training `shape` takes on `device`: always, and in each stage of a step.

    Exact to about 1 % of what torch allocates, for Llama, Qwen2, Qwen3, Mistral and their mixtures of experts
    (tests/fit/test_training_memory.py), which is what the process takes as `training/fits.py` has a CPU's heap work;
    see bench/fit.py. Architectures whose layers differ (multi-head latent attention, attention that is not fused) are
    less certain. Raises UserError.
    """
    gradients, states = trained_bytes(shape, training), state_bytes(shape, training)
    items = [
        *runtime_items("local", device),
        *_weights(shape, training, device),
        Item("optimiser states", states, STATES[training.optimizer]),
    ]
    if training.method == "grpo":
        if device.kind != "cuda" or device.unified:
            sampled = training.sequences * training.max_tokens
            items.append(Item("trainer", TRAINER, "what a first step of GRPO loads and makes, measured"))
            items.append(Item("traces", TRACE * sampled, f"{sampled:,} tokens as Python keeps them, measured"))
        items += _rollout(shape, training, device)
    items += _pass(shape, training, device, gradients)
    items += [
        Item("gradients", gradients, "one for each number that is learnt", "optimiser step"),
        Item("temporaries", step_bytes(shape, training, device), STEPS[training.optimizer], "optimiser step"),
    ]
    return Estimate(tuple(item for item in items if item.bytes))


def largest_length(shape: Shape, training: Training, device: Device, memory: int) -> int:
    """The longest sequences, one in a micro-batch, that `memory` bytes do for, up to what the model takes; 0 where not
    even a prompt with two tokens fits."""
    shorter = training.prompt_tokens + 1

    def fits(more: int) -> bool:
        return training_memory(shape, of_length(training, shorter + more), device).total <= memory

    found = largest(fits, max(0, shape.context - shorter))
    return shorter + found if found else 0


def largest_group(shape: Shape, training: Training, device: Device, memory: int) -> int:
    """The most completions of a group (GRPO) that `memory` bytes do for; 0 where not even two fit."""

    def fits(more: int) -> bool:
        return training_memory(shape, replace(training, num_generations=1 + more), device).total <= memory

    found = largest(fits, MOST_GROUP - 1)
    return 1 + found if found else 0


def of_length(training: Training, length: int) -> Training:
    """The same with sequences of so many tokens, one in a micro-batch."""
    return replace(training, length=max(length, training.prompt_tokens + 1), micro_tokens=0, max_tokens=0)


def way_of(training: Training, device: Device) -> Way:
    """How the passes are computed."""
    full = training.tuning == "full"
    stream = FLOAT if (training.precision != "bf16" if full else _frozen_number(training) == FLOAT) else 2
    cast = full and training.precision == "mixed"
    product = 2 if cast else stream
    return Way(
        stream=stream,
        product=product,
        full=full,
        rank=training.lora_rank,
        targets=training.lora_targets,
        cast=cast,
        unpacked=training.frozen if not full and training.frozen in ("int8", "int4") else "",
        # torch's flash kernels on a GPU are for 16 bits, its others want as many heads of keys as of queries, and so
        # float32 falls back to the plain one: https://github.com/pytorch/pytorch/pull/191085
        fused=device.kind != "cuda" or product < FLOAT,
        native=training.packs and device.kind == "cpu",
    )


def _frozen_number(training: Training) -> int:
    """Bytes of an activation over frozen weights: their type, or where they are quantised that of the rest."""
    if training.frozen in ("fp32", "bf16"):
        return FLOAT if training.frozen == "fp32" else 2
    return FLOAT if training.precision == "fp32" and training.frozen != "nf4" else 2


def _weights(shape: Shape, training: Training, device: Device) -> list[Item]:
    if training.tuning == "full":
        own = shape.params * number(training)
        found = [Item("weights", own, f"{shape.params:,} numbers of {number(training)} bytes")]
    else:
        form = find_format(training.frozen, "local", device.kind)
        if form.packing is None:  # all tensors in one type, also those that a file would keep in another
            own = shape.params * (FLOAT if training.frozen == "fp32" else 2)
        else:
            own = weights_bytes(shape, form)
            if _frozen_number(training) == FLOAT:  # what is not packed
                own += sum(t.params * 2 for t in shape.tensors if not (is_linear(t) or t.part == "expert"))
        found = [Item("weights", own, f"frozen, in {training.frozen}")]
        found.append(Item("adapter", trained_bytes(shape, training), f"rank {training.lora_rank}, in float32"))
    if training.reference == "copy":
        found.append(Item("reference", own, "a copy of the weights"))
    return found


def _pass(shape: Shape, training: Training, device: Device, gradients: int) -> list[Item]:
    way, rows = way_of(training, device), training.rows
    learnt = max(1, min(training.length - training.prompt_tokens, training.length - 1))
    chunked = training.method != "sft" if training.chunk_logits is None else training.chunk_logits
    several = training.sequences > rows
    width = training.tokens if training.packs else training.padded
    if training.packs:
        rows, learnt = 1, max(1, training.tokens - max(1, training.prompt_tokens))
    step = Pass(
        way, rows, width, rows * learnt, chunked, training.checkpointing, several, number(training),
        native=device.kind == "cpu",
    )  # fmt: skip
    moment = peak(shape, step, gradients)
    phase = "forward and backward"
    kept = "of the layers' inputs alone" if training.checkpointing else f"of {shape.layers} layers"
    unpacked = "frozen weights, unpacked for the backward pass" if way.unpacked else "weights, in bfloat16"
    table = _unpacked_matrix(shape, training)
    return [
        Item("gradients", moment.gradients, f"as far as they are there at the peak ({moment.when})", phase),
        Item("activations", moment.activations, f"{rows} × {width} tokens, {kept}", phase),
        Item("copies of weights", moment.copies, unpacked, phase),
        Item("logits", moment.logits, "in float32, with what their softmax and its gradient take", phase),
        Item("temporaries", moment.temporary + table, f"gradients of activations ({moment.when})", phase),
    ]


def _unpacked_matrix(shape: Shape, training: Training) -> int:
    """bitsandbytes unpacks a matrix for its product, and again for its gradient, and keeps nothing
    (https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/autograd/_functions.py)."""
    if training.frozen != "nf4" or training.tuning == "full":
        return 0
    return 2 * max((t.shape[0] * t.shape[1] for t in shape.tensors if is_linear(t)), default=0)


def _rollout(shape: Shape, training: Training, device: Device) -> list[Item]:
    """What the local engine takes with all completions that are decoded at a time, each group's prompt there once; it
    gives that back before the backward pass."""
    format = find_format("bf16" if way_of(training, device).stream < FLOAT else "fp32", "local", device.kind)
    serving = Serving(
        context=min(training.length, MOST_SERVED),
        batch=min(training.sequences, SLOTS),
        prompt=min(max(1, training.prompt_tokens), MOST_SERVED),
        filtered=False,
        group=min(training.num_generations, SLOTS),
    )
    return [replace(item, phase="rollout") for item in generating_items(shape, serving, device, format)]
