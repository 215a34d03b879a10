"""The funnel as one self-contained page, its bars drawn by Vega-Lite in this process: no script, no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinksmith.distill.curate.card import contamination, difficulty, options_line, verdicts
from thinksmith.distill.curate.funnel import Funnel
from thinksmith.distill.curate.options import Curation
from thinksmith.pages.page import drawn, fitted, templates

_WIDTH, _STEP = 620, 30  # CSS pixels of the plot, and of a bar
# Drawn in stand-in colours, which the page's variables replace: it is light or dark as its reader's system is.
_COLOURS = {"#010101": "var(--faint)", "#010102": "var(--line)", "#010103": "var(--kept)", "#010104": "var(--dropped)"}
_FAINT, _LINE, _KEPT, _DROPPED = _COLOURS
_SHOWN = 200  # overlaps that the page lists


def page(name: str, record: Mapping[str, Any], funnel: Funnel, options: Curation) -> str:
    """HTML in UTF-8. Names and words of traces are text to the template, which escapes them."""
    return (
        templates("thinksmith.distill.curate")
        .get_template("set.html")
        .render(
            name=name,
            record=record,
            funnel=funnel,
            chart=chart(funnel),
            rates=rates(funnel) if sum(funnel.difficulty.bins) else None,
            verdicts=verdicts(funnel),
            difficulty=difficulty(funnel, options),
            contamination=contamination(funnel, options).replace("`", ""),
            options=options_line(options).replace("`", ""),
            hits=funnel.hits[:_SHOWN],
            more=max(0, len(funnel.hits) - _SHOWN),
        )
    )


def chart(funnel: Funnel) -> Any:
    """The stages that dropped something, each with what it dropped and what it left, as SVG marked as safe HTML."""
    import altair as alt

    points = [{"stage": "read", "part": "left", "traces": funnel.read}]
    for stage in funnel.shown:
        points += [
            {"stage": stage.reason, "part": "left", "traces": stage.left},
            {"stage": stage.reason, "part": "dropped", "traces": stage.dropped},
        ]
    names = ["read", *(stage.reason for stage in funnel.shown)]
    bars = (
        alt.Chart(alt.Data(values=points), width=_WIDTH, height=alt.Step(_STEP))
        .mark_bar(height=_STEP * 0.6)
        .encode(
            x=alt.X("traces:Q", title=None, stack="zero", axis=alt.Axis(tickCount=6, format="~s")),
            y=alt.Y("stage:N", title=None, sort=names, axis=alt.Axis(grid=False, labelLimit=200)),
            color=alt.Color(
                "part:N", scale=alt.Scale(domain=["left", "dropped"], range=[_KEPT, _DROPPED]), legend=None
            ),
            order=alt.Order("part:N", sort="descending"),
        )
    )
    return _drawn(bars)


def rates(funnel: Funnel) -> Any:
    """How many problems are solved how often, by tenths, as SVG marked as safe HTML."""
    import altair as alt

    points = [
        {"rate": f"{10 * at}–{10 * at + 10} %", "problems": count} for at, count in enumerate(funnel.difficulty.bins)
    ]
    bars = (
        alt.Chart(alt.Data(values=points), width=_WIDTH, height=140)
        .mark_bar(color=_KEPT)
        .encode(
            x=alt.X("rate:N", title=None, sort=None, axis=alt.Axis(grid=False, labelAngle=0)),
            y=alt.Y("problems:Q", title=None, axis=alt.Axis(tickCount=4, format="~s")),
        )
    )
    return _drawn(bars)


def _drawn(made: Any) -> Any:
    axes = {"domain": False, "ticks": False, "gridColor": _LINE, "labelColor": _FAINT, "labelFontSize": 12}
    made = made.configure(background="transparent").configure_axis(**axes, labelPadding=8).configure_view(stroke=None)
    return fitted(drawn(made.to_dict(), _COLOURS))
