"""How torch was built, and whether that build can use what the machine has."""

from __future__ import annotations

import platform
import re
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from thinksmith.health.finding import Finding
from thinksmith.health.gpus import Gpu, Graphics
from thinksmith.health.processor import BF16, Processor

_WHERE = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True, slots=True)
class Build:
    """`cuda` and `rocm`: the version that it was built with, empty if without. `architectures`: of GPUs that it has
    code for (`sm_90`, `compute_90`). `usable`: whether it can compute on a GPU here; `bf16`: whether that GPU
    multiplies bfloat16 itself. `metal`: whether it was built for Apple's GPUs, and whether one is usable. `gpus`:
    names of those that it sees; `unified`: of those that share their memory with the CPU."""

    version: str
    threads: int = 1
    cuda: str = ""
    rocm: str = ""
    architectures: tuple[str, ...] = ()
    usable: bool = False
    bf16: bool = False
    metal: tuple[bool, bool] = (False, False)
    gpus: tuple[str, ...] = ()
    unified: frozenset[str] = frozenset()


def build() -> Build:
    """The torch of this process."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old: that is found out below
        usable = torch.cuda.is_available()
        try:
            seen = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count() * usable)]
            bf16 = usable and torch.cuda.is_bf16_supported(including_emulation=False)
        except RuntimeError:  # the driver is there and cannot be started
            usable, bf16, seen = False, False, []
    return Build(
        version=torch.__version__,
        threads=torch.get_num_threads(),
        cuda=torch.version.cuda or "",
        rocm=getattr(torch.version, "hip", None) or "",
        architectures=tuple(torch.cuda.get_arch_list()),
        usable=usable,
        bf16=bf16,
        metal=(torch.backends.mps.is_built(), torch.backends.mps.is_available()),
        gpus=tuple(gpu.name for gpu in seen),
        unified=frozenset(gpu.name for gpu in seen if gpu.is_integrated),
    )


def findings(found: Build, graphics: Graphics, cpu: Processor) -> list[Finding]:
    """What torch is, what hinders it, and what goes with it."""
    return [
        _torch(found, graphics, cpu),
        *(_old_gpu(number, gpu, found) for number, gpu in enumerate(graphics.gpus) if not _has_code(found, gpu)),
        Finding("torch", "bfloat16", _bf16(found, cpu)),
        *_packages(),
    ]


def _torch(found: Build, graphics: Graphics, cpu: Processor) -> Finding:
    what = f"CUDA {found.cuda}" if found.cuda else f"ROCm {found.rocm}" if found.rocm else "CPU"
    what = "Metal" if found.metal[0] and not found.cuda else what
    value = f"{found.version}, built for {what}"
    there = bool(graphics.driver)
    if there and not (found.cuda or found.rocm):
        names = ", ".join(gpu.name for gpu in graphics.gpus) or "an NVIDIA GPU"
        return Finding("torch", "PyTorch", f"{value}, which cannot use {names}", "problem", install(cpu.machine))
    if there and found.cuda and graphics.cuda and _major(found.cuda) > graphics.cuda[0]:
        newest = f"{graphics.cuda[0]}.{graphics.cuda[1]}"
        remedy = f"update the NVIDIA driver, or install a torch for CUDA {newest} or older: {_WHERE} has the line"
        return Finding("torch", "PyTorch", f"{value}, but the driver runs CUDA up to {newest}", "problem", remedy)
    if there and graphics.gpus and found.cuda and not found.usable:
        remedy = 'see what `python -c "import torch; torch.cuda.init()"` says, and whether CUDA_VISIBLE_DEVICES is set'
        return Finding("torch", "PyTorch", f"{value}, but it finds no GPU that it can use", "problem", remedy)
    if found.metal == (True, False) and platform.system() == "Darwin":
        return Finding("torch", "PyTorch", f"{value}, but Metal is not usable", "note", "update macOS")
    return Finding("torch", "PyTorch", value)


def install(machine: str) -> str:
    """The line that installs a torch for NVIDIA GPUs.

    What pip finds by itself is one for CUDA on Linux x86-64; on Linux aarch64 it was the one for CPUs up to torch 2.9
    (pytorch/pytorch issues 160162 and 168065), so there the makers' page must tell.
    """
    if machine == "x86_64" and platform.system() == "Linux":
        wanted = next((line for line in requires("thinksmith") or () if re.match(r"torch\b", line)), "torch")
        return f"pip install --force-reinstall '{wanted}' (from PyPI; for another CUDA see {_WHERE})"
    return f"install a torch for CUDA: {_WHERE} has the line for {platform.system()} {machine}"


def _has_code(found: Build, gpu: Gpu) -> bool:
    """Machine code runs on the same major capability and a minor one not below (`sm_80` on 8.9); code that is compiled
    on the spot, on any later GPU (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility")."""
    if not found.cuda or gpu.capability is None:
        return True  # there is nothing to compare, or the build is another's
    for name in found.architectures:
        parts = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if parts is None:
            continue
        has = int(parts[2]), int(parts[3])
        if parts[4] == "a":  # only this very one
            fits = has == gpu.capability
        elif parts[1] == "sm" or parts[4]:
            fits = has[0] == gpu.capability[0] and has <= gpu.capability
        else:
            fits = has <= gpu.capability
        if fits:
            return True
    return not found.architectures


def _old_gpu(number: int, gpu: Gpu, found: Build) -> Finding:
    assert gpu.capability is not None
    value = f"torch has no code for compute capability {gpu.capability[0]}.{gpu.capability[1]}"
    value += f" (it has {', '.join(found.architectures)})"
    remedy = f"install a torch that has it: {_WHERE}; or hide the GPU with CUDA_VISIBLE_DEVICES"
    return Finding("torch", f"GPU {number}", value, "problem", remedy)


def _bf16(found: Build, cpu: Processor) -> str:
    on_cpu = f"{'multiplied' if BF16 & cpu.flags else 'emulated'} by the CPU"
    return f"{'multiplied' if found.bf16 else 'emulated'} by the GPU, {on_cpu}" if found.usable else on_cpu


def _packages() -> list[Finding]:
    found = [Finding("torch", "transformers", _version("transformers") or "none")]
    if quantizer := _version("torchao"):
        return [*found, Finding("torch", "torchao", f"{quantizer}: int8 and int4 can be used")]
    remedy = "pip install 'thinksmith[quant]'"
    return [*found, Finding("torch", "torchao", "none: weights in int8 and int4 cannot be used", "note", remedy)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _major(cuda: str) -> int:
    major = cuda.split(".")[0]
    return int(major) if major.isdecimal() else 0
