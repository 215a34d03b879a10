"""Ctrl-C, as a command tells it."""

from __future__ import annotations


class Interrupted(Exception):
    """A command was stopped with Ctrl-C; the message is one line that says what was kept."""
