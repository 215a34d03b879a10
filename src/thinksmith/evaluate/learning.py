"""The page of a run of SFT or DPO: its curves, what was learnt from, and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.evaluate.charts import Curves, Row, draw
from thinksmith.evaluate.report import Bar, Headline, Intervals, Report, Table, facts_of
from thinksmith.evaluate.statistics.stats import Accuracy

CURVES = (
    Curves("Loss", {"loss": "training", "held_out_loss": "held out"}, ".3f", "nats per token, or per pair"),
    Curves("Held-out loss", {"held_out_loss": "held out"}, ".3f", "of samples that are not learnt", smooth=False),
    Curves(
        "Held-out accuracy",
        {"held_out_accuracy": "accuracy"},
        ".0%",
        "of sampled answers, with its 95 % interval",
        band=("held_out_low", "held_out_high"),
        smooth=False,
    ),
    Curves(
        "Held-out tokens",
        {"held_out_token_accuracy": "chosen greedily"},
        ".1%",
        "share of all",
        smooth=False,
    ),
    Curves(
        "Rewards", {"reward_right": "right", "reward_wrong": "wrong"}, "~g", "beta times the gain in log-probability"
    ),
    Curves("Margin", {"margin": "training", "held_out_margin": "held out"}, "~g", "right less wrong"),
    Curves(
        "Pairs told apart", {"pair_accuracy": "training", "held_out_pair_accuracy": "held out"}, ".0%", "share of pairs"
    ),
    Curves("Learning rate", {"lr": "lr"}, "~g", smooth=False),
    Curves("Gradient norm", {"grad_norm": "gradient norm"}, "~g", "before clipping"),
    Curves("Speed", {"train_tokens_per_s": "training"}, "~s", "tokens per second"),
)
SHOWN = (
    ("held_out_loss", "loss", "{:.4f}"),
    ("held_out_token_accuracy", "tokens chosen greedily", "{:.1%}"),
    ("held_out_margin", "margin", "{:.3f}"),
    ("held_out_pair_accuracy", "pairs told apart", "{:.1%}"),
    ("held_out_accuracy", "accuracy of sampled answers", "{:.1%}"),
)


def learning_report(
    rows: Sequence[Row],
    result: Mapping[str, Any],
    *,
    title: str,
    model: str,
    recipe: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Report:
    """`rows` of the run's metrics.jsonl, and its result.json."""
    before, after = result["before"], result["after"]
    drawn = (draw(rows, curves) for curves in CURVES)
    return Report(
        title=title,
        subtitle=model,
        headline=_headline(rows, result),
        overview=Intervals("Accuracy before and after", _bars(before, after)),
        tables=tuple(table for table in (_held_out(before, after), _data(result)) if table),
        charts=tuple(chart for chart in drawn if chart),
        facts=facts_of({"Recipe": recipe, "Versions": versions}),
        warnings=tuple(result["notes"]),
    )


def _headline(rows: Sequence[Row], result: Mapping[str, Any]) -> Headline:
    before, after = result["before"], result["after"]
    steps = f"{result['steps']:,} steps"
    if result["steps"] < result["planned"]:
        steps += f", stopped early of {result['planned']:,}"
    steps += f"; the weights of step {result['kept_step']:,}"
    if "held_out_loss" in after:
        was = f"before {before['held_out_loss']:.4f}" if "held_out_loss" in before else ""
        return Headline("Held-out loss", f"{after['held_out_loss']:.4f}", was, steps)
    last = rows[-1]["loss"] if rows else float("nan")
    return Headline("Training loss of the last step", f"{last:.4f}", "nothing was held out", steps)


def _bars(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[tuple[str, tuple[Bar, ...]], ...]:
    sides = (("before", before, "one"), ("after", after, "two"))
    bars = tuple(
        Bar(
            label,
            Accuracy(
                row["held_out_accuracy"], row["held_out_low"], row["held_out_high"], *[int(row["held_out_n"])] * 2
            ),
            series,
        )
        for label, row, series in sides
        if "held_out_accuracy" in row
    )
    return (("all problems", bars),) if bars else ()


def _held_out(before: Mapping[str, float], after: Mapping[str, float]) -> Table | None:
    rows = tuple(
        (name, *(form.format(row[key]) if key in row else "–" for row in (before, after)))
        for key, name, form in SHOWN
        if key in before or key in after
    )
    return Table("Held out", ("", "before", "after"), rows) if rows else None


def _data(result: Mapping[str, Any]) -> Table:
    rows = [("learnt", f"{result['samples']:,}"), ("held out", f"{result['held_out']:,}")]
    order = sorted(result["dropped"].items(), key=lambda item: (-item[1], item[0]))
    rows += [(f"dropped: {reason}", f"{count:,}") for reason, count in order]
    return Table("Samples", ("", "count"), tuple(rows), "none is ever cut: what does not fit is dropped")
