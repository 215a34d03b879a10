"""Engines that play the office's tasks by their scripts: an oracle that solves all of them, a fool that solves none,
and a lazy one that says the right thing and does nothing.

They show what the checks are worth: a task that the oracle fails is broken, and one that the fool or, where files are
asked for, the lazy one solves is no task. They think aloud, call tools as Hermes writes calls, and take what they need
of what the tools gave out of the conversation, as a model must.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thinksmith.agent import texts
from thinksmith.engines.scripted import Scripted
from thinksmith.policy.tools import hermes
from thinksmith.records import Message, Problem, ToolCall

Manner = Literal["oracle", "fool", "lazy"]

_PLACE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class _Part:
    """What is played: the calls in order, and what is said at the end."""

    calls: tuple[Mapping[str, Any], ...]
    said: str


class ScriptedEngine(Scripted):
    """It knows the problems that it was made with, by their texts; asked about another it says that it does not know.
    Nothing is remembered between requests: where it stands is read out of each."""

    def __init__(self, problems: Iterable[Problem], manner: Manner) -> None:
        super().__init__(lambda request: self._turn(request.messages), f"office-{manner}")
        self._parts = {problem.text: _part(problem.meta, manner) for problem in problems}

    def _turn(self, messages: Sequence[Message]) -> str:
        part = next((self._parts[each["content"]] for each in messages if each["content"] in self._parts), None)
        if part is None:
            return "I do not know this task."
        gave = [each["content"] for each in messages if each["role"] == "tool"]
        known = _taken(part.calls, gave)
        if _asked_for(messages, texts.PLAN, texts.REFLECT, texts.SUMMARY):
            return _thought("I go through what is to be done.", _plan(part.calls, len(gave)))
        if len(gave) < len(part.calls) and not _asked_for(messages, texts.ANSWER):
            call = part.calls[len(gave)]
            arguments = {key: _filled(value, known) for key, value in call["arguments"].items()}
            return _thought(call["why"], hermes([ToolCall(name=call["name"], arguments=arguments)], tagless=True))
        return _thought("That is all.", str(_filled(part.said, known)))


def _part(meta: Mapping[str, Any], manner: Manner) -> _Part:
    if manner == "fool":
        return _Part(tuple(meta["foolish"]), meta["nonsense"])
    if manner == "oracle":
        return _Part(tuple(meta["solution"]), meta["said"])
    answer = "".join(f"\n\nAnswer: {value}" for value in (meta["answer"] or {}).values())
    return _Part((), f"It is done.{answer}")


def _taken(calls: Sequence[Mapping[str, Any]], gave: Sequence[str]) -> dict[str, str]:
    """What the calls so far were made for: the first group of each pattern in what was observed."""
    found = {}
    for call, text in zip(calls, gave, strict=False):
        for name, pattern in call["takes"].items():
            if match := re.search(pattern, text):
                found[name] = match[1]
    return found


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    return _PLACE.sub(lambda place: known.get(place[1], "(not found)"), value) if isinstance(value, str) else value


def _plan(calls: Sequence[Mapping[str, Any]], done: int) -> str:
    lines = [*(call["why"] for call in calls), "I say what came of it."]
    return "\n".join(f"{at}. [{'x' if at <= done else ' '}] {text}" for at, text in enumerate(lines[:12], 1))


def _asked_for(messages: Sequence[Message], *prompts: str) -> bool:
    """Is the last message one of these, as far as their first blank?"""
    return messages[-1]["role"] == "user" and any(
        messages[-1]["content"].startswith(prompt.partition("{")[0]) for prompt in prompts
    )


def _thought(thinking: str, answer: str) -> str:
    return f"<think>\n{thinking}\n</think>\n\n{answer}"
