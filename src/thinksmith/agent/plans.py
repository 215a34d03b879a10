"""The plan, as it is read out of what a model wrote: the lines of a list, ticked or not."""

from __future__ import annotations

import re

from thinksmith.agent.contract import Plan, PlanLine

MOST = 12  # lines
_LONGEST = 200  # characters of a line

_LINE = re.compile(
    r"^[ \t]{0,8}(?:[-*•]|\d{1,2}[.)]|(?=\[))[ \t]*(?:\[(?P<tick>[ xX✓✔])\][ \t]*)?(?P<text>\S.*?)[ \t]*$", re.MULTILINE
)


def plan_in(text: str, *, ticked: bool = False) -> Plan:
    """The lines of the longest list in a text, () without one. `ticked`: only lines with a box (`[ ]`, `[x]`) count, as
    where a model writes of other things as well."""
    blocks: list[list[PlanLine]] = [[]]
    for line in text.splitlines():
        found = _LINE.match(line)
        if found and (found["tick"] is not None or not ticked):
            blocks[-1].append(PlanLine(found["text"][:_LONGEST], (found["tick"] or " ") != " "))
        elif line.strip() and not line.startswith((" ", "\t")):  # what is indented goes on with its line
            blocks.append([])
    return tuple(max(blocks, key=len)[:MOST])
