"""What goes to a server and what comes back, whatever the API:

Ask, Call, Said; and the text of one turn as it comes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from thinksmith.engines.remote.names import Endpoint
from thinksmith.engines.remote.wire.events import Framing
from thinksmith.engines.remote.wire.faults import told
from thinksmith.errors import UserError
from thinksmith.policy.tools import hermes, name_of
from thinksmith.records import Finish, Message, Sampling, ThinkingStatus, ToolCall
from thinksmith.thinking import REPLACEMENT, Part, Piece, Splitter, Tags, split

CHARACTERS_A_TOKEN = 3.5
"""Where nobody counts: English prose has about four in the tokenizers of Qwen and Llama, mathematics about three."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One completion to ask for: of a chat's `messages`, or of a `prompt` (text or token ids) as it stands.

    `continued` is the assistant's turn so far, tags included, where it is to be gone on with. `budget` bounds the
    thinking by the server's own means. `think`: None leaves it to the model. `tools`, `tool_choice` and `schema` are
    the request's.
    """

    endpoint: Endpoint
    sampling: Sampling
    max_tokens: int
    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] = ""
    continued: str = ""
    budget: int | None = None
    think: bool | None = None
    streamed: bool = True
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = "auto"
    schema: Mapping[str, Any] | None = None

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The tools that the model is told of; each is a function, as OpenAI writes it."""
        if self.tool_choice == "none":
            return []
        return [{"type": "function", "function": dict(tool["function"])} for tool in self.tools]

    @property
    def chosen(self) -> str:
        """The name of the tool that must be called, if one is named."""
        return next((name_of(tool) for tool in self.tools if name_of(tool) == self.tool_choice), "")

    @property
    def raw(self) -> bool:
        return bool(self.prompt)


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request. `notes`: what was asked for and cannot be told to this server."""

    path: str
    body: dict[str, Any]
    framing: Framing
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What one call brought. `completion` has tags; behind what was there `before`, splitting it gives `thinking`,
    `answer` and `status`.

    Token counts are the server's, or an estimate (`counted`). Where the server tells only their sum, thinking and
    answer share it as their pieces do. `field`: where the thinking came; "tags" in the content. `ended` is False
    where the answer stopped without a reason.
    """

    completion: str
    thinking: str
    answer: str
    status: ThinkingStatus
    finish: Finish
    prompt_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    answer_tokens: int = 0
    counted: Literal["server", "estimate"] = "estimate"
    logprobs: tuple[float, ...] | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    field: str = ""
    error: str = ""
    ended: bool = True
    rest: tuple[Piece, ...] = ()


class Reader(Protocol):
    """Of one answer. Raises Fault for an event in which an error hides."""

    @property
    def turn(self) -> Turn: ...

    def feed(self, event: Mapping[str, Any]) -> list[Piece]: ...

    def finish(self) -> Said: ...


class Turn:
    """The text of one turn, from whatever fields it comes in, as one text with tags.

    Thinking from a field of its own is put between tags, so that one splitter decides about all: a parser that let
    the end tag through, or that found no thinking and left it in the content, makes no difference. Thinking that
    comes after the answer has begun (some models interleave) joins the thinking in the end. `before` is the turn so
    far, where a call goes on with it: what comes then belongs where it stopped, whatever a server's parser takes it
    for.
    """

    def __init__(self, tags: Tags, opened: bool, before: str = "") -> None:
        self._tags, self._opened, self._before = tags, opened, before
        self._splitter = Splitter(tags, opened)
        self._splitter.feed(before)
        self._inside, self._past = opened, False
        if before.strip():
            self._inside = split(before, tags, opened).status == "truncated"
            self._past = not self._inside
        self._text: list[str] = []
        self._late: list[str] = []
        self._half = ""
        self._in_field = self._answered = False
        self.pieces: dict[Part, int] = {"thinking": 0, "answer": 0}
        self._characters: dict[Part, int] = {"thinking": 0, "answer": 0}
        self.field = ""

    @property
    def recast(self) -> bool:
        """Did an end tag show that what was told as answer was thinking?"""
        return self._splitter.recast

    @property
    def so_far(self) -> list[Piece]:
        """Everything that is decided, as it is seen now; what was there before included."""
        parts: tuple[Part, Part] = "thinking", "answer"
        texts = self._splitter.thinking, self._splitter.answer
        return [Piece(part, text) for part, text in zip(parts, texts, strict=True) if text]

    def think(self, text: str, field: str) -> list[Piece]:
        """Text of the thinking, from a field."""
        text = self._characters_of(text)
        if not text:
            return []
        if self._past:
            return self._feed(text)
        self.field = field
        if self._answered:
            self._late.append(text)
            return self._seen([Piece("thinking", text)])
        if not self._in_field:
            self._in_field = True
            if not self._inside:
                text = f"{self._tags.start}\n{text}"
        return self._feed(text)

    def say(self, text: str) -> list[Piece]:
        """Text of the content, in which a thinking may stand between tags."""
        text = self._characters_of(text)
        if not text:
            return []
        if self._in_field:
            if not self._answered and not text.strip():
                return []  # between the thinking and the answer
            if not self._answered:
                text = f"\n{self._tags.end}\n\n{text}"
            self._answered = True
        return self._feed(text)

    def finish(self, more: bool = False) -> tuple[list[Piece], str]:
        """What was held back, and the whole text. `more`: something else follows the thinking, such as a tool call."""
        if self._in_field and not self._answered and more:
            self._feed(f"\n{self._tags.end}")
        begun = self._feed(REPLACEMENT) if self._half else []
        rest = begun + self._seen(self._splitter.finish())
        text = "".join(self._text)
        if self._late:
            parts = split(text, self._tags, self._inside)
            start = "" if self._inside else f"{self._tags.start}\n"
            thinking = "\n\n".join(part for part in (parts.thinking, "".join(self._late).strip()) if part)
            text = f"{start}{thinking}\n{self._tags.end}\n\n{parts.answer}"
        if not self.field and self._tags.end in text:
            self.field = "tags"
        return rest, text

    def _characters_of(self, text: str) -> str:
        """Whole characters: JSON may write one as two halves (\\ud83d\\ude42), which may come in two events."""
        if not self._half and text.isascii():
            return text
        text, self._half = self._half + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _feed(self, text: str) -> list[Piece]:
        self._text.append(text)
        return self._seen(self._splitter.feed(text))

    def _seen(self, pieces: Sequence[Piece]) -> list[Piece]:
        for piece in pieces:
            self.pieces[piece.part] += 1
            self._characters[piece.part] += len(piece.text)
        return list(pieces)

    def said(
        self,
        finish: Finish,
        *,
        total: int | None = None,
        reasoning: int | None = None,
        error: str = "",
        ended: bool = True,
        tool_calls: tuple[dict[str, Any], ...] = (),
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
        logprobs: tuple[float, ...] | None = None,
    ) -> Said:
        """All of it. `total` are the tokens of thinking and answer, `reasoning` those of the thinking, if told. Calls
        of tools that came in a field of their own stand in the text as Hermes writes them: one parser reads all.
        """
        calls = written(tool_calls) if ended else ""
        begun = self.say(("\n" if self._splitter.answer.strip() else "") + calls) if calls else []
        rest, text = self.finish(bool(tool_calls))
        rest = begun + rest
        parts = self._splitter if not self._late else split(self._before + text, self._tags, self._opened)
        if self.recast:  # what was counted as answer
            self._characters |= {"thinking": len(parts.thinking), "answer": len(parts.answer)}
            share = len(parts.thinking) / max(1, len(parts.thinking) + len(parts.answer))
            pieces = sum(self.pieces.values())
            self.pieces |= {"thinking": round(pieces * share), "answer": pieces - round(pieces * share)}
        thinking, answer = self._count("thinking"), self._count("answer")
        if total is not None:
            share = thinking / (thinking + answer) if thinking + answer else 0.0
            thinking = min(reasoning, total) if reasoning else round(total * share)
            answer = total - thinking
        return Said(
            text,
            parts.thinking,
            parts.answer,
            parts.status,
            finish,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            thinking_tokens=thinking,
            answer_tokens=answer,
            counted="estimate" if total is None else "server",
            logprobs=logprobs,
            tool_calls=tool_calls,
            field=self.field,
            error=error,
            ended=ended,
            rest=tuple(rest),
        )

    def _count(self, part: Part) -> int:
        """Servers mostly send a token a piece, or several at once: so at least as many as pieces."""
        characters = self._characters[part]
        return max(self.pieces[part], round(characters / CHARACTERS_A_TOKEN + 0.5)) if characters else 0


def written(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls that a server told, as text; arguments that are no JSON object stay what they are."""
    texts = []
    for call in calls:
        name, arguments = text_of(call.get("name")), call.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError, RecursionError):
                arguments = json.loads(arguments) if arguments.strip() else {}
        if name:
            said = ToolCall(name=name, arguments=arguments or {})  # type: ignore[typeddict-item]  # or what it was
            if identity := text_of(call.get("id")):
                said["id"] = identity
            texts.append(hermes([said], tagless=True))
    return "\n".join(texts)


def response_format(ask: Ask) -> dict[str, Any] | None:
    """OpenAI's field for the answer's schema. Raises UserError where the server takes none."""
    if ask.schema is None:
        return None
    if not ask.schema:
        return {"type": "json_object"}
    if not ask.endpoint.preset.schemas:
        raise UserError(f"{ask.endpoint.kind} takes no JSON schema: ask for any JSON object, or use another server")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(ask.schema), "strict": True}}


FINISHES: dict[str, Finish] = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "content_filter": "error",
    "error": "error",
    "abort": "error",
}
"""By what a server says; all others (stop, eos, end_turn, tool_calls) are an end of the model's own."""


def error_of(reason: str) -> str:
    """What a finish that is an error means."""
    return (
        "the provider's filter withheld the answer"
        if reason == "content_filter"
        else f"the server said {told(reason)!r}"
    )


def whole(value: object) -> int | None:
    """A count, if it is one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def table(value: object) -> Mapping[str, Any]:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """A JSON array, or an empty one."""
    return value if isinstance(value, list) else []


def logprobs_of(values: object) -> list[float]:
    """Of an array of numbers, or of objects that have a `logprob`; what is neither is left out."""
    found = [each.get("logprob") if isinstance(each, dict) else each for each in items(values)]
    return [float(value) for value in found if isinstance(value, (int, float)) and -1e9 < value < 1e9]


def text_of(value: object) -> str:
    """Text, or the texts of a list of parts joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(text_of(part) for part in value)
    if isinstance(value, dict):
        return text_of(value.get("text") or value.get("thinking") or value.get("summary") or "")
    return ""
