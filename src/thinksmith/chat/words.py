"""What is typed in a chat, and how turns are written down: commands, several lines, Markdown, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean
from thinksmith.records import Message, Trace

COMMANDS = {
    "help": "what can be typed",
    "model NAME": "go on with another model",
    "think N|on|off": "most tokens of the thinking",
    "temperature T": "0 takes the likeliest token",
    "retry": "the last question again, with the next seed",
    "undo": "take the last question and its answer back",
    "thinking": "show the last thinking",
    "audit": "take the last thinking apart",
    "history": "show the conversation",
    "save FILE": "write it down: .md or .json",
    "clear": "begin a new conversation",
    "quit": "leave; so does Ctrl-D",
}
_SHORT = {"t": "thinking", "q": "quit", "exit": "quit", "?": "help"}
FENCE = '"""'


class Typed(NamedTuple):
    """A command with its argument, or text (`command` is empty)."""

    command: str
    text: str


def read_turns(line: Callable[[str], str]) -> Iterator[Typed]:
    """What is typed, until the end of the input (EOFError). `line` reads one line after a prompt.

    A line that ends in a backslash goes on; between two lines of three quotes all lines are one text.
    """
    while True:
        try:
            text = line("> ")
        except EOFError:
            return
        if text.strip() == FENCE:
            text = _fenced(line)
        else:
            try:
                while text.endswith("\\"):
                    text = text[:-1] + "\n" + line("… ")
            except EOFError:
                text = text.removesuffix("\\")
            if text.startswith("/"):
                command, _, rest = text[1:].partition(" ")
                yield Typed(command or "help", rest.strip())
                continue
        if text.strip():
            yield Typed("", text.strip())


def _fenced(line: Callable[[str], str]) -> str:
    found = []
    try:
        while (text := line("… ")).strip() != FENCE:
            found.append(text)
    except EOFError:
        pass
    return "\n".join(found)


def command_of(typed: str) -> str:
    """The command's full name. Raises UserError for one that there is not."""
    names = [usage.split()[0] for usage in COMMANDS]
    name = _SHORT.get(typed, typed)
    if name not in names:
        raise UserError(f"no command /{typed[:30]}{did_you_mean(typed, names, otherwise='; /help lists them')}")
    return name


def think_setting(text: str) -> int | None:
    """`off` is no thinking, `on` thinking without a bound. Raises UserError."""
    if text in ("on", "off"):
        return None if text == "on" else 0
    if not text.isdecimal():
        raise UserError("write /think 512, /think on or /think off")
    return int(text)


def folded(trace: Trace, seconds: float) -> str:
    """The thinking as one line."""
    cut = ", cut off" if trace.thinking_status == "truncated" else ""
    return f"▸ thought for {seconds:.1f} s, {trace.thinking_tokens:,} tokens{cut}"


def footing(trace: Trace) -> str:
    """What the turn took, as one line."""
    speed = trace.tokens / trace.seconds if trace.seconds else 0.0
    parts = [f"{trace.tokens:,} tokens", f"{trace.seconds:.1f} s", f"{speed:,.0f} tokens/s"]
    if trace.usage and trace.usage.cost:
        parts.append(f"${trace.usage.cost:.4f}")
    return ", ".join(parts)


Said = Sequence[tuple[str, Sequence[Message]]]
"""Of each model its conversation."""


def as_markdown(conversations: Said) -> str:
    """To read; thinking is folded, as forges and notebooks show it."""
    lines = []
    for model, messages in conversations:
        lines += [f"# A conversation with {model}", ""]
        for message in messages:
            lines += [f"**{message['role']}**", ""]
            if thinking := message.get("thinking"):
                lines += ["<details><summary>thinking</summary>", "", thinking, "", "</details>", ""]
            lines += [message["content"], ""]
    return "\n".join(lines)


def as_json(conversations: Said) -> str:
    """An object, or of several models a list of them."""
    found = [{"model": model, "messages": list(messages)} for model, messages in conversations]
    return json.dumps(found[0] if len(found) == 1 else found, ensure_ascii=False, indent=2) + "\n"
