"""Shows a trace while it is sampled: the thinking dimmed, then the answer."""

from __future__ import annotations

from typing import Literal

from thinksmith.cli.screen import clean, console

Part = Literal["thinking", "answer"]


class Transcript:
    """Write the pieces of one trace as they come, then `end`.

    Where nothing can be dimmed (a pipe, NO_COLOR) the thinking stands between `<think>` and `</think>`, so that another
    program, such as `thinksmith audit -`, can tell it from the answer. `thinking=False` shows the answer alone.
    """

    def __init__(self, *, thinking: bool) -> None:
        self._out = console()
        self._wants_thinking = thinking
        self._tagged = self._out.color_system is None
        self._part: Part | None = None

    def write(self, part: Part, text: str) -> None:
        if part == "thinking" and not self._wants_thinking:
            return
        if part != self._part:
            self._turn_to(part)
        self._put(clean(text), "dim" if part == "thinking" else "")
        self._out.file.flush()

    def end(self) -> None:
        """The trace is complete. Thinking that never ended stays without its end tag."""
        if self._part:
            self._put("\n")

    def again(self) -> None:
        """What was written is void: a broken connection made the engine begin anew. It stays to be read, closed off."""
        if self._part == "thinking" and self._tagged:
            self._put("\n</think>")
        self.end()
        self._part = None

    def _turn_to(self, part: Part) -> None:
        """Between thinking and answer stands an empty line, and the tags where there are any."""
        if self._part == "thinking":
            self._put("\n</think>\n\n" if self._tagged else "\n\n")
        elif part == "thinking" and self._tagged:
            self._put("<think>\n")
        self._part = part

    def _put(self, text: str, style: str = "") -> None:
        if self._tagged:
            self._out.file.write(text)  # rich would turn tabs into spaces
        else:
            self._out.print(text, end="", style=style)
