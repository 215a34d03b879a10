"""Tasks for the tests of workers."""

from __future__ import annotations

from thinksmith.verify.judgement import BadGold, Unreadable


def bad_gold() -> None:
    raise BadGold("gold answer is empty")


def unreadable() -> None:
    raise Unreadable("that is one")


def fails() -> None:
    raise ZeroDivisionError("by zero")


def spin(_: object) -> None:
    while True:
        pass
