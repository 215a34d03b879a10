"""A sheet as one self-contained page, with its bars drawn by Vega-Lite in this process: no script, no network."""

from __future__ import annotations

from typing import Any

from thinksmith.fit.answers.sheet import Sheet
from thinksmith.pages.page import drawn, fitted, templates

WIDTH, STEP = 620, 30  # CSS pixels of the plot, and of a bar
# Drawn in stand-in colours, which the page's variables replace: it is light or dark as its reader's system is.
COLOURS = {"#010101": "var(--faint)", "#010102": "var(--line)", "#010103": "var(--two)", "#010104": "var(--three)",
           "#010105": "var(--one)", "#010106": "var(--bad)"}  # fmt: skip
FAINT, LINE, *SERIES, LIMIT = COLOURS


def render(sheet: Sheet) -> str:
    """The page, HTML in UTF-8."""
    names = [name for name, _ in sheet.bars[0].parts] if sheet.bars else []
    legend = list(zip(names, ("two", "three", "one"), strict=False))
    return (
        templates("thinksmith.fit.answers")
        .get_template("fit.html")
        .render(sheet=sheet, chart=chart(sheet), legend=legend)
    )


def chart(sheet: Sheet) -> Any:
    """The bars as SVG, marked as safe HTML; None where there are none."""
    if not sheet.bars:
        return None
    import altair as alt

    points = [
        {"bar": bar.name, "part": name, "gb": amount / 1e9, "order": order}
        for bar in sheet.bars
        for order, (name, amount) in enumerate(bar.parts)
    ]
    parts = [name for name, _ in sheet.bars[0].parts]
    bars = (
        alt.Chart(alt.Data(values=points), width=WIDTH, height=alt.Step(STEP))
        .mark_bar(height=STEP * 0.6)
        .encode(
            x=alt.X("gb:Q", title=None, stack="zero", axis=alt.Axis(tickCount=6, labelExpr="datum.label + ' GB'")),
            y=alt.Y(
                "bar:N", title=None, sort=[bar.name for bar in sheet.bars], axis=alt.Axis(grid=False, labelLimit=240)
            ),
            color=alt.Color("part:N", scale=alt.Scale(domain=parts, range=SERIES[: len(parts)]), legend=None),
            order="order:Q",
        )
    )
    limit = (
        alt.Chart(alt.Data(values=[{"gb": sheet.limit / 1e9}]))
        .mark_rule(color=LIMIT, strokeWidth=2, strokeDash=[5, 4])
        .encode(x="gb:Q")
    )
    axes = {"domain": False, "ticks": False, "gridColor": LINE, "labelColor": FAINT, "labelFontSize": 12}
    layered = alt.layer(bars, limit).properties(padding={"left": 24, "right": 12, "top": 6, "bottom": 6})
    layered = layered.configure(background="transparent").configure_axis(**axes, labelPadding=8)
    return fitted(drawn(layered.configure_view(stroke=None).to_dict(), COLOURS))
