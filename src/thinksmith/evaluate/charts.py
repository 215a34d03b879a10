"""Curves over training steps as inline SVG, drawn by Vega-Lite in this process: no script, no network.

The SVG stands inside a page that is light or dark as the reader's system is, so it must not carry colours of its own:
it is drawn in stand-in colours, which are then replaced by the page's CSS variables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

_WIDTH, _HEIGHT = 320, 170  # of the plot, in CSS pixels; the page scales it
_STAND_IN = {"#010101": "var(--faint)", "#010102": "var(--line)", "#010103": "var(--two)", "#010104": "var(--three)"}
_FAINT, _LINE, *_SERIES = _STAND_IN

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Curves:
    """What one chart shows: at most two metrics, `key` in a row of metrics.jsonl → its name for people.

    `number` is a d3 format for the axis, such as `.0%`.
    """

    title: str
    lines: Mapping[str, str]
    number: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart; `names` are those of its lines, in the order of the page's series colours."""

    title: str
    svg: Markup
    names: tuple[str, ...]
    note: str = ""


def draw(rows: Sequence[Row], curves: Curves) -> Chart | None:
    """The chart over the rows' `step`, raw and smoothed; None when no row has a finite value of any of its metrics."""
    points = [
        {"step": row["step"], "value": row[key], "name": name}
        for key, name in curves.lines.items()
        for row in rows
        if isinstance(row.get(key), int | float) and math.isfinite(row[key])
    ]
    if not points:
        return None
    present = {point["name"] for point in points}
    colours = {name: colour for name, colour in zip(curves.lines.values(), _SERIES, strict=False) if name in present}
    spec = _spec(points, colours, curves.number, steps=len({point["step"] for point in points}))
    return Chart(curves.title, _themed(vl_convert.vegalite_to_svg(spec)), tuple(colours), curves.note)


def _spec(points: list[dict[str, Any]], colours: dict[str, str], number: str, steps: int) -> dict[str, Any]:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    chart = alt.Chart(alt.Data(values=points), width=_WIDTH, height=_HEIGHT).encode(
        x=alt.X("step:Q", title=None, axis=alt.Axis(grid=False, tickCount=6, format="d"), scale=alt.Scale(nice=False)),
        color=alt.Color("name:N", scale=scale, legend=None),
    )
    axis = alt.Axis(format=number, tickCount=4)
    smooth_over = max(1, steps // 16)
    raw = chart.mark_line(opacity=0.35, strokeWidth=1, point=steps == 1).encode(
        y=alt.Y("value:Q", title=None, axis=axis)
    )
    smooth = (
        chart.transform_window(smoothed="mean(value)", frame=[-smooth_over, smooth_over], groupby=["name"])
        .mark_line(strokeWidth=2.5, strokeCap="round", strokeJoin="round")
        .encode(y="smoothed:Q")
    )
    axes = {"domain": False, "ticks": False, "gridColor": _LINE, "labelColor": _FAINT, "labelFontSize": 12}
    layered = alt.layer(raw, smooth).configure(background="transparent").configure_axis(**axes, labelPadding=8)
    spec: dict[str, Any] = layered.configure_view(stroke=None).to_dict()
    return spec


def _themed(svg: str) -> Markup:
    for colour, variable in _STAND_IN.items():
        svg = svg.replace(colour, variable)
    # The size is the page's to choose (the viewBox keeps the shape), and so is the font.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    return Markup(re.sub(r' font-family="[^"]*"', "", svg))
