"""What is learnt, and what an optimiser keeps of it and takes for its step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinksmith.errors import UserError
from thinksmith.fit.memory.activations import FLOAT, Way, is_linear
from thinksmith.fit.memory.passes import largest_matrix
from thinksmith.fit.shapes.shape import Shape, Tensor
from thinksmith.fit.speed.device import Device

if TYPE_CHECKING:
    from thinksmith.fit.memory.training import Training

BLOCK = 256  # numbers that share a scale in bitsandbytes' 8-bit states
WHOLE = 4096  # tensors with fewer numbers keep states in 32 bits:
# https://huggingface.co/docs/bitsandbytes/optimizers


def trained_bytes(shape: Shape, training: Training) -> int:
    """Bytes of the gradients, which are those of the numbers that are learnt."""
    return sum(count for _, count in trained(shape, training)) * number(training)


def state_bytes(shape: Shape, training: Training) -> int:
    """Bytes that the optimiser keeps from step to step.

    AdamW two numbers a weight, in its type; Muon (`training/optimizer.py`) one of the matrices in the layers, AdamW's
    of the rest; AdamW in 8 bits two bytes, and a scale for each 256 in both.
    """
    size, total = number(training), 0
    for tensor, count in trained(shape, training):
        each = count // max(1, tensor.count)
        if training.optimizer == "adamw8bit" and each >= WHOLE:
            total += 2 * tensor.count * (each + FLOAT * -(-each // BLOCK))
        elif training.optimizer == "adamw8bit":
            total += 2 * count * FLOAT
        elif training.optimizer == "muon" and _for_muon(tensor):
            total += count * size
        elif training.optimizer != "sgd":
            total += 2 * count * size
    return total


STATES = {
    "adamw": "two numbers for each that is learnt",
    "adamw8bit": "two bytes for each number that is learnt, and a scale for each 256",
    "muon": "one number for each in a layer's matrices, two for each other",
    "sgd": "",
}
STEPS = {
    "adamw": "the square root of the second moments, and its quotient",
    "adamw8bit": "",
    "muon": "the update and its orthogonalisation in bfloat16, of the largest matrix",
    "sgd": "",
}


def number(training: Training) -> int:
    """Bytes of a number that is learnt."""
    return 2 if training.tuning == "full" and training.precision == "bf16" else FLOAT


def trained(shape: Shape, training: Training) -> list[tuple[Tensor, int]]:
    """Tensors that are learnt, or that have an adapter, and how many numbers of theirs are learnt."""
    if training.tuning == "full":
        return [(tensor, tensor.params) for tensor in shape.tensors]
    way = Way(FLOAT, FLOAT, full=False, targets=training.lora_targets)
    found = [(t, training.lora_rank * sum(t.shape) * t.count) for t in shape.tensors if way.learns(t)]
    if not found:
        known = sorted({t.name for t in shape.tensors if is_linear(t)})
        raise UserError(f"{shape.name} has no matrix {', '.join(training.lora_targets)}: there are {', '.join(known)}")
    return found


def step_bytes(shape: Shape, training: Training, device: Device) -> int:
    """What the optimiser's step takes for a moment.

    torch's AdamW goes from tensor to tensor on a CPU: the root of the second moment, its quotient, and, until that is
    there, the quotient of the tensor before, which in the layers is often as large. On a GPU it takes all tensors at
    once and divides in place. Muon makes the update, a copy of it in bfloat16, the next one, and two square matrices of
    its smaller side.
    """
    size, learnt = number(training), trained(shape, training)
    by_muon = [t for t, _ in learnt if training.optimizer == "muon" and _for_muon(t)]
    by_adam = [(t, count) for t, count in learnt if t not in by_muon]
    if training.optimizer in ("adamw8bit", "sgd"):
        return 0
    muon = max((a * b * (size + 2 + 2) + 2 * 2 * min(a, b) ** 2 for a, b in (t.shape for t in by_muon)), default=0)
    if device.kind == "cuda":
        return max(muon, size * sum(count for _, count in by_adam))
    if training.tuning != "full":
        return 3 * size * max(training.lora_rank * max(tensor.shape) for tensor, _ in learnt)
    once = max((count for tensor, count in by_adam if not tensor.layers), default=0)
    inside = 0 if by_muon else largest_matrix(shape)
    return max(muon, size * max(2 * once, 3 * inside))


def _for_muon(tensor: Tensor) -> bool:
    return is_linear(tensor) or tensor.part == "router"
