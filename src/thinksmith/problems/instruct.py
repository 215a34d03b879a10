"""How a problem asks to be answered, where its own text does not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thinksmith.records import Message, Problem


def instructed(problems: Sequence[Problem], instruction: str) -> list[Problem]:
    """The problems with `instruction` as a last paragraph of what the user asks; the same ones where it is empty.

    Their ids stay: it is the same problem, asked in other words.
    """
    if not instruction:
        return list(problems)
    return [replace(problem, prompt=_with(problem, instruction)) for problem in problems]


def _with(problem: Problem, instruction: str) -> str | tuple[Message, ...]:
    if isinstance(problem.prompt, str):
        return f"{problem.prompt}\n\n{instruction}"
    asked = [place for place, message in enumerate(problem.prompt) if message["role"] == "user"]
    if not asked:
        return (*problem.prompt, Message(role="user", content=instruction))
    told = Message(role="user", content=f"{problem.prompt[asked[-1]]['content']}\n\n{instruction}")
    return (*problem.prompt[: asked[-1]], told, *problem.prompt[asked[-1] + 1 :])
