"""Rounding up to what is reserved at a time."""

from __future__ import annotations


def round_up(number: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `number`."""
    return -(-number // multiple) * multiple
