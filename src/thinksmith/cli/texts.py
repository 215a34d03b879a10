"""Text that the user names: a file, or standard input as `-`."""

from __future__ import annotations

import sys
from pathlib import Path

from thinksmith.errors import UserError

STANDARD_INPUT = "-"


def read_text(name: str) -> str:
    """The UTF-8 text of a file or of standard input. UserError if it cannot be read or is not UTF-8."""
    where = "standard input" if name == STANDARD_INPUT else name
    if name == STANDARD_INPUT and sys.stdin is None:  # `<&-`
        raise UserError("standard input is closed: pipe a text into it, or name a file")
    try:
        content = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).expanduser().read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text (byte {error.start}): convert it to UTF-8") from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {where}: {reason}") from error
