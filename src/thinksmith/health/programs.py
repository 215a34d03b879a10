"""The programs that the house starts: a C compiler and bubblewrap."""

from __future__ import annotations

import os
import platform
import shlex
import shutil

from thinksmith.health.command import ask
from thinksmith.health.finding import Finding, plain

_SLOWER = "the local engine uses transformers' decoder, which is slower"


def findings() -> list[Finding]:
    """Whether they are there and start; that bubblewrap isolates, the sandbox finds out by trying."""
    return [compiler(os.environ.get("CC", "cc")), *_bubblewrap()]


def compiler(named: str) -> Finding:
    """The C compiler of the engine's fast road; `named` as in the environment variable CC."""
    if os.environ.get("THINKSMITH_NATIVE") == "0":
        return Finding(
            "programs", "C compiler", f"not used (THINKSMITH_NATIVE=0): {_SLOWER}", "note", "unset THINKSMITH_NATIVE"
        )
    try:
        command = shlex.split(named)
    except ValueError:
        command = []
    if not command or shutil.which(command[0]) is None:
        mac = platform.system() == "Darwin"
        remedy = "xcode-select --install" if mac else "apt install gcc (or your system's package), or name one in CC"
        missing = f"CC={plain(named)!r} is not there" if named != "cc" else "none"
        return Finding("programs", "C compiler", f"{missing}: {_SLOWER}", "note", remedy)
    said = ask([*command, "--version"])
    if said.trouble:
        remedy = "install a C compiler that starts, or name one in CC"
        return Finding("programs", "C compiler", f"{plain(named)}: {plain(said.trouble)}: {_SLOWER}", "note", remedy)
    return Finding(
        "programs", "C compiler", f"{plain(named)}: {plain(said.text.splitlines()[0] if said.text else '?')}"
    )


def _bubblewrap() -> list[Finding]:
    if platform.system() != "Linux":
        return []
    if shutil.which("bwrap") is None:
        return [Finding("programs", "bubblewrap", "none", "note", "apt install bubblewrap (or your system's package)")]
    said = ask(["bwrap", "--version"])
    return [Finding("programs", "bubblewrap", plain(said.trouble or said.text))]
