"""Traces side by side on a page: cut into pieces, each with the marks that the audit gives it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from thinksmith.records import Attempt


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a text carry the mark `kind`."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text and its marks, as one string of CSS classes."""

    text: str
    marks: str = ""


@dataclass(frozen=True, slots=True)
class TraceView:
    """A trace to show: its verdict, its figures, and its text in pieces."""

    label: str
    status: str
    reason: str
    thinking: tuple[Piece, ...]
    answer: tuple[Piece, ...]
    tokens: int
    finish: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One problem and the traces to show beside each other: one, or before and after."""

    problem: str
    id: str
    gold: str
    traces: tuple[TraceView, ...]
    anchor: str = ""


def pair_of(before: Attempt, after: Attempt | None = None) -> Pair:
    """One attempt alone, or two attempts at one problem side by side."""
    problem = before.problem
    views = (_view(before, ""),) if after is None else (_view(before, "before"), _view(after, "after"))
    return Pair(problem.text, problem.id, problem.answer or "", views)


def cut(text: str, spans: Iterable[Span]) -> tuple[Piece, ...]:
    """The text in pieces, so that every piece lies wholly inside or outside of every span. Spans may overlap."""
    inside = [span for span in spans if 0 <= span.start < span.end <= len(text)]
    edges = sorted({0, len(text), *(span.start for span in inside), *(span.end for span in inside)})
    return tuple(
        Piece(text[start:end], " ".join(sorted({s.kind for s in inside if s.start <= start and end <= s.end})))
        for start, end in pairwise(edges)
    )


def _view(attempt: Attempt, label: str) -> TraceView:
    trace, verdict = attempt.trace, attempt.verdict
    part, marks = _marks(attempt)
    return TraceView(
        label=label,
        status=verdict.status,
        reason=verdict.reason,
        thinking=cut(trace.thinking, marks if part == "thinking" else ()),
        answer=cut(trace.answer, marks if part == "answer" else ()),
        tokens=trace.tokens,
        finish=trace.finish,
    )


def _marks(attempt: Attempt) -> tuple[str, list[Span]]:
    """Which part of the trace was audited, and where it checks itself, goes back, and first states a false equation."""
    from thinksmith.audit.audit import audit  # heavy, and wanted only here

    found = audit(attempt.trace, attempt.problem)
    marks = [
        Span(segment.start, segment.start + len(segment.text.rstrip()), segment.kind)
        for segment in found.segments
        if segment.kind in ("check", "backtrack")
    ]
    if found.first_false is not None:
        marks.append(Span(found.first_false.start, found.first_false.end, "false"))
    return found.part, marks
