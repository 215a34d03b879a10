"""How a verdict takes what the sandbox says of a program that ended."""

from __future__ import annotations

from thinksmith.sandbox import Result
from thinksmith.verify.workers import Exceeded, WorkerFailed


def see(result: Result) -> None:
    """Raise WorkerFailed for what says nothing about the answer, Exceeded for an answer that costs too much."""
    if result.status == "error":
        raise WorkerFailed(f"the sandbox failed: {result.reason}")
    if result.status == "timeout":
        raise Exceeded("time")
    if result.status == "memory":
        raise Exceeded("memory")
