"""Whether a training will fit, asked before anything is allocated; and a heap that gives back what was freed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace

import torch

from thinksmith.errors import UserError
from thinksmith.fit.memory.free import free_bytes
from thinksmith.fit.memory.training import Training, training_memory
from thinksmith.fit.shapes.configs import shape_of
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device, Kind
from thinksmith.policy.policy import Policy

# Tokens of a pass, beside a prompt. More at a time make nothing faster: on a CPU the activations of so many stay near
# its cache, and a GPU is busy.
ENOUGH = {"cpu": 2048, "cuda": 16384}
SPARE = 0.8  # of what is free: others may want some, and the estimate may be 10 % too low
SURE = 0.9  # a refusal must not be wrong: the estimate may be 10 % too high
GB = 1e9
LEAST = 16  # tokens of a completion
HOLES = 3  # times what training takes beside the weights: more than a heap that is left alone was seen to take
M_MMAP_THRESHOLD = -3  # of mallopt(3)
MAPPED = 128 << 10  # where glibc begins, before it raises that to the largest block that was freed, up to 32 MiB


def check_fits(policy: Policy, training: Training, free: int | None = None) -> None:
    """Raises UserError, in one line that says what to change, where training `policy` needs more than is free.

    The policy is loaded, so its weights and the process are there already and are not counted. `free`: bytes, by
    default those of the policy's device. A model whose config says too little is let through: this is a help, no gate.
    """
    try:
        shape = shape_of(policy.model.config.to_dict(), policy.name)
    except UserError:
        return
    device = _device(policy)
    free = free_bytes(policy.device) if free is None else free
    more = _more(shape, training, device)
    if HOLES * more > free:
        map_blocks(policy.device)
    if SURE * more <= free:
        return
    raise UserError(
        f"training {policy.name} needs about {more / GB:.1f} GB more and {free / GB:.1f} GB are free: "
        + _hint(shape, training, device, free)
    )


def fits(policy: Policy, training: Training, share: float = 1.0) -> bool:
    """Does the training need at most this share of what is free? Yes where the config says too little to tell."""
    try:
        shape = shape_of(policy.model.config.to_dict(), policy.name)
    except UserError:
        return True
    return _more(shape, training, _device(policy)) <= share * free_bytes(policy.device)


def map_blocks(place: torch.device) -> bool:
    """From now on let the C library map all but small tensors one by one; was that done?

    torch asks for aligned memory, and glibc then does not give a freed block out again for one of the same size, since
    it wants room for the alignment (https://sourceware.org/bugzilla/show_bug.cgi?id=14581, seen in
    https://github.com/pytorch/pytorch/pull/53715): a process that trains on a CPU was seen to grow by up to 1.8 times
    what it uses (bench/fit.py). Mapped blocks go back to the system, so it takes what it uses and no more. But new
    pages are cleared each time, for 25 % (120 million parameters) to 46 % (25 million) more of the processor's time,
    so this is done only where memory is scarce. Without glibc nothing happens.
    """
    if place.type != "cpu":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, MAPPED))


def _device(policy: Policy) -> Device:
    kind: Kind = "cuda" if policy.device.type == "cuda" else "cpu"
    return Device(kind, kind, kind, 0, 0.0, {})


def _more(shape: Shape, training: Training, device: Device) -> int:
    """Bytes that training takes beside the process and the loaded weights."""
    estimate = training_memory(shape, training, device)
    there = ("process", "trainer", "CUDA context", "cuBLAS workspace", "weights", "adapter")
    return estimate.total - sum(estimate.named(name) for name in there)


def _hint(shape: Shape, training: Training, device: Device, free: int) -> str:
    """The first change that does, those that cost least first."""
    least = ""
    for word, changed in _changes(training):
        need = _more(shape, changed, device)
        least = f"{word} would need {need / GB:.1f} GB"
        if need <= free:
            return least
    return f"even {least}, so take a smaller model" if least else "take a smaller model"


def _changes(training: Training) -> Iterator[tuple[str, Training]]:
    """Smaller micro-batches, which change nothing but the speed; then shorter completions."""
    size = training.micro_tokens
    while size > training.padded:
        size = max(size // 2, training.padded)
        yield f"micro_tokens={size}", replace(training, micro_tokens=size)
    size = training.max_tokens // 2 if training.method == "grpo" else 0
    while size >= LEAST:
        shorter = replace(training, micro_tokens=0, max_tokens=size)
        yield f"max_tokens={size} and micro_tokens={shorter.padded}", shorter
        size //= 2
