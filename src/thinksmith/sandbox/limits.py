"""How much a program may use, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from thinksmith.errors import UserError

MIB = 1 << 20

Status = Literal["ok", "failed", "timeout", "memory", "output", "killed", "error"]
"""
- `ok`: exit code 0; `failed`: another exit code, or an exception that nobody caught
- `timeout`: ran longer than it may, by the clock or on the processor
- `memory`: ended with a MemoryError
- `output`: wrote more to stdout or stderr than is kept
- `killed`: ended by a signal: a crash, the caller, the kernel, or ours for too much disk or too many threads
- `error`: the sandbox could not start it; the program never ran, and it is never the program's fault
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use. `seconds` count from the moment it starts, not from the start of its interpreter."""

    seconds: float = 10.0
    """Of the clock on the wall."""
    cpu_seconds: float = 10.0
    """Of the processor, all threads together; kept in whole seconds, rounded up."""
    memory: int = 1024 * MIB
    """Bytes of address space of each process."""
    processes: int = 1
    """1: threads, but no child processes. More needs the layer `namespaces`."""
    threads: int = 64
    output: int = MIB
    """Bytes of stdout, and of stderr, that are kept; the first one more ends the program."""
    disk: int = 64 * MIB
    """Bytes in its work folder."""
    files: int = 256
    """Open descriptors of each process."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < 1 << 62:
                raise UserError(f"limit {field.name}={value} must be more than 0 (and less than 2^62)")


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended. `seconds` are its own, on the wall; `reason` is a line for people, empty if `ok`."""

    status: Status
    exit_code: int | None
    """As a shell counts: 128 + N for signal N. None if it never ran."""
    stdout: bytes
    stderr: bytes
    seconds: float
    reason: str
