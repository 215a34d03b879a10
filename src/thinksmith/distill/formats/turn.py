r"""The assistant's turn as one text: thinking and answer put together, and taken apart again.

What we write is `<think>\n…\n</think>\n\n…`, the form of DeepSeek-R1 and of the sets made with it. Others write the
tags of their models (`thinking.detect_tags` knows them), and OpenThoughts-114k has marks of its own:

    <|begin_of_thought|> … <|end_of_thought|> <|begin_of_solution|> … <|end_of_solution|>
"""

from __future__ import annotations

import re

from thinksmith.thinking import Split, Tags, detect_tags, split

OPEN_THOUGHTS = Tags("<|begin_of_thought|>", "<|end_of_thought|>", answer="<|begin_of_solution|>")
_SOLUTION_ENDS = re.compile(r"\s*<\|end_of_solution\|>\s*\Z")


def join(thinking: str, answer: str) -> str:
    """The turn as text. Without thinking it is the answer alone; thinking without an answer was cut off, and its tag
    stays open."""
    if not thinking:
        return answer
    return f"<think>\n{thinking}" + (f"\n</think>\n\n{answer}" if answer else "")


def take_apart(turn: str) -> Split:
    """Thinking and answer of a turn that somebody wrote, by the tags that it has."""
    if OPEN_THOUGHTS.start in turn or OPEN_THOUGHTS.answer in turn:
        parts = split(turn, OPEN_THOUGHTS)
        return Split(parts.thinking, _SOLUTION_ENDS.sub("", parts.answer), parts.status)
    return split(turn, detect_tags(turn))


def is_exact(thinking: str, answer: str) -> bool:
    """Whether `take_apart` gives back what `join` put together: not where the thinking holds a tag of its own, or
    blank lines that a tag takes with it."""
    parts = take_apart(join(thinking, answer))
    return (parts.thinking, parts.answer) == (thinking, answer)
