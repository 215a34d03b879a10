"""What is data in a prompt stays text: a result that says `<|im_end|>` ends no turn, and one that says `</think>` no
thinking.

A tokenizer makes one token of each such word wherever it stands, whoever wrote it. So in what tools gave, in what their
descriptions say and in the arguments of calls, each gets a mark behind its first letter before the template is
applied, and the prompt is encoded in the pieces between the marks: the text is the same, and no token of it is special.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from thinksmith.records import Message, ToolCall

T = TypeVar("T")
_PRIVATE = range(0xE000, 0xF8FF)  # characters that Unicode gives no meaning


def special_words(tokenizer: Any) -> re.Pattern[str] | None:
    """Finds where a text begins that the tokenizer makes one token of, whatever stands around it: one that was added to
    its vocabulary. White space has no say in a prompt, and one letter cannot be taken apart."""
    words = {token.content for token in tokenizer.added_tokens_decoder.values()}
    words = {word for word in words if len(word) > 1 and word.strip()}
    if not words:
        return None
    first = "".join(sorted({re.escape(word[0]) for word in words}))
    # A look ahead, so that words within words are found too. Letters are compared whatever their case: some tokenizers
    # see to that before they look.
    return re.compile(f"(?=[{first}])(?={'|'.join(map(re.escape, sorted(words)))})", re.IGNORECASE)


class Plain:
    """Marks the words that `special` finds where they are data, and encodes what was marked. One for a prompt: `mark`
    is a character that stands nowhere in it."""

    def __init__(
        self, special: re.Pattern[str] | None, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> None:
        self._special = special
        said = repr((messages, tools))  # which writes these characters as they stand, or as an escape
        self.mark = next(chr(code) for code in _PRIVATE if chr(code) not in said and f"\\u{code:04x}" not in said)

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        """What tools gave, and the arguments of calls, marked."""
        return [self._message(message) for message in messages]

    def tools(self, tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Their descriptions, marked: somebody else may have written them."""
        return [cast(Mapping[str, Any], self._marked(dict(tool))) for tool in tools]

    def text(self, rendered: str) -> str:
        """Without the marks."""
        return rendered.replace(self.mark, "")

    def encode(self, rendered: str, encode: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
        """The ids of a text with marks in it."""
        pieces = rendered.split(self.mark)
        return tuple(encode(pieces[0])) + tuple(number for piece in pieces[1:] if piece for number in encode(piece))

    def _message(self, message: Message) -> Message:
        told = Message(**message)
        if message["role"] == "tool":
            told["content"] = self._marked(message["content"])
        if message.get("tool_calls"):
            told["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
        return told

    def _call(self, call: ToolCall) -> ToolCall:
        """All of it but the id, by which results find it."""
        return cast(ToolCall, {key: each if key == "id" else self._marked(each) for key, each in call.items()})

    def _marked(self, value: T) -> T:
        """Texts within a value of JSON, keys too."""
        found: Any = value
        if isinstance(value, str):
            places = [match.start() + 1 for match in self._special.finditer(value)] if self._special else []
            found = self.mark.join(value[i:j] for i, j in itertools.pairwise([0, *places, len(value)]))
        elif isinstance(value, Mapping):
            found = {self._marked(key): self._marked(each) for key, each in value.items()}
        elif isinstance(value, list | tuple):
            found = [self._marked(each) for each in value]
        return cast(T, found)
