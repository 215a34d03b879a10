"""What the parent hands over to the launcher in the guest, as plain data that marshal can carry."""

from __future__ import annotations

from typing import TypedDict


class Landlock(TypedDict):
    """`handled` is struct landlock_ruleset_attr; a rule is (path, rights), and a path may be missing."""

    handled: bytes
    rules: list[tuple[str, int]]


class Orders(TypedDict):
    report: int
    parent: int  # its process id, 0 if this process cannot see it
    folder: str
    mount: bytes  # options of the work folder's own file system, or nothing
    identity: int  # the user to become, or 0
    rlimits: list[tuple[int, int, int]]
    landlock: Landlock | None
    filter: bytes
    files: dict[str, bytes]
    source: str
    arguments: list[str]
    path: list[str]
