"""`thinksmith doctor`: what this machine has, what of it does not work, and the line that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from thinksmith.health.finding import Finding
    from thinksmith.sandbox import Host

_SIGNS = {"ok": "✓", "note": "•", "problem": "✗"}
_STYLES = {"ok": "green", "note": "yellow", "problem": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    endpoints: Annotated[
        bool, typer.Option("--endpoints/--no-endpoints", help="Ask the usual ports of this machine for model servers.")
    ] = True,
) -> None:
    """Show devices, memory, torch, disks, model servers on this machine, and the sandbox; exit with 1 if something does
    not work, or if untrusted code cannot be run."""
    from thinksmith.cli.screen import console, write
    from thinksmith.health.examine import examine
    from thinksmith.health.finding import problems
    from thinksmith.sandbox import host

    found = examine(endpoints)
    if as_json:
        import sys
        from json import dumps

        told = {"well": not problems(found), "areas": _areas(found), "sandbox": _sandbox(host())}
        write(sys.stdout, dumps(told, ensure_ascii=False, indent=2))
    else:
        _show(console(), found)
    if problems(found):
        raise typer.Exit(1)


def _show(out: Console, found: Sequence[Finding]) -> None:
    from rich.text import Text

    from thinksmith.cli.screen import print_table
    from thinksmith.health.finding import problems

    for area in dict.fromkeys(finding.area for finding in found):
        rows = [
            (Text(_SIGNS[finding.status], _STYLES[finding.status]), finding.name, finding.value)
            for finding in found
            if finding.area == area
        ]
        print_table(out, ("", area, ""), rows)
        out.print()
    for status, title in (("problem", "to mend"), ("note", "to improve")):
        for finding in found:
            if finding.status == status and finding.remedy:
                out.print(Text(f"{_SIGNS[status]} {title}: ", _STYLES[status]).append(_remedy(finding), "default"))
    ill = len(problems(found))
    out.print(f"{ill} problem{'' if ill == 1 else 's'}" if ill else "no problems")


def _remedy(finding: Finding) -> str:
    return f"{finding.area}, {finding.name}: {finding.remedy}"


def _areas(found: Sequence[Finding]) -> dict[str, list[dict[str, str]]]:
    """The findings by area, each as its fields."""
    areas: dict[str, list[dict[str, str]]] = {}
    for finding in found:
        areas.setdefault(finding.area, []).append(
            {"name": finding.name, "value": finding.value, "status": finding.status, "remedy": finding.remedy}
        )
    return areas


def _sandbox(found: Host) -> dict[str, Any]:
    from dataclasses import asdict

    return {"isolates": found.isolates, "layers": [asdict(layer) for layer in found.layers], "keeps": found.keepers()}
