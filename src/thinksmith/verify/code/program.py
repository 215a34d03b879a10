"""The program out of an answer's text. Here it is only text: nothing is parsed or compiled outside the sandbox.

Rules, in this order; the first that finds something decides:

1. the last fenced block that defines what the tests call; else the last block that is Python or does not say what it
   is; else the last block. A block that is never closed goes on to the end.
2. the whole answer, if it defines what the tests call, or has the indentation of a function's body, or if no function
   is asked for (a program that reads its input): some models answer with nothing but code.
"""

from __future__ import annotations

import re

from thinksmith.verify.extract import Extracted
from thinksmith.verify.fences import fenced

MAX_PROGRAM = 100_000
"""Characters; more is no answer to such a problem."""

_PYTHON = ("", "python", "python3", "py", "py3", "pycon")
_CODE = re.compile(r"^(?:import |from \w|def |class |for |while |if |print\(|\w+ ?(?:, ?\w+)* ?= ?\S)", re.MULTILINE)


def extract_program(text: str, entry: str) -> Extracted | None:
    """The program in `text` (the answer part of a trace), or None. Linear in the length of the text.

    `entry` is what the tests call (`name`, or `Class.name`), "" for a program that reads and writes.
    """
    if len(text) > 4 * MAX_PROGRAM:
        return None
    blocks = fenced(text)
    if blocks:
        best = (
            [code for _, code in blocks if entry and defines(code, entry)]
            or [code for language, code in blocks if language in _PYTHON]
            or [code for _, code in blocks]
        )[-1]
        return Extracted(best, "fenced") if best.strip() and len(best) <= MAX_PROGRAM else None
    stripped = text.strip("\n")
    if not stripped.strip() or len(stripped) > MAX_PROGRAM:
        return None
    whole = defines(stripped, entry) or stripped.startswith((" ", "\t")) if entry else _CODE.search(stripped)
    return Extracted(stripped, "bare") if whole else None


def defines(code: str, entry: str) -> bool:
    """Whether `code` has a line that defines `entry` at its top level."""
    name = re.escape(entry.partition(".")[0])
    return (
        re.search(rf"^(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b|^{name}[ \t]*(?::[^=\n]*)?=", code, re.M) is not None
    )
