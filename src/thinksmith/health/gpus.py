"""The GPUs that the machine has, as the driver tells, whatever torch makes of them."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from thinksmith.health.command import ask
from thinksmith.health.finding import Finding, memory_size, plain

_GPU = ("index", "uuid", "name", "memory.total", "memory.free", "compute_cap", "driver_version")
_LITTLE = 0.1  # of its memory free: others use it, and most of what one would run will not fit
_PROCESS = ("gpu_uuid", "pid", "process_name", "used_memory")


@dataclass(frozen=True, slots=True)
class Gpu:
    """`total` and `free`: bytes of its own memory, None where the driver does not say, as on unified memory.
    `capability`: CUDA's, as (9, 0). `others`: processes that compute on it, as "python (3.2 GiB)"."""

    name: str
    total: int | None = None
    free: int | None = None
    capability: tuple[int, int] | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Graphics:
    """What the NVIDIA driver tells. `driver`: its version, empty where there is none; `cuda`: the newest CUDA that it
    runs. `trouble`: why it could not be asked."""

    driver: str = ""
    cuda: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""


def graphics(root: Path = Path("/"), program: str = "nvidia-smi", library: str = "libcuda.so.1") -> Graphics:
    """Ask the driver. `root` is where `proc` is; `program` and `library` are the driver's."""
    loaded = _loaded_driver(root)
    said = ask((program, f"--query-gpu={','.join(_GPU)}", "--format=csv,noheader,nounits"))
    rows = [row for row in map(_fields, said.text.splitlines()) if len(row) == len(_GPU)]
    if said.trouble or not rows:
        trouble = f"nvidia-smi: {plain(said.trouble or 'it names no GPU')}" if loaded else ""
        return Graphics(loaded, _newest_cuda(library) if loaded else None, trouble=trouble)
    others = _processes(program)
    gpus = tuple(
        Gpu(plain(name), _mebibytes(total), _mebibytes(free), _version(capability), others.get(uuid, ()))
        for _, uuid, name, total, free, capability, _ in rows
    )
    return Graphics(plain(rows[0][-1]), _newest_cuda(library), gpus)


def findings(found: Graphics, unified: Collection[str] = (), otherwise: str = "none") -> list[Finding]:
    """`unified`: names of GPUs that share their memory with the CPU, as far as torch knows. `otherwise`: what is said
    of a machine that has none of NVIDIA's."""
    if found.trouble:
        value = f"driver {found.driver} is loaded, but {found.trouble}"
        return [
            Finding(
                "machine", "GPU", value, "problem", "run nvidia-smi; if it fails too, restart or reinstall the driver"
            )
        ]
    listed = [_one(number, gpu, gpu.name in unified) for number, gpu in enumerate(found.gpus)]
    if found.driver:
        cuda = f", runs CUDA up to {found.cuda[0]}.{found.cuda[1]}" if found.cuda else ""
        listed.append(Finding("machine", "driver", f"NVIDIA {found.driver}{cuda}"))
    return listed or [Finding("machine", "GPU", otherwise)]


def _one(number: int, gpu: Gpu, unified: bool) -> Finding:
    if gpu.total is None or gpu.free is None:
        memory = "memory shared with the CPU"
    else:
        memory = f"{memory_size(gpu.free)} of {memory_size(gpu.total)} free"
        memory += ", shared with the CPU" if unified else ""
    capability = f", compute capability {gpu.capability[0]}.{gpu.capability[1]}" if gpu.capability else ""
    used = f"; also used by {', '.join(gpu.others)}" if gpu.others else ""
    value = f"{gpu.name}, {memory}{capability}{used}"
    if gpu.total and gpu.free is not None and gpu.free < gpu.total * _LITTLE:
        return Finding("machine", f"GPU {number}", value, "note", "stop what uses its memory, or compute on another")
    return Finding("machine", f"GPU {number}", value)


def _loaded_driver(root: Path) -> str:
    """The version of the kernel's NVIDIA module, empty where there is none."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    version = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return version[0] if version else "of an unknown version"


def _newest_cuda(library: str) -> tuple[int, int] | None:
    """The newest CUDA that the driver runs: cuDriverGetVersion gives 1000 * major + 10 * minor, and needs no GPU to be
    set up (CUDA Driver API, "Version Management")."""
    try:
        version = ctypes.c_int(0)
        if ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10


def _processes(program: str) -> dict[str, tuple[str, ...]]:
    """Who computes on which GPU; the driver does not tell everyone, and in a container nobody."""
    said = ask((program, f"--query-compute-apps={','.join(_PROCESS)}", "--format=csv,noheader,nounits"))
    found: dict[str, tuple[str, ...]] = {}
    for row in map(_fields, said.text.splitlines()):
        if len(row) == len(_PROCESS) and not said.trouble:
            uuid, pid, name, used = row
            size = _mebibytes(used)
            who = f"{plain(Path(name).name, 40)} {plain(pid, 12)}" + (f" ({memory_size(size)})" if size else "")
            found[uuid] = (*found.get(uuid, ()), who)
    return found


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")]


def _mebibytes(text: str) -> int | None:
    return int(text) * 2**20 if text.isdecimal() and len(text) < 12 else None


def _version(text: str) -> tuple[int, int] | None:
    parts = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", text)
    return (int(parts[1]), int(parts[2])) if parts else None
