"""What is there before any weight: the process with its libraries, and what a GPU's driver takes for it."""

from __future__ import annotations

import difflib

from thinksmith.errors import UserError
from thinksmith.fit.memory.estimate import Item
from thinksmith.fit.speed.device import Device

MiB = 2**20
ENGINES = ("local", "vllm", "llamacpp", "ollama")
OPERATED_BY_TORCH = ("local", "vllm")

# Resident bytes of a process that has imported torch (for CPUs), transformers and this package, and answered a first
# request: measured by bench/fit.py. Half of it is the code itself, and tables that its import builds.
PYTHON = 404 * MiB
# More, in one that has made a first step of GRPO: measured by bench/grpo_memory.py.
TRAINER = 48 * MiB
# Of a token that was sampled: its id, its log-probability and its text as Python keeps them, measured there too.
TRACE = 160
# Of a process with llama.cpp in it: measured by bench/fit.py through llama-cpp-python.
LLAMACPP = 41 * MiB
# With CUDA 13 and PyTorch 2.10, before any tensor: https://github.com/unslothai/unsloth-zoo/pull/1053; PyTorch's
# developers say "around 400MB": https://github.com/pytorch/pytorch/issues/109888
CONTEXT_OF_TORCH = 426 * MiB
# What Ollama sets aside for it on each GPU: cudaMinimumMemory in https://github.com/ollama/ollama/blob/v0.5.0/discover/gpu.go
CONTEXT_OF_LLAMACPP = 457 * MiB
# As NVIDIA recommends for Hopper and later, and PyTorch allocates (4 MiB before):
# https://docs.nvidia.com/cuda/cublas/index.html#cublassetworkspace, https://github.com/pytorch/pytorch/pull/120925
WORKSPACE = 32 * MiB


def check_engine(engine: str, device: Device) -> None:
    """Raises UserError for an engine that is not known, or that does not run on the device."""
    if engine not in ENGINES:
        near = difflib.get_close_matches(engine, ENGINES, n=1)
        raise UserError(f"no engine {engine!r}: use {near[0] if near else ', '.join(ENGINES)}")
    if engine == "vllm" and device.kind != "cuda":
        raise UserError(f"vllm is planned for on NVIDIA GPUs only, not on {device.name}: use llamacpp, ollama or local")


def runtime_items(engine: str, device: Device) -> tuple[Item, ...]:
    """What is always there, in the memory of `device`. Raises UserError for an engine that does not run there.

    On a GPU with memory of its own that is the driver's context and cuBLAS's workspace; the process lies in main
    memory. Where GPU and CPU share one memory both are in it.
    """
    check_engine(engine, device)
    torch = engine in OPERATED_BY_TORCH
    found: list[Item] = []
    if device.kind != "cuda" or device.unified:
        libraries = "Python, torch and transformers" if torch else "llama.cpp"
        found.append(Item("process", PYTHON if torch else LLAMACPP, f"{libraries}, measured"))
    if device.kind == "cuda":
        size, who = (CONTEXT_OF_TORCH, "PyTorch") if torch else (CONTEXT_OF_LLAMACPP, "Ollama")
        found.append(Item("CUDA context", size, f"driver and kernels, as published for {who}"))
        if torch:
            found.append(Item("cuBLAS workspace", WORKSPACE, "as NVIDIA recommends for Hopper and later"))
    return tuple(found)
