"""A comparison as a page, as Markdown and as JSON.

The page is one file without scripts or network, in the style of an evaluation's report. Each number of wins and losses
leads to them, each with both traces side by side. Whatever a model wrote is text to the template, which escapes it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thinksmith.errors import UserError
from thinksmith.evaluate.comparing.compare import Amount, Change, Comparison, Side, Versus
from thinksmith.evaluate.statistics.stats import Difference
from thinksmith.evaluate.trace_view import Pair, pair_of
from thinksmith.pages.page import templates
from thinksmith.store.figures import STATUSES
from thinksmith.store.store import Store

SHOWN = 5  # wins, and as many losses, of each comparison


def write_report(path: Path, comparison: Comparison, store: Store, wins: int = SHOWN) -> None:
    """Write a page (.html), .md or .json, all or nothing, with so many wins and losses of each comparison.

    UserError for another ending, or where it cannot be written.
    """
    text = renderer(path)(comparison, store, wins)
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(text.encode("utf-8", errors="replace"))  # a model may write half a surrogate pair
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def renderer(path: Path) -> Callable[[Comparison, Store, int], str]:
    """What writes a report of this file's kind. UserError for a folder, or an ending that is not known."""
    if path.is_dir():
        raise UserError(f"the report {path} is a folder: name a file in it, such as {path / 'compare.html'}")
    by_ending: dict[str, Callable[[Comparison, Store, int], str]] = {
        ".html": to_html,
        ".md": lambda comparison, store, wins: to_markdown(comparison, wins),
        ".json": lambda comparison, store, wins: to_json(comparison, wins),
    }
    if path.suffix.casefold() not in by_ending:
        raise UserError(f"the report {path} must end in {', '.join(by_ending)}")
    return by_ending[path.suffix.casefold()]


# What all of them tell


def points(share: float) -> str:
    """A difference of shares for people: `+4.3`, in percentage points."""
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "−")  # + 0.0: no "−0.0"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def title_of(comparison: Comparison, versus: Versus) -> str:
    """`B − A`."""
    return f"{comparison.sides[versus.other].letter} − {comparison.sides[versus.one].letter}"


def scope_of(comparison: Comparison) -> str:
    """On which problems, and what was left out."""
    told = f"{comparison.problems:,} problems, paired"
    if comparison.dropped:
        told += f"; {comparison.dropped:,} that not all runs have are left out"
    if comparison.unusable:
        told += f"; {comparison.unusable:,} without a verdict that counts in some run are left out"
    return told


def verdict_of(comparison: Comparison, versus: Versus) -> str:
    """What the comparison comes to, in a sentence."""
    one, other = comparison.sides[versus.one].letter, comparison.sides[versus.other].letter
    difference = versus.difference
    if versus.p_holm >= 0.05:
        return f"{other} and {one} cannot be told apart"
    ahead, behind = (other, one) if difference.mean > 0 else (one, other)
    return f"{ahead} is ahead of {behind} by {abs(100 * difference.mean):.1f} points"


def amount_line(name: str, amount: Amount, form: str) -> str:
    """`tokens an attempt 120 → 240, +120 [+100, +140], ×2.00`."""

    def signed(value: float) -> str:
        return ("+" if value >= 0 else "−") + format(abs(value), form)

    ratio = f", ×{amount.ratio:.2f}" if amount.ratio is not None else ""
    change = f"{signed(amount.mean)} [{signed(amount.low)}, {signed(amount.high)}]"
    return f"{name} an attempt {amount.one:{form}} → {amount.other:{form}}, {change}{ratio}"


def amount_lines(versus: Versus) -> list[str]:
    found = [amount_line("tokens", versus.tokens, ",.0f")]
    if versus.seconds.one or versus.seconds.other:
        found.append(amount_line("seconds", versus.seconds, ",.2f"))
    if versus.cost:
        found.append(amount_line("dollars", versus.cost, ",.6f"))
    return found


def interval_of(difference: Difference) -> str:
    return f"[{points(difference.low)}, {points(difference.high)}]"


# Markdown


def to_markdown(comparison: Comparison, wins: int = SHOWN) -> str:
    lines = ["# Comparison", "", f"{scope_of(comparison)}. Intervals are 95 %.", ""]
    lines += [f"- {note}" for note in comparison.notes] + [""] * bool(comparison.notes)
    heads = ["", "run", "accuracy", "interval", *(status.replace("_", " ") for status in STATUSES)]
    heads += ["tokens", "seconds", "dollars", "id"]
    lines += _table(heads, [_side_row(side) for side in comparison.sides])
    heads = ["", "points", "interval", "bootstrap", "p", "Holm", "wins", "losses", "ties", "test"]
    lines += ["", *_table(heads, [_versus_row(comparison, each) for each in comparison.versus]), ""]
    for versus in comparison.versus:
        lines += [f"## {title_of(comparison, versus)}: {verdict_of(comparison, versus)}", ""]
        lines += [f"- {line}" for line in [*amount_lines(versus), str(versus.power)]] + [""]
        if versus.gains:
            rows = [
                (gain.key, gain.value, f"{found.problems:,}", points(found.mean), interval_of(found))
                for gain in versus.gains
                for found in [gain.difference]
            ]
            lines += [*_table(["by", "", "problems", "points", "interval"], rows), ""]
        for name, changes in (("Won", versus.won), ("Lost", versus.lost)):
            if changes and wins:
                heads = ["problem", "before", "after", "attempts", "answers", "gold"]
                lines += [
                    f"{name}: {len(changes):,} problems",
                    "",
                    *_table(heads, map(_change_row, changes[:wins])),
                    "",
                ]
    return "\n".join(lines)


def _side_row(side: Side) -> list[str]:
    counts = [f"{side.counts[status]:,}" for status in STATUSES]
    cost = "–" if side.cost is None else f"{side.cost:.6f}"
    interval = f"[{side.accuracy.low:.1%}, {side.accuracy.high:.1%}]"
    figures = [f"{side.accuracy.mean:.1%}", interval, *counts, f"{side.tokens:,.0f}", f"{side.seconds:,.2f}", cost]
    return [side.letter, side.label, *figures, side.run.id]


def _versus_row(comparison: Comparison, versus: Versus) -> list[str]:
    difference = versus.difference
    resampled = f"[{points(versus.bootstrap[0])}, {points(versus.bootstrap[1])}]"
    chances = [p_value(difference.p), p_value(versus.p_holm)]
    counts = [f"{count:,}" for count in (difference.wins, difference.losses, difference.ties)]
    figures = [points(difference.mean), interval_of(difference), resampled, *chances, *counts]
    return [title_of(comparison, versus), *figures, versus.test]


def _change_row(change: Change) -> list[str]:
    scores = [f"{score:.2f}" for score in change.scores]
    numbers, said = (" → ".join(map(str, pair)) for pair in (change.attempts, change.said))
    return [change.problem.id, *scores, numbers, said, change.problem.answer or ""]


def _table(heads: Sequence[str], rows: Any) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|").replace("`", "'") for cell in cells) + " |"

    return [line(heads), "|" + " --- |" * len(heads), *map(line, rows)]


# JSON


def to_json(comparison: Comparison, wins: int | None = None) -> str:
    """Everything, with so many wins and losses of each comparison (None: all)."""
    told = {
        "problems": comparison.problems,
        "dropped": comparison.dropped,
        "unusable": comparison.unusable,
        "notes": list(comparison.notes),
        "runs": [_side(side) for side in comparison.sides],
        "comparisons": [_versus(comparison, each, wins) for each in comparison.versus],
    }
    return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _side(side: Side) -> dict[str, Any]:
    return {
        "letter": side.letter,
        "run": side.run.id,
        "label": side.label,
        "model": side.run.model,
        "weights_hash": side.run.weights_hash,
        "config": side.run.config,
        "accuracy": side.accuracy.mean,
        "interval": [side.accuracy.low, side.accuracy.high],
        "attempts": side.accuracy.attempts,
        "counts": dict(side.counts),
        "tokens": side.tokens,
        "thinking_tokens": side.thinking,
        "seconds": side.seconds if math.isfinite(side.seconds) else None,
        "cost": side.cost,
    }


def _versus(comparison: Comparison, versus: Versus, wins: int | None) -> dict[str, Any]:
    return {
        "one": comparison.sides[versus.one].letter,
        "other": comparison.sides[versus.other].letter,
        **_difference(versus.difference),
        "bootstrap": list(versus.bootstrap),
        "test": versus.test,
        "p_exact": versus.p_exact,
        "p_holm": versus.p_holm,
        "power": {"detectable": versus.power.detectable, "needed_problems": versus.power.needed},
        "tokens": _amount(versus.tokens),
        "seconds": _amount(versus.seconds),
        "cost": versus.cost and _amount(versus.cost),
        "gains": [{"by": gain.key, "value": gain.value, **_difference(gain.difference)} for gain in versus.gains],
        "won": [_told(change) for change in versus.won[:wins]],
        "lost": [_told(change) for change in versus.lost[:wins]],
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "difference": difference.mean,
        "interval": [difference.low, difference.high],
        "p": difference.p,
        "wins": difference.wins,
        "losses": difference.losses,
        "ties": difference.ties,
        "problems": difference.problems,
    }


def _amount(amount: Amount) -> dict[str, Any]:
    values = {"one": amount.one, "other": amount.other, "difference": amount.mean, "ratio": amount.ratio}
    return {**values, "interval": [amount.low, amount.high]}


def _told(change: Change) -> dict[str, Any]:
    return {
        "problem": change.problem.id,
        "scores": list(change.scores),
        "attempts": list(change.attempts),
        "answers": list(change.said),
        "gold": change.problem.answer,
    }


# The page


@dataclass(frozen=True, slots=True)
class _Shown:
    """A comparison on the page: what its strips reach to (a share, the same on both sides of 0), and traces."""

    versus: Versus
    title: str
    verdict: str
    amounts: tuple[str, ...]
    anchor: str
    won: tuple[tuple[Change, Pair], ...]
    lost: tuple[tuple[Change, Pair], ...]


def to_html(comparison: Comparison, store: Store, wins: int = SHOWN) -> str:
    from thinksmith import __version__

    pages = templates("thinksmith.evaluate")
    pages.filters |= {"points": points, "p_value": p_value}
    letters = [side.letter for side in comparison.sides]
    shown = [
        _Shown(
            versus=each,
            title=title_of(comparison, each),
            verdict=verdict_of(comparison, each),
            amounts=tuple(amount_lines(each)),
            anchor=f"{letters[each.other]}-{letters[each.one]}",
            won=_with_traces(store, each.won[:wins], comparison, each),
            lost=_with_traces(store, each.lost[:wins], comparison, each),
        )
        for each in comparison.versus
    ]
    return pages.get_template("compare.html").render(
        comparison=comparison,
        scope=scope_of(comparison),
        shown=shown,
        statuses=STATUSES,
        reach=_reach([each.difference for each in comparison.versus]),
        gains_reach={each.anchor: _reach([gain.difference for gain in each.versus.gains]) for each in shown},
        different=_different(comparison.sides),
        version=__version__,
    )


def _with_traces(
    store: Store, changes: Sequence[Change], comparison: Comparison, versus: Versus
) -> tuple[tuple[Change, Pair], ...]:
    sides = comparison.sides[versus.one], comparison.sides[versus.other]
    found = []
    for change in changes:
        both = [store.attempt(number).attempt for number in change.attempts]
        pair = pair_of(*both)
        traces = tuple(
            replace(trace, label=f"{side.letter} · attempt {number}")
            for side, number, trace in zip(sides, change.attempts, pair.traces, strict=True)
        )
        found.append((change, replace(pair, traces=traces)))
    return tuple(found)


def _reach(differences: Sequence[Difference]) -> float:
    """Half the width of the strips: a round number of points beyond all intervals."""
    most = max((abs(bound) for each in differences for bound in (each.low, each.high)), default=0.1)
    return next((reach for reach in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5) if most <= reach), 1.0)


def _different(sides: Sequence[Side]) -> list[tuple[str, list[str]]]:
    """What differs in how the runs were made, and what each has."""
    flat = [
        {"model": side.run.model, "weights": side.run.weights_hash[:12], **_flat(side.run.config)} for side in sides
    ]
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = [(key, [str(each.get(key, "–")) for each in flat]) for key in keys if not key.endswith("problems_hash")]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
