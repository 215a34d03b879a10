"""Curves as text, for a terminal: lines of braille dots with a marker at every point, or plain ASCII.

A cell of braille is two dots wide and four high, so a chart of 60 × 16 cells has 120 × 64 dots. Where several curves
pass through one cell the first of them has it; a marker covers what is below it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

STYLES = ("blue", "dark_orange", "green", "red", "magenta", "cyan", "yellow", "bright_black")
MARKS = "●■▲◆○□△◇"
PLAIN_MARKS = "ox+*#@%&"
_BRAILLE = 0x2800
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column of a cell
_DOTS_ACROSS, _DOTS_UP = 2, 4


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its name and its points (x, y), in any order. Not `joined`, it has no line through them."""

    name: str
    points: tuple[tuple[float, float], ...]
    joined: bool = True


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places 0..`dots` - 1."""

    low: float
    high: float
    dots: int
    log: bool

    def place(self, value: float) -> int:
        one, low, high = (math.log(each) if self.log else each for each in (value, self.low, self.high))
        return round((one - low) / (high - low) * (self.dots - 1))


def chart(
    lines: Sequence[Line],
    *,
    width: int = 76,
    height: int = 18,
    x_name: str = "",
    log_x: bool = True,
    percent: bool = True,
    unicode: bool = True,
) -> list[Text]:
    """The chart as lines of styled text, none wider than `width` cells, `height` rows high with its axes, and a legend.

    Points that are not finite, and with `log_x` those whose x is not above 0, are left out; ValueError when none stays,
    or where there is no room (30 × 6). `percent`: y is a share and shown in %.
    """
    if width < 30 or height < 6:
        raise ValueError(f"a chart needs 30 x 6 cells, not {width} x {height}")
    lines = [Line(line.name, _usable(line, log_x), line.joined) for line in lines]
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        raise ValueError("there is no point to draw")
    y_ticks = _ticks(*_wide(min(ys), max(ys), 0.02), 5)
    labels = [_share(value, y_ticks) if percent else _short(value) for value in y_ticks]
    margin = max(map(len, labels)) + 2
    across, up = width - margin - 1, height - 2
    cell = (_DOTS_ACROSS, _DOTS_UP) if unicode else (1, 1)
    x_low, x_high = _span(min(xs), max(xs), log_x)
    y_low, y_high = _wide(min([*ys, y_ticks[0]]), max([*ys, y_ticks[-1]]), 0.02)
    x_scale = _Scale(x_low, x_high, across * cell[0], log_x)
    y_scale = _Scale(y_low, y_high, up * cell[1], False)
    canvas = _Canvas(across, up, unicode)
    for at, line in reversed(list(enumerate(lines))):
        canvas.draw(line, x_scale, y_scale, at)
    rows = {up - 1 - y_scale.place(value) // cell[1]: label for value, label in zip(y_ticks, labels, strict=True)}
    edge, tick, corner, bar = ("│", "┤", "└", "─") if unicode else ("|", "+", "+", "-")
    out = []
    for row in range(up):
        head = Text(f"{rows.get(row, ''):>{margin - 2}} {tick if row in rows else edge}", "bright_black")
        out.append(head.append_text(canvas.row(row)))
    out.append(Text(" " * (margin - 1) + corner + bar * across, "bright_black"))
    x_row = _x_labels(x_scale, cell[0], across, log_x)
    out.append(Text(" " * margin + x_row, "bright_black"))
    return [*out, *_legend(lines, width, x_name, unicode)]


class _Canvas:
    """Cells of dots and markers, with the number of the curve that has each."""

    def __init__(self, across: int, up: int, unicode: bool) -> None:
        self._across, self._up, self._unicode = across, up, unicode
        self._bits = [[0] * across for _ in range(up)]
        self._owner = [[-1] * across for _ in range(up)]
        self._marks: list[list[str]] = [[""] * across for _ in range(up)]

    def draw(self, line: Line, x: _Scale, y: _Scale, at: int) -> None:
        """The line through its points, then a marker at each."""
        places = [(x.place(left), y.place(top)) for left, top in sorted(line.points)]
        if line.joined:
            for one, other in pairwise(places):
                self._join(one, other, at)
        marks = MARKS if self._unicode else PLAIN_MARKS
        for across, up in places:
            column, row = self._cell(across, up)
            self._marks[row][column] = marks[at % len(marks)]
            self._owner[row][column] = at

    def row(self, number: int) -> Text:
        text = Text()
        cells = zip(self._bits[number], self._owner[number], self._marks[number], strict=True)
        for bits, owner, mark in cells:
            dots = (chr(_BRAILLE + bits) if self._unicode else ".") if bits else " "
            text.append(mark or dots, STYLES[owner % len(STYLES)] if owner >= 0 else "")
        text.rstrip()
        return text

    def _cell(self, across: int, up: int) -> tuple[int, int]:
        if not self._unicode:
            return across, self._up - 1 - up
        return across // _DOTS_ACROSS, self._up - 1 - up // _DOTS_UP

    def _join(self, one: tuple[int, int], other: tuple[int, int], at: int) -> None:
        """All dots between two places: as many as the longer side has."""
        steps = max(abs(other[0] - one[0]), abs(other[1] - one[1]), 1)
        for step in range(steps + 1):
            across, up = (round(a + (b - a) * step / steps) for a, b in zip(one, other, strict=True))
            column, row = self._cell(across, up)
            if self._unicode:
                self._bits[row][column] |= _BITS[_DOTS_UP - 1 - up % _DOTS_UP][across % _DOTS_ACROSS]
            else:
                self._bits[row][column] = 1
            if not self._marks[row][column]:
                self._owner[row][column] = at


def _usable(line: Line, log_x: bool) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x))


def _wide(low: float, high: float, share: float) -> tuple[float, float]:
    """The interval with some room, also where it has no width."""
    size = max(abs(low), abs(high))
    wide = high - low > max(1e-9 * size, 1e-12)  # else the numbers are one, but for rounding
    room = (high - low) * share if wide else max(size * 0.05, 1e-6) if size > 1e-9 else 0.05
    return low - room, high + room


def _span(low: float, high: float, log: bool) -> tuple[float, float]:
    if not log:
        return _wide(low, high, 0.02)
    room = (high / low) ** 0.02 if high > low else 2.0
    return low / room, high * room


def _ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers between two, at least one."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for times in (1, 2, 5, 10, 20, 50):
        first, last = math.ceil(low / (step * times) - 1e-9), math.floor(high / (step * times) + 1e-9)
        if last - first + 1 <= most:
            return [number * step * times for number in range(first, last + 1)] or [(low + high) / 2]
    return [(low + high) / 2]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two; where that is hardly any all digits, or the ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), range(1, 10)):
        found = [times * 10.0**power for power in powers for times in digits]
        inside = [value for value in found if low <= value <= high]
        if len(inside) > 1:
            return inside
    return [low, high]


def _x_labels(scale: _Scale, cell: int, across: int, log: bool) -> str:
    """Numbers under the axis, as many as fit without touching."""
    row = [" "] * across
    free = 0
    for value in _log_ticks(scale.low, scale.high) if log else _ticks(scale.low, scale.high, 7):
        label = _short(value)
        start = min(max(0, scale.place(value) // cell - len(label) // 2), across - len(label))
        if start >= free and start >= 0:
            row[start : start + len(label)] = label
            free = start + len(label) + 1
    return "".join(row).rstrip()


def _legend(lines: Sequence[Line], width: int, x_name: str, unicode: bool) -> list[Text]:
    """The axis' name, then the marks with their names, as many in a row as fit."""
    rows = [Text(x_name[:width], "bright_black")] if x_name else []
    row = Text()
    marks = MARKS if unicode else PLAIN_MARKS
    for at, line in enumerate(lines):
        name = line.name if len(line.name) <= width - 2 else line.name[: width - 3] + ("…" if unicode else "~")
        entry = Text(f"{marks[at % len(marks)]} ", STYLES[at % len(STYLES)]).append(name, "default")
        if row and len(row) + 3 + len(entry) > width:
            rows.append(row)
            row = Text()
        row = row.append("   ").append_text(entry) if row else entry
    return [*rows, row] if row else rows


def _share(value: float, ticks: Sequence[float]) -> str:
    """A share in %, with as many digits as the ticks need."""
    step = min((b - a for a, b in pairwise(ticks)), default=0.1)
    return f"{100 * value:.{max(0, -math.floor(math.log10(step * 100) + 1e-9))}f}%"


def _short(value: float) -> str:
    """A number of few signs: 0.5, 12, 3.4k, 2M, 1e+12."""
    for size, sign in ((1e12, ""), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{sign}" if sign else f"{value:.1e}".replace("e+", "e")
    return f"{value:.3g}"
