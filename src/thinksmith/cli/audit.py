"""`thinksmith audit FILE|ATTEMPT|-`: one trace under the lamp."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from thinksmith.audit import Audit
    from thinksmith.records import Problem, Trace

_STYLES = {
    "restate": "dim",
    "plan": "blue",
    "compute": "",
    "check": "cyan",
    "backtrack": "yellow",
    "conclude": "bold",
}


def audit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|ATTEMPT|-", help="A text file, an attempt's number in the store, or - (standard input)."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Everything that was found, as one JSON object.")] = False,
) -> None:
    """Take a trace apart: segments, equations, loops, answer."""
    from thinksmith.audit import audit as find
    from thinksmith.cli.screen import console, write

    trace, problem = _trace(source)
    found = find(trace, problem)
    if json:
        from json import dumps

        write(sys.stdout, dumps(found.to_dict()))
        return
    show(console(), trace, found)


def show(out: Console, trace: Trace, found: Audit) -> None:
    """The text with its segments and equations marked, and what was found."""
    _print_text(out, trace.thinking if found.part == "thinking" else trace.answer, found)
    _print_findings(out, found)


def _trace(source: str) -> tuple[Trace, Problem | None]:
    """An attempt where the name is a number and no file has that name; else the text, split at its thinking tags."""
    from pathlib import Path

    from thinksmith.cli.texts import read_text
    from thinksmith.errors import UserError
    from thinksmith.records import Trace
    from thinksmith.thinking import detect_tags, split

    if source.isdecimal() and not Path(source).exists():
        from thinksmith.store.store import Store

        with Store.open() as store:
            attempt = store.attempt(source).attempt
        return attempt.trace, attempt.problem
    text = read_text(source)
    if not text.strip():
        raise UserError(f"{source}: there is no text to audit")
    parts = split(text, detect_tags(text))
    if parts.status == "none":
        return Trace(text, ""), None
    return Trace(parts.thinking, parts.answer, parts.status), None


def _print_text(out: Console, text: str, found: Audit) -> None:
    width = max(map(len, _STYLES))
    for segment in found.segments:
        body = _marked(text, segment.start, segment.end, found)
        lines = body.split("\n")
        for index, line in enumerate(lines):
            if line.plain.strip():
                line.stylize_before(_STYLES[segment.kind])
                out.print(f"{segment.kind if not index else '':<{width}}  ", end="", style="dim")
                out.print(line)


def _marked(text: str, start: int, end: int, found: Audit) -> Text:
    """A segment's text with a sign behind every equation and behind the answer's first appearance."""
    from rich.text import Text

    from thinksmith.cli.screen import clean

    marks = []
    for equation in found.equations:
        if start < equation.end <= end:
            if equation == found.first_false:
                marks.append((equation.end, f" ✗ first false: {equation.left} is not {equation.right}", "bold red"))
            else:
                marks.append((equation.end, *((" ✓", "green") if equation.true else (" ✗", "red"))))
    if found.answer_first_at is not None and start <= found.answer_first_at < end:
        marks.append((found.answer_first_at, "▸", "bold green"))
    body = Text()
    for place, sign, style in sorted(marks):
        body.append(clean(text[start:place])).append(sign, style)
        start = place
    return body.append(clean(text[start:end].rstrip()))


def _print_findings(out: Console, found: Audit) -> None:
    from thinksmith.cli.screen import one_line

    out.print()
    for name, value in _findings(found):
        out.print(f"{name:<13} ", end="", style="bold")
        out.print(one_line(value))


def _findings(found: Audit) -> list[tuple[str, str]]:
    true = sum(equation.true for equation in found.equations)
    equations = f"{len(found.equations)}, of which {true} true" if found.equations else "none that can be checked"
    if found.first_false:
        equations += f"; first false: {found.first_false.text}"
    answer = found.answer or "none found"
    if found.answer and found.answer_first_at is None:
        answer += f", which never appears in the {found.part}"
    elif found.answer_first_at is not None:
        answer += f", first at character {found.answer_first_at:,} of {found.characters:,} (▸)"
        if found.tokens_after_answer is not None:
            answer += f", about {found.tokens_after_answer:,} tokens before the end of the {found.part}"
    habits = [name for name, has in (("self-check", found.has_check), ("backtracking", found.has_backtrack)) if has]
    rows = [
        ("equations", equations),
        ("answer", answer),
        ("habits", ", ".join(habits) or "neither check nor backtrack"),
    ]
    loop = found.loop
    where = " until the end" if loop and loop.at_end else ""
    rows.append(("loop", f"{loop.unit[:60]!r} {loop.repeats} times on end{where}" if loop else "none"))
    if found.disagreement is not None:
        told = "the thinking ends in another value than the answer" if found.disagreement else "none"
        rows.append(("disagreement", told))
    return rows
