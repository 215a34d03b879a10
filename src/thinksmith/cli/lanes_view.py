"""Lanes of several models in the terminal: columns that fill while they stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from thinksmith.chat.lanes import Lane

_NARROWEST = 28  # columns of a lane that one can read
_HEIGHT = 12
_EVERY = 0.1


async def watch(lanes: Sequence[Lane], screen: Console) -> None:
    """Run them, and on a terminal that is wide enough show how they fill."""
    from rich.live import Live

    from thinksmith.chat.lanes import run

    if not screen.is_terminal or screen.width < _NARROWEST * len(lanes):
        await run(lanes)
        return
    with Live(_columns(lanes, screen), console=screen, transient=True, auto_refresh=False) as live:
        running = asyncio.ensure_future(run(lanes))
        try:
            while not running.done():
                await asyncio.wait([running], timeout=_EVERY)
                live.update(_columns(lanes, screen), refresh=True)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _columns(lanes: Sequence[Lane], screen: Console) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, show_header=False)
    width = screen.width // len(lanes) - 2
    for _ in lanes:
        table.add_column(width=width, overflow="fold")
    table.add_row(*(_cell(lane, width) for lane in lanes))
    return table


def _cell(lane: Lane, width: int) -> RenderableType:
    from rich.text import Text

    from thinksmith.cli.screen import clean, one_line

    part = lane.answer if lane.phase in ("answers", "done") else lane.thinking
    lines = [line[i : i + width] for line in clean(part).splitlines() for i in range(0, max(len(line), 1), width)]
    head = f"{one_line(lane.name)[:width]}\n{lane.phase}, {lane.pieces:,} pieces, {lane.seconds:.1f} s\n\n"
    found = Text(head, style="bold")
    style = "red" if lane.error else "" if part is lane.answer else "dim"
    found.append("\n".join(lines[-_HEIGHT:]) if not lane.error else one_line(lane.error), style=style)
    return found
