"""The card of a set: what it is, where it comes from, what was dropped, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinksmith.distill.curate.funnel import Funnel
from thinksmith.distill.curate.options import Curation


def card(name: str, record: Mapping[str, Any], funnel: Funnel, options: Curation) -> str:
    """Markdown. `record` is what funnel.json holds."""
    sources = "\n".join(f"- {_code(each['name'])} ({each['about']})" for each in record["sources"])
    teachers = ", ".join(f"{_plain(model)} ({count:,})" for model, count in funnel.teachers.items())
    stages = "\n".join(f"| {each.reason} | {each.dropped:,} | {each.left:,} |" for each in funnel.stages)
    tokens = funnel.tokens
    return f"""# {_plain(name)}

{funnel.kept:,} traces of {funnel.kept_problems:,} problems, {tokens["sum"]:,} tokens: {tokens["mean"]:,.0f} on \
average, median {tokens["median"]:,.0f}, 95 % within {tokens["p95"]:,.0f}.

- hash: `{record["hash"]}` (of the samples in their order, whatever file they are in)
- file: `{record["data"]}`, in the form `{record["form"]}`
- teachers: {teachers}
- {verdicts(funnel)}

## From

{sources}

## What was dropped

{funnel.read:,} traces of {funnel.problems:,} problems were read. `dropped.jsonl` has each trace that is not \
here, with its reason.

| reason | dropped | left |
|---|---:|---:|
{stages}

{difficulty(funnel, options)}

{contamination(funnel, options)}

## Options

{options_line(options)}

Made by thinksmith {record["thinksmith"]}: the same traces, options and seed give the same set.
"""


def verdicts(funnel: Funnel) -> str:
    """Who says that the traces are correct."""
    judged = f"{funnel.judged:,} traces were judged here" if funnel.judged else "verdicts are those of the sources"
    return f"{judged}; {funnel.unjudged:,} of those kept have none"


def difficulty(funnel: Funnel, options: Curation) -> str:
    """How many problems lie outside of the band."""
    found = funnel.difficulty
    return (
        f"Of {funnel.problems:,} problems {found.inside:,} are solved at rates from {options.hardest:g} to "
        f"{options.easiest:g}, {found.easier:,} more often, {found.harder:,} less often; of {found.unknown:,} it is "
        f"not known (fewer than {options.min_attempts} attempts)."
    )


def contamination(funnel: Funnel, options: Curation) -> str:
    """What was looked for and found."""
    if not options.against:
        return "It was compared with no evaluation."
    traces = len({(each.where, each.id) for each in funnel.hits})
    problems = len({(each.hit.evaluation, each.hit.id) for each in funnel.hits})
    return (
        f"Compared with {', '.join(map(_code, options.against))}: {problems:,} of their problems stood in {traces:,} "
        "traces (`contamination.jsonl` has each)."
    )


def options_line(options: Curation) -> str:
    """Those that are not at their defaults, then the others."""
    given = options.model_dump()
    changed = {name for name, field in type(options).model_fields.items() if given[name] != field.get_default()}
    ordered = sorted(given, key=lambda name: name not in changed)
    return ", ".join(f"`{name}={_value(given[name])}`" for name in ordered)


def _value(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else "none" if value is None else str(value)


def _code(text: str) -> str:
    return f"`{_plain(text)}`"


def _plain(text: str) -> str:
    """A name on one line that cannot end the mark-up around it."""
    return " ".join(text.replace("`", "'").replace("|", "/").split())
