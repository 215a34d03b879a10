"""Curves over training steps as inline SVG, drawn by Vega-Lite in this process: no script, no network.

The SVG stands inside a page that is light or dark as the reader's system is, so it must not carry colours of its own:
it is drawn in stand-in colours, which are then replaced by the page's CSS variables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
from markupsafe import Markup

from thinksmith.pages.page import drawn, fitted

_WIDTH, _HEIGHT = 320, 170  # of the plot, in CSS pixels; the page scales it
# The colours of the lines, in this order, are the page's own; the first two carry most charts.
SERIES = ("two", "three", "good", "bad", "one")
MOST_LINES = len(SERIES)
_FAINT, _LINE = "#010101", "#010102"
_COLOURS = tuple(f"#02020{index}" for index in range(MOST_LINES))
_STAND_IN = {_FAINT: "var(--faint)", _LINE: "var(--line)"} | {
    colour: f"var(--{name})" for colour, name in zip(_COLOURS, SERIES, strict=True)
}

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Curves:
    """What one chart shows: at most five metrics, `key` in a row of metrics.jsonl → its name for people.

    `number` is a d3 format for the axis, such as `.0%`. `band` are the keys of the lower and the upper bound of the
    first metric. `smooth`: a moving mean stands over the raw line; else each value is a point. `stacked`: the shares of
    the metrics in their sum, one above the other. `unless_zero`: not drawn where all values are 0.
    """

    title: str
    lines: Mapping[str, str]
    number: str
    note: str = ""
    band: tuple[str, str] | None = None
    smooth: bool = True
    stacked: bool = False
    unless_zero: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart; `names` are those of its lines, in the order of the page's series colours (`SERIES`)."""

    title: str
    svg: Markup
    names: tuple[str, ...]
    note: str = ""


def draw(rows: Sequence[Row], curves: Curves) -> Chart | None:
    """The chart over the rows' `step`; None when no row has a finite value of any of its metrics."""
    points = [
        {"step": row["step"], "value": row[key], "name": name, **_bounds(row, curves)}
        for key, name in curves.lines.items()
        for row in rows
        if _finite(row, key) and _finite(row, "step")
    ]
    if not points or (curves.unless_zero and not any(point["value"] for point in points)):
        return None
    present = dict.fromkeys(point["name"] for point in points)
    if curves.stacked:
        points = _filled(points, present)
    colours = dict(zip(present, _COLOURS, strict=False))
    points = [point for point in points if point["name"] in colours]
    spec = _spec(points, colours, curves)
    return Chart(curves.title, fitted(drawn(spec, _STAND_IN)), tuple(colours), curves.note)


def _finite(row: Row, key: str) -> bool:
    return isinstance(row.get(key), int | float) and math.isfinite(row[key])


def _bounds(row: Row, curves: Curves) -> dict[str, float]:
    if curves.band is None or not all(_finite(row, key) for key in curves.band):
        return {}
    return {"low": row[curves.band[0]], "high": row[curves.band[1]]}


def _filled(points: list[dict[str, Any]], names: Mapping[str, None]) -> list[dict[str, Any]]:
    """With a 0 where a step has no value of a name: a stack needs one of each."""
    known = {(point["step"], point["name"]): point["value"] for point in points}
    steps = sorted({point["step"] for point in points})
    return [{"step": step, "value": known.get((step, name), 0), "name": name} for name in names for step in steps]


def _spec(points: list[dict[str, Any]], colours: dict[str, str], curves: Curves) -> dict[str, Any]:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    base = alt.Chart(alt.Data(values=points), width=_WIDTH, height=_HEIGHT).encode(
        x=alt.X("step:Q", title=None, axis=alt.Axis(grid=False, tickCount=6, format="d"), scale=alt.Scale(nice=False)),
        color=alt.Color("name:N", scale=scale, legend=None),
    )
    axis = alt.Axis(format=curves.number, tickCount=4)
    steps = len({point["step"] for point in points})
    axes = {"domain": False, "ticks": False, "gridColor": _LINE, "labelColor": _FAINT, "labelFontSize": 12}
    layered = alt.layer(*_marks(base, axis, curves, steps)).configure(background="transparent")
    spec: dict[str, Any] = layered.configure_axis(**axes, labelPadding=8).configure_view(stroke=None).to_dict()
    return spec


def _marks(base: alt.Chart, axis: alt.Axis, curves: Curves, steps: int) -> list[alt.Chart]:
    """The layers of a chart, the lowest first."""
    over = max(1, steps // 16)
    moving = base.transform_window(smoothed="mean(value)", frame=[-over, over], groupby=["name"])
    if curves.stacked:
        # In the order of the legend from the bottom up; Vega would take that of the alphabet.
        place = f"indexof({json.dumps(list(curves.lines.values()))}, datum.name)"
        y = alt.Y("smoothed:Q", title=None, axis=axis, stack="normalize")
        area = moving.mark_area(opacity=0.85, point=steps == 1).encode(y=y, order="place:Q")
        return [area.transform_calculate(place=place)]
    y = alt.Y("value:Q", title=None, axis=axis)
    if curves.smooth:
        raw = base.mark_line(opacity=0.35, strokeWidth=1, point=steps == 1).encode(y=y)
        thick = moving.mark_line(strokeWidth=2.5, strokeCap="round", strokeJoin="round").encode(y="smoothed:Q")
        return [raw, thick]
    line = base.mark_line(strokeWidth=2.5, point={"size": 40}).encode(y=y)
    if curves.band is None:
        return [line]
    # One measurement has no width to fill: a bar shows its interval.
    band = base.mark_rule(opacity=0.4, strokeWidth=4) if steps == 1 else base.mark_area(opacity=0.2)
    bounded = band.transform_filter("isValid(datum.low)").encode(y=alt.Y("low:Q", title=None, axis=axis), y2="high:Q")
    return [bounded, line]
