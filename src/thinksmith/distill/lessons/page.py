"""A lesson's page: what was claimed, what came out, for each arm and each seed."""

from __future__ import annotations

from pathlib import Path

from thinksmith import __version__
from thinksmith.distill.lessons.trial import ArmResult, Trial, Versus
from thinksmith.pages.page import templates
from thinksmith.training.run_folder import write_whole


def write_pages(trial: Trial, folder: Path) -> None:
    """report.html and report.md. Raises OSError where they cannot be written."""
    left, right = bounds(trial)
    page = (
        templates("thinksmith.distill.lessons")
        .get_template("lesson.html")
        .render(trial=trial, lesson=trial.lesson, left=left, right=right, version=__version__, told=told, spent=spent)
    )
    write_whole(folder / "report.html", page)
    write_whole(folder / "report.md", to_markdown(trial))


def bounds(trial: Trial) -> tuple[float, float]:
    """What the axis shows: all intervals and seeds, in whole tenths."""
    values = [value for arm in trial.arms for value in (arm.accuracy.low, arm.accuracy.high, *arm.seeds_S)]
    left, right = int(10 * min(values)) / 10, -int(-10 * max(values)) / 10
    return left, min(1.0, right if right >= max(values) else right + 0.1)


def told(versus: Versus, first: str) -> str:
    """One comparison as a sentence."""
    found, (low, high) = versus.difference, versus.seeds
    return (
        f"{versus.arm} less {first}: {100 * found.mean:+.1f} points, over problems [{100 * found.low:+.1f}, "
        f"{100 * found.high:+.1f}], over seeds [{100 * low:+.1f}, {100 * high:+.1f}], p = {versus.p_holm:.3f}: "
        f"{versus.verdict}"
    )


def spent(arm: ArmResult) -> str:
    """What its training took."""
    return f"{arm.flops / 1e12:,.2f} TFLOP, {arm.seconds:,.0f} s" if arm.flops else "none"


def to_markdown(trial: Trial) -> str:
    lesson = trial.lesson
    source = f" ({lesson.source})" if lesson.source else ""
    lines = [f"# {lesson.title}", "", f"The claim: {lesson.claim}{source}", ""]
    traces = f"{trial.learnt:,} traces of `{lesson.traces.teacher}`; " if trial.learnt else ""
    lines += [f"{traces}{trial.arms[0].accuracy.problems} held-out problems; {lesson.seeds} seeds.", ""]
    lines += ["| arm | accuracy | 95 % | of each seed | cut off | tokens | training |", "|---|---|---|---|---|---|---|"]
    for arm in trial.arms:
        found = arm.accuracy
        seeds = " ".join(f"{100 * each:.1f}" for each in arm.seeds_S)
        lines.append(
            f"| {arm.name} | {found.mean:.1%} | {found.low:.1%} to {found.high:.1%} | {seeds} | {arm.truncated:,} | "
            f"{arm.tokens:,.0f} | {spent(arm)} |"
        )
    lines += ["", *(f"- {told(each, lesson.first)}" for each in trial.versus), ""]
    return "\n".join(lines)
