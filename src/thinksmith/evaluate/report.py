"""`report.html`: one page that tells what was measured, self-contained, without network.

A `Report` is what the page shows; `stored_report`, `evaluation_report` and `training_report` build one, `render_report`
writes it (`markdown.py` as Markdown or JSON). Whatever a model wrote is text to the template, which escapes it. The one
script, which sorts tables, is our own and allowed by its hash alone; without it the page reads as well.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup

from thinksmith import __version__
from thinksmith.errors import UserError
from thinksmith.evaluate.charts import MOST_LINES, SERIES, Chart, Curves, Row, draw
from thinksmith.evaluate.markdown import to_json, to_markdown
from thinksmith.evaluate.statistics.stats import Accuracy, Difference
from thinksmith.evaluate.summary import Summary
from thinksmith.evaluate.trace_view import Pair, pair_of
from thinksmith.pages.page import templates
from thinksmith.records import Attempt, Sampling
from thinksmith.store.figures import STATUSES, Figures, Ints
from thinksmith.store.store import Store

CURVES = (
    Curves("Reward", {"reward": "mean reward"}, ".2f", "mean over the rollouts of a step"),
    Curves("Accuracy of the rollouts", {"accuracy": "accuracy"}, ".0%", "on training problems, sampled"),
    Curves(
        "Held-out accuracy",
        {"held_out_accuracy": "accuracy"},
        ".0%",
        "with its 95 % interval; these problems are not trained on",
        band=("held_out_low", "held_out_high"),
        smooth=False,
    ),
    Curves(
        "Calls of tools",
        {"call_share_needed": "where one is needed", "call_share_needless": "where none is"},
        ".0%",
        "share of the rollouts with a call",
    ),
    Curves("Thinking tokens", {"thinking_tokens": "mean thinking tokens"}, "d", "mean per rollout"),
    Curves(
        "Habits of thought",
        {"check_share": "with a self-check", "backtrack_share": "with a backtrack"},
        ".0%",
        "share of the rollouts",
    ),
    Curves(
        "Cut off or unanswered",
        {"truncated_share": "truncated", "no_answer_share": "no answer"},
        ".0%",
        "share of the rollouts",
    ),
    Curves("Dead groups", {"frac_reward_zero_std": "dead"}, ".0%", "their rewards are equal: they teach nothing"),
    Curves("Entropy", {"entropy": "entropy"}, "~g", "nats per token, of the policy"),
    Curves(
        "KL divergence",
        {"kl": "from the reference", "drift": "from the sampled policy"},
        "~g",
        "nats per token",
        unless_zero=True,
    ),
    Curves(
        "Clipped tokens",
        {"clip_low_share": "at the lower bound", "clip_high_share": "at the upper"},
        "~%",
        "share of the trained",
        unless_zero=True,
    ),
    Curves("Gradient norm", {"grad_norm": "gradient norm"}, "~g", "before clipping"),
    Curves(
        "Speed",
        {"rollout_tokens_per_s": "rollout", "train_tokens_per_s": "training"},
        "~s",
        "tokens per second of each",
    ),
    Curves(
        "Time by phase",
        {
            "rollout_seconds": "rollout",
            "train_seconds": "training",
            "verify_seconds": "verification",
            "evaluate_seconds": "evaluation",
            "save_seconds": "saving",
        },
        ".0%",
        stacked=True,
    ),
)
EXAMPLES = 10  # attempts whose traces stand in a page
_PART = "reward/"  # what the keys of the rewards by name begin with


@dataclass(frozen=True, slots=True)
class Headline:
    """The figure of the page: `value` and its `unit` in large type, `label` above, `interval` beside, `note` below."""

    label: str
    value: str
    interval: str
    note: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """An accuracy to draw on a line from 0 to 1; `series` is "one" (before) or "two" (after, or alone)."""

    label: str
    accuracy: Accuracy
    series: str = "two"


@dataclass(frozen=True, slots=True)
class Intervals:
    """Accuracies with their intervals, drawn under one another: groups of bars, each with its name."""

    title: str
    groups: tuple[tuple[str, tuple[Bar, ...]], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that leads to an anchor of the page. `mark` is a status that it is coloured by, `value` what the column is
    sorted by."""

    text: str
    href: str = ""
    mark: str = ""
    value: str = ""


Cell = str | Link


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column is text, the others are numbers and stand on the right.

    `sortable`: a click on a heading sorts; then each cell is a `Link`, with the value that is sorted by. `anchors` are
    the rows' own, "" for none.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell | tuple[Link, ...], ...], ...]
    note: str = ""
    sortable: bool = False
    anchors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, such as a recipe or the versions."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a page shows, from top to bottom."""

    title: str
    subtitle: str
    headline: Headline
    overview: Intervals
    families: Intervals | None = None
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    pairs: tuple[Pair, ...] = ()
    facts: tuple[Facts, ...] = ()
    warnings: tuple[str, ...] = ()
    parts: tuple[Intervals, ...] = ()
    lists: tuple[Table, ...] = ()
    pairs_note: str = ""
    summary: Summary | None = None


def evaluation_report(
    summary: Summary,
    *,
    title: str,
    model: str,
    config: Mapping[str, Any],
    examples: Sequence[Attempt] = (),
    versions: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Report:
    """The page of one evaluation. `config` is what the run was started with; `examples` are shown as traces."""
    return Report(
        title=title,
        subtitle=model,
        headline=Headline(
            "Accuracy", f"{summary.accuracy.mean:.1%}", _range(summary.accuracy), _sizes(summary.accuracy)
        ),
        overview=Intervals("Accuracy", _overview({"": summary})),
        families=_families({"": summary}),
        tables=tuple(
            filter(
                None,
                (
                    _verdicts({"attempts": summary}),
                    _effort(summary),
                    _acting(summary),
                    _thinking({"": summary}),
                    _at_k(summary),
                ),
            )
        ),
        pairs=tuple(pair_of(attempt) for attempt in examples),
        facts=facts_of({"Configuration": config, "Versions": versions or {}}),
        warnings=tuple(warnings),
        parts=_parts(summary),
        summary=summary,
    )


def stored_report(store: Store, run_ids: Sequence[str], *, advised: Sampling | None = None) -> Report:
    """The page of an evaluation in the store, of a million attempts in seconds; of several runs of the same problems
    that differ in their seeds, all of them together and their spread. `advised` is what the model's makers advise.

    UserError for an unknown run, for runs of different models or settings, or where nothing can be verified.
    """
    from thinksmith.evaluate.acted import deeds_in
    from thinksmith.evaluate.contamination import contamination
    from thinksmith.evaluate.lists import attempt_table, problem_table, shown_attempts, task_table
    from thinksmith.evaluate.several import joined, same_but_seeds, seed_table
    from thinksmith.evaluate.summary import summarise_run
    from thinksmith.evaluate.warnings_ import warnings_of

    runs = [store.run(name) for name in run_ids]
    same_but_seeds(runs)
    each = [store.figures(run.id) for run in runs]
    figures = joined(each)
    summary = summarise_run(store, runs[0].id, figures)
    warned = warnings_of(
        figures,
        summary,
        model=runs[0].model,
        sampling=runs[0].config.get("sampling", {}),
        advised=advised,
        contaminated=contamination(store, figures, runs[0].weights_hash),
    )
    examples = [stored for run in runs for stored in store.attempts(run.id, wrong=True, limit=EXAMPLES)][:EXAMPLES]
    shown = shown_attempts(figures)
    deeds = deeds_in(store, figures)
    page = evaluation_report(
        summary,
        title=runs[0].name,
        model=runs[0].model,
        config={"run": [run.id for run in runs], **runs[0].config},
        examples=[stored.attempt for stored in examples],
        warnings=warned,
    )
    anchors = [stored.id for stored in examples]
    return replace(
        page,
        tables=(_linked(page.tables[0], figures, shown), *page.tables[1:], *seed_table(runs, each)),
        pairs=tuple(replace(pair, anchor=f"trace-{number}") for pair, number in zip(page.pairs, anchors, strict=True)),
        pairs_note=f"The first that are not correct; thinksmith traces {runs[0].id} --wrong --full shows all.",
        lists=(
            *((task_table(figures, deeds),) if deeds else ()),
            problem_table(figures, shown),
            attempt_table(figures, shown, set(anchors), runs[0].id),
        ),
    )


def _linked(table: Table, figures: Figures, shown: Ints) -> Table:
    """The table of verdicts, each count leading to the attempts."""
    present = {STATUSES[at].replace("_", " ") for at in figures.status_N[shown]}
    rows = tuple(
        (row[0], Link(str(row[1]), f"#status-{str(row[0]).replace(' ', '_')}"), *row[2:]) if row[0] in present else row
        for row in table.rows
    )
    return replace(table, rows=rows)


def training_report(
    rows: Sequence[Row],
    *,
    title: str,
    model: str,
    before: Summary,
    after: Summary,
    difference: Difference,
    recipe: Mapping[str, Any],
    versions: Mapping[str, str],
    examples: Sequence[tuple[Attempt, Attempt]] = (),
) -> Report:
    """The page of a training run: `rows` of its metrics.jsonl, the two evaluations, and attempts (before, after)."""
    sides = {"before": before, "after": after}
    drawn = (draw(rows, curves) for curves in training_curves(rows))
    return Report(
        title=title,
        subtitle=model,
        headline=_gain(difference),
        overview=Intervals("Accuracy before and after", _overview(sides)),
        families=_families(sides),
        tables=(_verdicts(sides), _thinking(sides)),
        charts=tuple(chart for chart in drawn if chart),
        pairs=tuple(pair_of(*example) for example in examples),
        facts=facts_of({"Recipe": recipe, "Versions": versions}),
    )


def training_curves(rows: Sequence[Row]) -> tuple[Curves, ...]:
    """What is charted of a training run: `CURVES`, and after the reward its parts where it has several (the first five
    that the rows name). A chart without data is not drawn."""
    parts = list(dict.fromkeys(key for row in rows for key in row if key.startswith(_PART)))[:MOST_LINES]
    if len(parts) < 2:
        return CURVES
    names = {key: key.removeprefix(_PART).replace("_", " ") for key in parts}
    return (CURVES[0], Curves("Rewards by name", names, ".2f", "before their weights"), *CURVES[1:])


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. A last line that a killed run left half-written is left out.

    UserError when the file cannot be read or another line is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number}: not JSON ({error}); mend or remove the line") from error
        if not isinstance(row, dict):
            raise UserError(f'{path}, line {number}: needs a JSON object, such as {{"step": 1}}; mend or remove it')
        rows.append(row)
    return rows


def check_report(path: Path) -> None:
    """UserError where no report can be written: a folder, or another ending than .html, .md and .json."""
    if path.is_dir():
        raise UserError(f"the report {path} is a folder: name a file in it, such as {path / 'report.html'}")
    if path.suffix.casefold() not in _WRITERS:
        raise UserError(f"the report {path} must end in {', '.join(_WRITERS)}")


def render_report(path: Path, report: Report) -> None:
    """Write the page (.html; .md and .json as `markdown.py` makes them), all or nothing: an older one stays until the
    new one is complete. UserError on a full disk."""
    text = _WRITERS.get(path.suffix.casefold(), to_html)(report)
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(text.encode("utf-8", errors="replace"))  # a model may write half a surrogate pair
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def to_html(report: Report) -> str:
    """The page."""
    pages = templates("thinksmith.evaluate")
    script = pages.get_template("sortable.js").render().strip() if any(each.sortable for each in report.lists) else ""
    return pages.get_template("report.html").render(
        report=report,
        series=SERIES,
        version=__version__,
        script=Markup(script),  # our own
        digest=base64.b64encode(sha256(script.encode()).digest()).decode() if script else "",
    )


_WRITERS = {".html": to_html, ".md": to_markdown, ".json": to_json}

_SERIES = {"before": "one", "after": "two", "": "two"}


def _gain(difference: Difference) -> Headline:
    changed = f"{difference.wins} problems gained, {difference.losses} lost, {difference.ties} unchanged"
    chance = "p < 0.001" if difference.p < 0.001 else f"p = {difference.p:.3f}"
    dropped = f"; {difference.dropped} problems of one side only are left out" if difference.dropped else ""
    return Headline(
        label="Paired difference on the same problems",
        value=_points(difference.mean),
        interval=f"95 % interval {_points(difference.low)} to {_points(difference.high)}",
        note=f"{changed} ({chance}{dropped})",
        unit="points",
    )


def _overview(sides: Mapping[str, Summary]) -> tuple[tuple[str, tuple[Bar, ...]], ...]:
    """The accuracies; where models judged, that is said, and rules and judges stand apart."""
    judged_by = next((side.judged_by for side in sides.values() if side.judged), "")
    mixed = judged_by and any(side.rule for side in sides.values())
    picked: dict[str, dict[str, Accuracy | None]] = {
        f"all problems, {judged_by}" if judged_by and not mixed else "all problems": {
            name: side.accuracy for name, side in sides.items()
        }
    }
    if mixed:
        picked["by rules"] = {name: side.rule for name, side in sides.items()}
        picked[judged_by] = {name: side.judged for name, side in sides.items()}
    return tuple(
        (title, tuple(Bar(name, value, _SERIES[name]) for name, value in values.items() if value))
        for title, values in picked.items()
    )


def _families(sides: Mapping[str, Summary]) -> Intervals | None:
    names = sorted({name for side in sides.values() for name in side.families})
    if len(names) < 2:
        return None
    groups = [
        (
            name,
            tuple(
                Bar(label, side.families[name], _SERIES[label])
                for label, side in sides.items()
                if name in side.families
            ),
        )
        for name in names
    ]
    return Intervals("By family", tuple(groups), "accuracy with its 95 % interval, clustered by problem")


def _verdicts(sides: Mapping[str, Summary]) -> Table:
    """Counts and shares of the verdicts: what was truncated or unanswered stands beside what was right."""
    order = ["correct", "wrong", "no_answer", "truncated", "timeout", "bad_gold", "error"]
    seen = {status for side in sides.values() for status in side.counts} | set(order[:4])
    rows = []
    for status in order:
        if status in seen:
            cells = [_count_and_share(side.counts.get(status, 0), sum(side.counts.values())) for side in sides.values()]
            rows.append((status.replace("_", " "), *(cell for pair in cells for cell in pair)))
    columns = [cell for name in sides for cell in (name, "share")]
    return Table("Verdicts", ("", *columns), tuple(rows), "truncated and unanswered attempts count as not solved")


def _count_and_share(count: int, of: int) -> tuple[str, str]:
    return f"{count:,}", f"{count / of:.1%}" if of else "–"


def _thinking(sides: Mapping[str, Summary]) -> Table:
    def row(name: str, values: Sequence[float | None], form: str) -> tuple[str, ...]:
        return (name, *("–" if value is None else format(value, form) for value in values))

    each = list(sides.values())
    rows = (
        row("thinking tokens, mean", [side.thinking_tokens.mean for side in each], ",.1f"),
        row("thinking tokens, median", [side.thinking_tokens.median for side in each], ",.0f"),
        row("thinking tokens, 95th percentile", [side.thinking_tokens.p95 for side in each], ",.0f"),
        row("attempts with a self-check", [side.check_share for side in each], ".1%"),
        row("attempts with a backtrack", [side.backtrack_share for side in each], ".1%"),
        row("true equations, mean share", [side.true_share for side in each], ".1%"),
        row("sampled tokens per second", [side.tokens_per_s for side in each], ",.0f"),
    )
    return Table("Thinking", ("", *sides), rows)


def _effort(summary: Summary) -> Table:
    """What an attempt took."""
    rows: list[tuple[str, ...]] = []
    for name, lengths, form in (
        ("thinking tokens", summary.thinking_tokens, ",.0f"),
        ("answer tokens", summary.answer_tokens, ",.0f"),
        ("tokens spent by the strategy", summary.spent_tokens if summary.traces > 1 else None, ",.0f"),
        ("seconds", summary.seconds, ",.2f"),
    ):
        if lengths:
            rows.append((name, *(format(value, form) for value in (lengths.mean, lengths.median, lengths.p95))))
    note = f"{summary.traces:,.1f} traces for an attempt on average. " if summary.traces > 1 else ""
    if summary.cost is not None:
        attempts = sum(summary.counts.values())
        note += f"Cost: ${summary.cost:,.4g}" + (
            f" ({summary.priced:,} of {attempts:,} attempts have a price)." if summary.priced < attempts else "."
        )
    return Table("For each attempt", ("", "mean", "p50", "p95"), tuple(rows), note)


def _acting(summary: Summary) -> Table | None:
    """What agents did, with intervals."""
    if (done := summary.acted) is None:
        return None
    named = {
        "steps": done.steps,
        "calls of tools": done.calls,
        "calls that did not work": done.failed,
        "calls that were not allowed": done.refused,
        "steps that brought nothing new": done.repeats,
        "tokens": done.tokens,
    }
    rows = [
        (
            name,
            *(f"{value:,.0f}" if name == "tokens" else f"{value:,.2f}" for value in (each.mean, each.low, each.high)),
        )
        for name, each in named.items()
    ]
    note = (
        f"over {done.tasks:,} tasks; {done.answered:.1%} of {done.attempts:,} attempts were ended by the model itself"
    )
    return Table("What the agent did, for each task", ("", "mean", "95 % from", "to"), tuple(rows), note)


def _at_k(summary: Summary) -> Table | None:
    """pass@k, pass^k and maj@k, a row for each k."""
    if not summary.at_k:
        return None
    names = tuple(dict.fromkeys(each.name.rstrip("0123456789") for each in summary.at_k))
    cells: dict[int, dict[str, str]] = {}
    for each in summary.at_k:
        value = each.value
        cells.setdefault(each.k, {})[each.name.rstrip("0123456789")] = (
            f"{value.mean:.1%} [{100 * value.low:.1f}, {100 * value.high:.1f}]"
        )
    rows = tuple((str(k), *(found.get(name, "–") for name in names)) for k, found in sorted(cells.items()))
    of = f"unbiased, over {summary.at_k_problems:,} problems" + (
        f" drawn from {summary.accuracy.problems:,}" if summary.at_k_problems < summary.accuracy.problems else ""
    )
    heads = {"pass@": "pass@k: one is right", "pass^": "pass^k: all are right", "maj@": "maj@k: most say so"}
    return Table("Over k attempts", ("k", *(heads.get(name, name + "k") for name in names)), rows, of)


def _parts(summary: Summary) -> tuple[Intervals, ...]:
    found = []
    for key, groups in summary.by.items():
        if len(groups) > 1:
            bars = tuple((name, (Bar("", value, "two"),)) for name, value in groups.items())
            found.append(Intervals(f"By {'thinking tokens' if key == 'length' else key}", bars))
    return tuple(found)


def facts_of(groups: Mapping[str, Mapping[str, Any]]) -> tuple[Facts, ...]:
    """Titles and what stands below each; nested tables as dotted names, and nothing of an empty one."""
    flat = ((title, tuple(_flat(values))) for title, values in groups.items())
    return tuple(Facts(title, rows) for title, rows in flat if rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested tables as dotted names, as TOML has them."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        rows += _flat(value, name + ".") if isinstance(value, Mapping) else [(name, _plain(value))]
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None or value == "" else str(value)


def _range(value: Accuracy) -> str:
    return f"95 % interval {value.low:.1%} to {value.high:.1%}"


def _sizes(value: Accuracy) -> str:
    if value.attempts == value.problems:
        return f"{value.problems:,} problems"
    return f"{value.problems:,} problems, {value.attempts:,} attempts; the interval is clustered by problem"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")
