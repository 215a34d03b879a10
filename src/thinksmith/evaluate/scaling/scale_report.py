"""What `thinksmith scale` found, as a page, as Markdown, as JSON, and its chart as SVG.

The page is one file and asks for nothing from elsewhere. Its only script sorts the table; the page's policy names that
script by its hash, so none else can run.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup

from thinksmith import __version__
from thinksmith.errors import UserError
from thinksmith.evaluate.scaling.curve import AXES, Between, EqualSpend, Point, Reach
from thinksmith.evaluate.scaling.scale import Scale
from thinksmith.pages.page import drawn, fitted, templates

MOST_SERIES = 8
"""Series with a colour of their own; any others are drawn faint, and are in the table."""
_WIDTH, _HEIGHT = 760, 400  # of the plot, in CSS pixels; the page scales it
_LIGHT = ("#2b5fd9", "#d9822b", "#177a4c", "#b3372f", "#7a4fc4", "#12808f", "#8a6d0a", "#6b7280")
_DARK = ("#7ea6ff", "#f0a350", "#5fce97", "#ff8a80", "#bb9cf5", "#5cc8d7", "#dcc05a", "#9aa3b2")
# The chart is drawn in these colours, which then become variables of the page: it is light or dark as the reader's is.
_STAND_IN = {"#010101": "--faint", "#010102": "--line"} | {f"#02020{at}": f"--s{at}" for at in range(MOST_SERIES)}


@dataclass(frozen=True, slots=True)
class Row:
    """A point as the tables show it: `cells` (text, value to sort by); `front`: no other beats it."""

    cells: tuple[tuple[str, float | str], ...]
    run: str
    front: bool


def shown_series(scale: Scale) -> list[str]:
    """The series that get a colour, at most eight: those with most points on the front first, then the most accurate,
    limits last."""
    series = scale.curves.series

    def rank(name: str) -> tuple[int, bool, float]:
        members = series[name]
        on_front = len(set(members) & set(scale.front))
        return (
            -on_front,
            scale.curves.points[members[0]].oracle,
            -max(scale.curves.accuracies[at].mean for at in members),
        )

    best = sorted(series, key=rank)[:MOST_SERIES]
    return [name for name in series if name in best]


def shown_points(scale: Scale) -> list[int]:
    """The points without those that say the same as another: a vote of one is a single sample."""
    single = {(point.run, point.budget) for point in scale.curves.points if point.strategy == "single"}
    return [
        at
        for at, point in enumerate(scale.curves.points)
        if point.strategy == "single" or point.own or point.size > 1 or (point.run, point.budget) not in single
    ]


def write_report(path: Path, scale: Scale) -> None:
    """Write the page (.html), .md, .json or the chart alone (.svg), all or nothing. UserError for another ending, or
    where it cannot be written."""
    import os

    text = renderer(path)(scale)
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(text.encode("utf-8", errors="replace"))
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def renderer(path: Path) -> Callable[[Scale], str]:
    """What writes a report of this file's kind. UserError for a folder, or an ending that is not known."""
    if path.is_dir():
        raise UserError(f"the report {path} is a folder: name a file in it, such as {path / 'scale.html'}")
    by_ending = {".html": to_html, ".md": to_markdown, ".json": to_json, ".svg": to_svg}
    if path.suffix.casefold() not in by_ending:
        raise UserError(f"the report {path} must end in {', '.join(by_ending)}")
    return by_ending[path.suffix.casefold()]


# Text


def to_markdown(scale: Scale) -> str:
    lines = [f"# {scale.title}", "", f"Accuracy against {AXES[scale.axis]}, with 95 % intervals over problems.", ""]
    lines += [f"- {sentence}" for sentence in reach_lines(scale)]
    lines += ["", *_table(headings(scale), [[cell for cell, _ in row.cells] for row in rows(scale)]), ""]
    if scale.equal:
        columns, cells = equal_table(scale)
        lines += ["## With at most as many tokens" if scale.axis == "tokens" else "## With at most as much", ""]
        lines += [*_table(columns, cells), ""]
    lines += ["## Notes", "", *(f"- {note}" for note in scale.notes), ""]
    return "\n".join(lines)


def to_json(scale: Scale) -> str:
    """Everything but the expectations of single problems."""
    front = set(scale.front)
    told = {
        "title": scale.title,
        "axis": scale.axis,
        "problems": scale.curves.problems,
        "points": [
            {
                "series": point.series,
                "model": point.model,
                "budget": point.budget,
                "strategy": point.strategy,
                "size": point.size,
                "accuracy": _between(value),
                "tokens": _finite(point.x("tokens")),
                "flops": _finite(point.x("flops")),
                "seconds": _finite(point.x("seconds")),
                "traces": _finite(point.traces),
                "front": at in front,
                "exact": point.exact,
                "oracle": point.oracle,
                "from_pool": not point.own,
                "run": point.run,
            }
            for at, (point, value) in enumerate(zip(scale.curves.points, scale.curves.accuracies, strict=True))
        ],
        "reach": [_reach(each) for each in scale.reach],
        "equal_spend": [_equal(each) for each in scale.equal],
        "notes": list(scale.notes),
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def headings(scale: Scale) -> list[str]:
    points = scale.curves.points
    known = [axis for axis in AXES if any(math.isfinite(point.x(axis)) for point in points)]
    return ["", "strategy", "model", "budget", "accuracy", "95 % interval", "traces", *known]


def rows(scale: Scale) -> list[Row]:
    """The points, the cheapest first. The columns are those of `headings`."""
    curves, axes = scale.curves, headings(scale)[7:]
    found = []
    for at in sorted(shown_points(scale), key=lambda at: (curves.points[at].oracle, _last(curves.points[at], scale))):
        point, value = curves.points[at], curves.accuracies[at]
        on_front = at in scale.front
        cells: list[tuple[str, float | str]] = [
            ("★" if on_front else "", float(on_front)),
            (point.label + (" (limit)" if point.oracle else ""), point.label),
            (point.model or "–", point.model),
            (point.budget or "–", point.budget),
            (f"{value.mean:.1%}", value.mean),
            (f"{value.low:.1%} to {value.high:.1%}", value.low),
            (f"{point.traces:.3g}", point.traces),
        ]
        cells += [(number(point.x(axis), axis), point.x(axis)) for axis in AXES if axis in axes]
        found.append(Row(tuple(cells), point.run, on_front))
    return found


def reach_lines(scale: Scale) -> list[str]:
    """A sentence for each goal."""
    return [_reach_line(scale, each) for each in scale.reach]


def _reach_line(scale: Scale, reach: Reach) -> str:
    goal = f"{reach.target:.1%}".replace(".0%", "%")
    shown = set(shown_points(scale))
    perhaps = [at for at in reach.perhaps if at in shown]
    maybe = f"; {_count(len(perhaps), 'point')} may reach it, the first {_told(scale, perhaps[0])}" if perhaps else ""
    if reach.cheapest is None:
        return f"no point reaches {goal}{maybe}"
    same = [at for at in reach.same if at in shown]
    line = f"the cheapest way to {goal}: {_told(scale, reach.cheapest)}"
    if same:
        line += f"; not told apart from {_count(len(same), 'cheaper point')}, the first {_told(scale, same[0])}"
    elif perhaps:
        line += maybe
    sure = "none" if reach.sure is None else _told(scale, reach.sure)
    return line + ("; its whole interval is above" if reach.sure == reach.cheapest else f"; surely above: {sure}")


def _told(scale: Scale, at: int) -> str:
    """A point in words."""
    point, value = scale.curves.points[at], scale.curves.accuracies[at]
    several = len({each.model for each in scale.curves.points}) > 1
    who = f"{point.model} " if several else ""
    budgets = len({each.budget for each in scale.curves.points if each.model == point.model}) > 1
    what = f"{who}{point.label}" + (f" ({point.budget})" if budgets and point.budget else "")
    interval = f"[{value.low:.1%}, {value.high:.1%}]"
    return f"{what}, {number(point.x(scale.axis), scale.axis)} {scale.axis}, {value.mean:.1%} {interval}"


def equal_table(scale: Scale) -> tuple[list[str], list[list[str]]]:
    """Spends across, series down; the best at each spend has a star."""
    names = list(scale.equal[0].accuracy)
    columns = [f"at most {number(each.spend, scale.axis)}" for each in scale.equal]
    cells = []
    for name in names:
        row = [name]
        for each in scale.equal:
            value, behind = each.accuracy[name], each.behind[name]
            star = " ★" if name == each.best else " ≈" if behind and not behind.apart else ""
            row.append("–" if value is None else f"{value.mean:.1%}{star}")
        cells.append(row)
    return ["", *columns], cells


def number(value: float, axis: str = "tokens") -> str:
    """A cost for people; – where it is not known."""
    if not math.isfinite(value):
        return "–"
    if axis == "tokens":
        return f"{value:,.0f}"
    return f"{value:.2e}" if axis == "flops" else f"{value:.3g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _last(point: Point, scale: Scale) -> float:
    x = point.x(scale.axis)
    return x if math.isfinite(x) else math.inf


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *cells)]
    head, *body = (f"| {' | '.join(row)} |" for row in escaped)
    return [head, "|" + "---|" * len(columns), *body]


def _between(value: Between | None) -> dict[str, float] | None:
    return None if value is None else {"mean": value.mean, "low": value.low, "high": value.high}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _reach(each: Reach) -> dict[str, Any]:
    """Points are places in the list of points."""
    return {
        "target": each.target,
        "cheapest": each.cheapest,
        "sure": each.sure,
        "perhaps": list(each.perhaps),
        "not_told_apart": list(each.same),
    }


def _equal(each: EqualSpend) -> dict[str, Any]:
    return {
        "spend": each.spend,
        "best": each.best,
        "accuracy": {name: _between(value) for name, value in each.accuracy.items()},
        "behind_best": {name: _between(value) for name, value in each.behind.items()},
    }


# The chart


def to_svg(scale: Scale) -> str:
    """The chart as a file of its own, with its legend and its colours, light or dark as the reader's system is."""
    svg = _draw(scale, legend=True)

    def said(light: bool) -> str:
        colours = _LIGHT if light else _DARK
        named = {f"--s{at}": colour for at, colour in enumerate(colours)}
        named |= {"--faint": "#6b717d" if light else "#9aa3b2", "--line": "#e6e3dd" if light else "#2c3038"}
        return ";".join(f"{name}:{colour}" for name, colour in named.items())

    style = f"svg{{{said(True)}}}@media(prefers-color-scheme:dark){{svg{{{said(False)}}}}}"
    return re.sub(r"(<svg[^>]*>)", rf"\1<style>{style}</style>", svg, count=1) + "\n"


def _draw(scale: Scale, legend: bool) -> str:
    import altair as alt

    names = shown_series(scale)
    points = [_datum(scale, at) for at in range(len(scale.curves.points))]
    points = [each for each in points if each["x"] is not None]
    colours = [f"#02020{at}" for at in range(len(names))]
    shown = [each for each in points if each["series"] in names]
    faint = [each for each in points if each["series"] not in names]
    x = alt.X("x:Q", title=AXES[scale.axis], scale=alt.Scale(type="log", nice=False), axis=_x_axis(points))
    y_axis = alt.Axis(format=".0%", tickCount=6, title="accuracy")
    y = alt.Y("y:Q", axis=y_axis, scale=alt.Scale(zero=False, clamp=True))
    place = {"orient": "bottom", "columns": 4, "title": None, "labelLimit": 400, "labelColor": "#010101"}
    colour = alt.Color(
        "series:N",
        scale=alt.Scale(domain=names, range=colours),
        legend=alt.Legend(**place, symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1) if legend else None,
    )
    base = alt.Chart(alt.Data(values=shown), width=_WIDTH, height=_HEIGHT).encode(x=x, y=y)
    bands = alt.Chart(alt.Data(values=[each for each in shown if each["band"]]))
    layers = [
        bands.mark_area(opacity=0.1).encode(x=x, y=alt.Y("low:Q", axis=y_axis), y2="high:Q", color=colour),
        base.transform_filter("datum.front || !datum.band")
        .mark_rule(opacity=0.45, strokeWidth=1.5)
        .encode(y=alt.Y("low:Q", axis=y_axis), y2="high:Q", color=colour),
        base.mark_line(strokeWidth=2.2, strokeJoin="round").encode(
            color=colour, strokeDash=alt.condition("datum.oracle", alt.value([4, 4]), alt.value([1, 0]))
        ),
        base.mark_point(filled=True, size=46, opacity=1).encode(color=colour),
        base.transform_filter("datum.front").mark_point(size=150, strokeWidth=1.5, color="#010101", opacity=1),
    ]
    if faint:
        others = alt.Chart(alt.Data(values=faint)).encode(x=x, y=y, detail="series:N")
        layers.insert(0, others.mark_line(strokeWidth=1, color="#010102", point={"color": "#010102", "size": 14}))
    goals = [{"y": each.target} for each in scale.reach]
    if goals:
        layers.insert(0, alt.Chart(alt.Data(values=goals)).mark_rule(strokeDash=[2, 4], color="#010101").encode(y=y))
    axes = {"domain": False, "ticks": False, "gridColor": "#010102", "labelColor": "#010101", "titleColor": "#010101"}
    made = alt.layer(*layers).configure(background="transparent").configure_view(stroke=None)
    spec = made.configure_axis(**axes, labelPadding=8, labelFontSize=12, titleFontWeight="normal").to_dict()
    return drawn(spec, {stand_in: f"var({name})" for stand_in, name in _STAND_IN.items()})


def _x_axis(points: Sequence[Mapping[str, Any]]) -> Any:
    """Numbers at 1, 2 and 5 times the powers of ten: what is between has none, for they would touch."""
    import altair as alt

    xs = [each["x"] for each in points]
    powers = range(math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs))) + 1)
    wide = max(xs) / min(xs) > 1e4
    values = [times * 10.0**power for power in powers for times in ((1,) if wide else (1, 2, 5))]
    inside = [value for value in values if min(xs) <= value <= max(xs)]
    return alt.Axis(grid=False, format="~s", values=inside if len(inside) > 1 else [min(xs), max(xs)])


def _datum(scale: Scale, at: int) -> dict[str, Any]:
    point, value = scale.curves.points[at], scale.curves.accuracies[at]
    several = len(scale.curves.series[point.series]) > 1
    x = point.x(scale.axis)
    return {
        "series": point.series,
        "x": x if math.isfinite(x) and x > 0 else None,
        "y": value.mean,
        "low": value.low,
        "high": value.high,
        "front": at in scale.front,
        "oracle": point.oracle,
        "band": several,
    }


# The page


def to_html(scale: Scale) -> str:
    pages = templates("thinksmith.evaluate")
    pages.filters["anchor"] = anchor
    script = pages.get_template("sortable.js").render().strip()
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    names = shown_series(scale)
    equal = equal_table(scale) if scale.equal else None
    return pages.get_template("scale.html").render(
        scale=scale,
        axis=AXES[scale.axis],
        chart=fitted(_draw(scale, legend=False)),  # drawn by us; names in it were escaped where it was drawn
        series=names,
        others=len(scale.curves.series) - len(names),
        headings=headings(scale),
        rows=rows(scale),
        goals=reach_lines(scale),
        equal=equal,
        runs=_runs(scale),
        light=_LIGHT,
        dark=_DARK,
        script=Markup(script),
        digest=digest,
        version=__version__,
    )


def _runs(scale: Scale) -> list[dict[str, str]]:
    """The runs that the points are from, each with the command that shows its attempts."""
    found: dict[str, dict[str, str]] = {}
    for point in scale.curves.points:
        stored = re.fullmatch(r"[\w-]+", point.run) is not None
        command = f"thinksmith traces {point.run} --wrong" if stored else f"thinksmith verify --file {point.run}"
        found.setdefault(point.run, {"model": point.model, "budget": point.budget, "command": command})
    return [{"run": run, "anchor": anchor(run)} | told for run, told in found.items()]


def anchor(run: str) -> str:
    """The name of a run within the page."""
    return "run-" + re.sub(r"[^\w-]+", "-", run)
