"""The tool `python`: runs a program in the sandbox, and shows what it prints and the value of its last expression.

Nothing of it touches this machine: no files, no network, no other process (docs/sandbox.md). So it may run again after
an interruption, and every call begins anew. It is opened only where the sandbox keeps programs in, whatever
THINKSMITH_UNSAFE_CODE says: an agent's programs may be written by whoever wrote what it read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thinksmith.agent.contract import Intent, Result, Toolset
from thinksmith.agent.tools.signature import tool_of
from thinksmith.agent.tools.threads import in_thread
from thinksmith.errors import UserError
from thinksmith.sandbox import Limits, Sandbox, open_sandbox
from thinksmith.sandbox import Result as Ended

LIMITS = Limits(seconds=20.0, cpu_seconds=20.0)
_START = 20.0  # seconds more for the sandbox to start on a busy machine

_RUNNER = """
def run():
    import ast, linecache, sys, traceback

    globals().pop("run")  # nothing of ours is in the program's way
    name, source = "<python>", sys.stdin.buffer.read().decode("utf-8", "replace")
    linecache.cache[name] = len(source), None, source.splitlines(True), name
    shown = None
    try:
        tree = ast.parse(source, name)
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            shown = compile(ast.Expression(tree.body.pop().value), name, "eval")
        program = compile(tree, name, "exec")
        exec(program, globals())
        value = eval(shown, globals()) if shown else None
        if value is not None:
            print(repr(value))
    except Exception as error:
        below = error.__traceback__.tb_next if error.__traceback__ else None
        while below is not None and below.tb_frame.f_code.co_filename != name:
            below = below.tb_next
        sys.stdout.flush()
        traceback.print_exception(type(error), error, below)
        sys.exit(1)

run()
"""
"""Runs in the guest, as its `__main__`: what is evaluated there is evaluated in the sandbox."""


async def open_toolset(rest: str) -> Toolset:
    """`rest` is empty. Raises UserError where no sandbox keeps programs from files and network."""
    if rest.strip():
        raise UserError(f"python takes nothing behind the colon, not {rest[:40]!r}")
    sandbox = await in_thread(open_sandbox)
    if not sandbox.isolates:
        raise UserError("nothing here keeps a program from your files and network: leave python out, or see doctor")

    async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        return told(await ended(sandbox, str(arguments["code"])))

    tool = tool_of(python, kind="run", repeatable=True, fence="python", seconds=LIMITS.seconds + _START)
    return Toolset("python", (replace(tool, call=call, intend=_intend),))


def python(code: str) -> None:
    """Run a Python program in a sandbox of its own: the standard library alone, no files of this machine, no network,
    20 seconds at most. What it prints is shown, and the value of a last line that is an expression, as in a notebook.
    Nothing stays for the next call: define and import again what you need.

    code: the whole program
    """


async def _intend(arguments: Mapping[str, Any]) -> Intent:
    code = str(arguments["code"])
    lines = len(code.splitlines())
    return Intent(f"run {lines:,} line{'' if lines == 1 else 's'} of Python in the sandbox", code)


async def ended(sandbox: Sandbox, code: str) -> Ended:
    """How the program ended. Cancelled, it is stopped."""
    guest = await in_thread(lambda: sandbox.start(_RUNNER, stdin=code.encode(errors="replace"), limits=LIMITS))
    try:
        return await in_thread(guest.wait)
    finally:
        guest.kill()  # it has ended, unless we were cancelled


def told(result: Ended) -> Result:
    """What it wrote, and why it ended if not by itself."""
    written = "\n".join(filter(None, (_text(result.stdout), _text(result.stderr))))
    if result.status == "ok":
        return Result(written or "(it ran, and printed nothing)")
    if result.status == "failed":
        return Result(written or f"(it ended with exit code {result.exit_code}, and printed nothing)", ok=False)
    why = "it ran too long and was stopped" if result.status == "timeout" else result.reason
    return Result(f"{written}\n({result.status}: {why})".lstrip(), ok=False)


def _text(data: bytes) -> str:
    return data.decode(errors="replace").rstrip("\n")
