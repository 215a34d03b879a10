"""The program: its commands, and what becomes of an exception.

A command is a file beside this one. Nothing heavy is imported before a command runs, so `thinksmith --help` is instant.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from thinksmith import __version__
from thinksmith.cli import (
    agent,
    ask,
    audit,
    chat,
    collect,
    compare,
    convert,
    curate,
    distill,
    doctor,
    dpo,
    eval,
    export,
    fit,
    grpo,
    lesson,
    mcp,
    models,
    problems,
    quickstart,
    race,
    runs,
    scale,
    serve,
    sft,
    traces,
    verify,
)
from thinksmith.cli.interrupt import Interrupted
from thinksmith.errors import UserError

_USER_MISTAKE = 2
_BROKEN_PIPE = 1
_INTERRUPTED = 130
_LOST_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT)

app = typer.Typer(
    name="thinksmith",
    rich_markup_mode=None,  # plain help: it starts four times faster than with rich
    pretty_exceptions_enable=False,  # a bug keeps Python's own traceback
)

app.command("quickstart")(quickstart.quickstart)
app.command("ask")(ask.ask)
app.command("chat")(chat.chat)
app.command("race")(race.race)
app.command("agent")(agent.agent)
app.command("audit")(audit.audit)
app.command("problems")(problems.problems)
app.command("verify")(verify.verify)
app.command("fit")(fit.fit)
app.command("eval")(eval.evaluate)
app.command("collect")(collect.collect)
app.command("curate")(curate.curate)
app.command("compare")(compare.compare)
app.command("scale")(scale.scale)
app.command("distill")(distill.distill)
app.command("sft")(sft.sft)
app.command("dpo")(dpo.dpo)
app.command("grpo")(grpo.grpo)
app.command("lesson")(lesson.lesson)
app.command("serve")(serve.serve)
app.command("mcp")(mcp.mcp)
app.command("runs")(runs.runs)
app.command("traces")(traces.traces)
app.command("export")(export.export)
app.command("convert")(convert.convert)
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"thinksmith {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def thinksmith(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A workbench for reasoning models on your own machine: run, audit, measure and train them."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: the program's own arguments) and return the exit code.

    0: done; 1: the reader of our output went away, or a check found something; 2: a mistake that the user can mend,
    told in one line; 130: Ctrl-C, with a line that says what was kept. Any other exception is a bug and is raised.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a model may write what the terminal's encoding does not have
    try:
        code = app(args=arguments, prog_name="thinksmith", standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
    except UserError as error:
        return _tell(str(error), _USER_MISTAKE)
    except typer.TyperException as error:
        return _tell(_usage(error), _USER_MISTAKE)
    except Interrupted as stopped:
        return _tell(str(stopped), _INTERRUPTED)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except OSError as error:
        if error.errno not in _LOST_OUTPUT:
            raise
        return _give_up_output(error)
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this code
        return _tell("interrupted; what was stored before is kept", code)
    return code if isinstance(code, int) else 0


def _give_up_output(error: OSError) -> int:
    """Nobody reads our output any more, or the disk that it goes to is full."""
    if sys.stdout:  # what is still buffered would fail again when Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        return _BROKEN_PIPE
    return _tell(f"cannot write: {error.strerror}; free some space or name another place", _USER_MISTAKE)


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the arguments, and where the right ones stand."""
    message = error.format_message().rstrip(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "thinksmith"
    return f"{message[:1].lower()}{message[1:]} (see {command} --help)"


def _tell(message: str, code: int) -> int:
    print(f"thinksmith: {' '.join(message.split())}", file=sys.stderr)
    return code
