"""An instruction is a last paragraph of the question, and the problem is the same one."""

from __future__ import annotations

from thinksmith.problems.instruct import instructed
from thinksmith.records import Message, Problem


def test_the_instruction_ends_what_the_user_asks() -> None:
    chat = (
        Message(role="system", content="S"),
        Message(role="user", content="A"),
        Message(role="assistant", content="B"),
    )
    problems = [
        Problem("a", "1 + 1?", "2"),
        Problem("b", (*chat, Message(role="user", content="C"))),
        Problem("c", chat[:1]),
    ]
    plain, talk, silent = instructed(problems, "Box it.")
    assert (plain.id, plain.answer, plain.prompt) == ("a", "2", "1 + 1?\n\nBox it.")
    assert talk.messages[:3] == chat
    assert talk.messages[3] == Message(role="user", content="C\n\nBox it.")
    assert silent.messages == (chat[0], Message(role="user", content="Box it."))
    assert instructed(problems, "") == problems
