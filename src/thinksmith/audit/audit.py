"""One trace under the lamp: its segments, its equations, where the answer came up, and what went wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from thinksmith.audit.answers import disagree, first_appearance
from thinksmith.audit.equations import Equation, find_equations
from thinksmith.audit.loops import Loop, find_loop
from thinksmith.audit.segments import Segment, find_segments
from thinksmith.records import Problem, Trace
from thinksmith.verify.extract import extract


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found in one text. Offsets count characters of the audited text.

    `part`: the thinking was audited, or the answer where a model does not think apart.
    `equations`: every equation that can be checked; `first_false` is the first wrong one, `share_true` the share (0..1)
    of right ones, None without equations.
    `answer`: the final answer; `answer_first_at`: where it first stood as a result (None: it never does);
    `tokens_after_answer`: tokens of this part behind that place, estimated by share of characters, None if unknown.
    `has_check`, `has_backtrack`: some segment does that. `loop`: the longest repetition.
    `disagreement`: the thinking ended in another value than the answer; None if that cannot be told.
    """

    part: Literal["thinking", "answer"]
    characters: int
    segments: tuple[Segment, ...]
    equations: tuple[Equation, ...]
    first_false: Equation | None
    share_true: float | None
    answer: str | None
    answer_first_at: int | None
    tokens_after_answer: int | None
    has_check: bool
    has_backtrack: bool
    loop: Loop | None
    disagreement: bool | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; exact fractions become text such as "1/3"."""
        record = asdict(self)
        for equation in [*record["equations"], record["first_false"]]:
            if equation is not None:
                equation.update(left=str(equation["left"]), right=str(equation["right"]))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}


def audit(trace: Trace | str, problem: Problem | None = None) -> Audit:
    """Audit a trace's thinking, or its answer if there is no thinking; a plain text is audited as thinking.

    `problem` lends its gold answer where the trace names none (a plain text, or thinking that was cut off), so that
    `answer_first_at` then tells where the right answer came up. Linear in the length of the text but for the search for
    loops (n log n). Never raises, whatever the text is.
    """
    if isinstance(trace, str):
        trace = Trace(thinking=trace, answer="")
    part: Literal["thinking", "answer"] = "thinking" if trace.thinking.strip() or not trace.answer.strip() else "answer"
    text, tokens = (
        (trace.thinking, trace.thinking_tokens)
        if part == "thinking"
        else (trace.answer, trace.answer_tokens or trace.tokens)
    )
    segments = find_segments(text)
    equations = find_equations(text)
    named = extract(trace.answer or text)
    if named and not trace.answer and named.rule == "bare":
        named = None  # thinking that is one short line names no answer
    answer = named.text if named else problem.answer if problem else None
    place = first_appearance(text, segments, answer) if answer else None
    kinds = {segment.kind for segment in segments}
    return Audit(
        part=part,
        characters=len(text),
        segments=tuple(segments),
        equations=tuple(equations),
        first_false=next((equation for equation in equations if not equation.true), None),
        share_true=sum(equation.true for equation in equations) / len(equations) if equations else None,
        answer=answer,
        answer_first_at=place[0] if place else None,
        tokens_after_answer=round(tokens * (len(text) - place[1]) / len(text)) if place and tokens else None,
        has_check="check" in kinds,
        has_backtrack="backtrack" in kinds,
        loop=find_loop(text),
        disagreement=disagree(text, segments, named.text) if part == "thinking" and trace.answer and named else None,
    )
