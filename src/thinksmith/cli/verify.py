"""`thinksmith verify ANSWER|FILE`: is it right, and why not?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinksmith.cli.unsafe import UnsafeCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinksmith.problems.recorded import Recorded
    from thinksmith.records import Verdict

_NOT_CORRECT = 1


def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="ANSWER|FILE|-", help="What a model wrote (after -- if it begins with a minus), a file, or -."
        ),
    ],
    gold: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The right answer; without it and --meta, a file is meant.")
    ] = None,
    kind: Annotated[str, typer.Option(help="How answers are compared. [default: math]", show_default=False)] = "",
    meta: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What the kind needs besides, as JSON or text: target=24."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a file's verdicts, as JSON lines.")] = None,
    unsafe_code: UnsafeCode = False,
) -> None:
    """Verify one answer (exit code 1 if it is not correct), or all responses of a file."""
    from thinksmith.errors import UserError

    if gold is None and not meta:
        _verify_file(target, kind, out)
        return
    if out:
        raise UserError("--out is for the verdicts of a file: leave it out, or leave --gold and --meta out")
    verdict = _verify_one(target, gold, kind or "math", dict(map(_entry, meta or ())))
    if not verdict.correct:
        raise typer.Exit(_NOT_CORRECT)


def _entry(written: str) -> tuple[str, Any]:
    import json

    from thinksmith.errors import UserError

    key, equals, value = written.partition("=")
    if not (key.strip() and equals):
        raise UserError(f"--meta {written!r}: write KEY=VALUE, such as target=24")
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return key.strip(), value


def _verify_one(target: str, gold: str | None, kind: str, meta: dict[str, Any]) -> Verdict:
    from thinksmith.cli.screen import console, one_line, status
    from thinksmith.cli.texts import STANDARD_INPUT, read_text
    from thinksmith.records import Problem, Trace
    from thinksmith.thinking import detect_tags, split
    from thinksmith.verify import VERIFIERS, require
    from thinksmith.verify import verify as verdict_on

    require(kind)
    _note_file(target)
    text = read_text(target) if target == STANDARD_INPUT else target
    parts = split(text, detect_tags(text))
    verdict = verdict_on(Problem("answer", "", gold, kind, meta), Trace(parts.thinking, parts.answer, parts.status))
    to = console()
    to.print("status     ", status(verdict.status), sep="")
    if verdict.extracted is not None:
        to.print(f"extracted  {one_line(verdict.extracted)}")
    to.print(f"rule       {kind}: {VERIFIERS[kind].rule}")
    to.print(f"reason     {one_line(verdict.reason)}")
    return verdict


def _note_file(target: str) -> None:
    """Say that a text was taken for an answer where a file has that name."""
    from thinksmith.errors import UserError
    from thinksmith.problems.spec import is_file, parse_spec

    try:
        source = parse_spec(target).source
    except UserError:  # no spec, so no file is meant
        return
    if is_file(source):
        note = f"{source} is a file, but its name was judged as the answer, for --gold or --meta was given"
        typer.echo(f"thinksmith: {note}", err=True)


def _verify_file(spec: str, kind: str, out: Path | None) -> None:
    from thinksmith.cli.progress import progress
    from thinksmith.cli.screen import console, print_table
    from thinksmith.errors import UserError
    from thinksmith.problems.recorded import read_recorded
    from thinksmith.problems.rows import SUFFIXES
    from thinksmith.problems.spec import parse_spec
    from thinksmith.verify import verify_all

    if not spec.strip() or not parse_spec(spec).source.endswith(SUFFIXES):
        raise UserError(f"give the right answer to {spec[:60]!r} with --gold, or name a file ({', '.join(SUFFIXES)})")
    if out:
        _require_writable(out)
    recorded = read_recorded(spec, kind)
    with progress(len(recorded), "verifying") as done:
        verdicts = verify_all(((each.problem, each.trace) for each in recorded), on_verdict=done)
    print_table(console(), ("status", ">responses", ">share", "the first, and why"), _rows(recorded, verdicts))
    console().print(f"accuracy  {_accuracy(recorded, verdicts)}", style="bold")
    if out:
        _write(out, recorded, verdicts)


def _require_writable(path: Path) -> None:
    """See that the verdicts can be written, before hours go into them; nothing is written yet. Raises UserError."""
    import os

    from thinksmith.errors import UserError

    try:
        file = path.expanduser()
        if file.is_dir():
            raise UserError(f"cannot write {path}: it is a folder; name a file in it")
        if not file.parent.is_dir():
            raise UserError(f"cannot write {path}: there is no folder {file.parent}")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise UserError(f"cannot write {path}: permission denied")
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a NUL in it, no home folder
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def _rows(recorded: Sequence[Recorded], verdicts: Sequence[Verdict]) -> list[tuple[Any, ...]]:
    """A row for each status that came, the most frequent first."""
    from collections import Counter

    from thinksmith.cli.screen import one_line, status

    first: dict[str, str] = {}
    for each, verdict in zip(recorded, verdicts, strict=True):
        first.setdefault(verdict.status, f"{each.where}: {verdict.reason}")
    counts = Counter(verdict.status for verdict in verdicts).most_common()
    return [
        (status(name), f"{count:,}", f"{count / len(verdicts):.1%}", one_line(first[name]) if name != "correct" else "")
        for name, count in counts
    ]


def _accuracy(recorded: Sequence[Recorded], verdicts: Sequence[Verdict]) -> str:
    from thinksmith.evaluate.statistics.stats import accuracy
    from thinksmith.evaluate.summary import scores_by_problem
    from thinksmith.records import Attempt

    pairs = zip(recorded, verdicts, strict=True)
    scores = scores_by_problem(Attempt(each.problem, each.trace, verdict) for each, verdict in pairs)
    return str(accuracy(scores)) if scores else "unknown: no response could be verified"


def _write(path: Path, recorded: Sequence[Recorded], verdicts: Sequence[Verdict]) -> None:
    """One JSON object a response, in the order of the file."""
    from dataclasses import asdict
    from json import dumps

    from thinksmith.errors import UserError

    lines = [
        dumps({"where": each.where, "id": each.problem.id, "sample": each.sample, **asdict(verdict)})
        for each, verdict in zip(recorded, verdicts, strict=True)
    ]
    try:
        path.expanduser().write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    typer.echo(f"verdicts  {path}")
