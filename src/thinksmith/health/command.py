"""Asks a program of the system, and waits no longer than it may take."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """What a program wrote. `trouble` says why it is of no use: not there, failed, or too slow; else it is empty."""

    text: str = ""
    trouble: str = ""


def ask(command: Sequence[str], seconds: float = 5.0) -> Said:
    """Run a program without input. Never raises for what the program does."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return Said(trouble=f"no answer within {seconds:g} s")
    except FileNotFoundError:
        return Said(trouble="not found")
    except (OSError, ValueError) as error:  # not executable, or a name with a NUL
        return Said(trouble=str(getattr(error, "strerror", None) or error))
    if done.returncode:
        first = (done.stderr or done.stdout).strip().split("\n")[0]
        return Said(done.stdout, f"exit code {done.returncode}" + (f": {first}" if first else ""))
    return Said(done.stdout)
