"""What a student learns from: one trace as text, free of the model that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thinksmith.distill.trajectories import ids_of
from thinksmith.records import Attempt, Message


@dataclass(frozen=True, slots=True)
class Sample:
    """A trace to learn from, as text: what was asked, the thinking, the answer.

    `id` is the problem's, so several samples share it. `messages` are the prompt, without the assistant's turn.
    `thinking` and `answer` are without the tags. `gold` is the right answer, None if none is known; `kind` names its
    verifier, "" for none known. `status` is the verdict's, "" if it was never judged. `tokens` were sampled, 0 if
    unknown; `finish` as in `Trace`. `model` is the teacher. `meta` is the problem's, and whatever columns a file had
    that are none of the above (JSON); of an agent's attempt also the ids of its trajectory (`trajectories.py`).
    """

    id: str
    messages: tuple[Message, ...]
    thinking: str
    answer: str
    gold: str | None = None
    kind: str = "math"
    status: str = ""
    tokens: int = 0
    finish: str = "stop"
    model: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, attempt: Attempt) -> Sample:
        """The sample of a stored attempt. What the model was judged to be is kept: nothing is verified again."""
        problem, trace = attempt.problem, attempt.trace
        return cls(
            id=problem.id,
            messages=problem.messages,
            thinking=trace.thinking,
            answer=trace.answer,
            gold=problem.answer,
            kind=problem.kind,
            status=attempt.verdict.status,
            tokens=trace.tokens,
            finish=trace.finish,
            model=trace.model,
            meta={**problem.meta, **ids_of(attempt)},
        )

    @property
    def question(self) -> str:
        """What was asked, as one text: the prompt's messages, a blank line between them."""
        return "\n\n".join(message["content"] for message in self.messages)
