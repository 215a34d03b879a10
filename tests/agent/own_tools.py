"""Tools of a user's, to be named by import path."""

from __future__ import annotations

from thinksmith.agent.tools.signature import tool_of


def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


def untyped(number):  # type: ignore[no-untyped-def]
    return number


clash = tool_of(double, name="files_read", group="mine")
look = tool_of(double, kind="read", name="look")
TOOLS = [double, look]
number = 3
