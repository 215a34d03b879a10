"""What was found out about the machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "problem"]

_SHOWN = 200  # characters of a text that another program wrote


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `area` and `name` say what, `value` how it is, in words.

    `status`: `problem` for what does not work or soon will not, `note` for what works and could be better.
    `remedy`: what to do about it, one line; empty where nothing is to be done.
    """

    area: str
    name: str
    value: str
    status: Status = "ok"
    remedy: str = ""


def problems(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that must be mended."""
    return tuple(finding for finding in findings if finding.status == "problem")


def plain(text: str, most: int = _SHOWN) -> str:
    """A text that another program wrote as one short line that a terminal and every encoding can take."""
    cut = text[:most].strip()  # first, as it may be endless
    shown = "".join(sign if sign.isprintable() else " " for sign in cut)
    return " ".join(shown.split()) + ("…" if len(text) > most else "")


def size(count: float) -> str:
    """Bytes for people, in powers of 1000 as disks are sold: "12.3 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def memory_size(count: float) -> str:
    """Bytes for people, in powers of 1024 as memory is: "119.7 GiB"."""
    return f"{count / 2**30:.1f} GiB"
