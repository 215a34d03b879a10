"""A page of one run of an agent: its task and answer, the plan as it went, every step with its thinking under the lamp,
its calls, what was allowed and what was done.

What a model wrote and what a tool gave is text to the template, which escapes it; the page has no script, asks nothing
of any network, and says so to the browser. What is folded opens with a key or a click (`<details>`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thinksmith import __version__
from thinksmith.agent.contract import Observation, Plan, Step
from thinksmith.agent.journal import Place
from thinksmith.agent.outcome import Trajectory
from thinksmith.agent.plans import plan_in
from thinksmith.agent.reading_on import NAME as READ_MORE
from thinksmith.agent.running import Run
from thinksmith.errors import UserError
from thinksmith.evaluate.charts import SERIES, Chart, Curves, draw
from thinksmith.evaluate.trace_view import TraceView, pair_of
from thinksmith.pages.page import templates
from thinksmith.records import Attempt, Verdict

_NAMES = {"plan": "Plan", "act": "Act", "reflect": "Look back", "summary": "Sum up", "answer": "Last answer"}
_SHORT = 160  # characters of a call beside its name, while it is folded
_CURVES = (
    Curves("Sampled tokens", {"thinking": "thinking", "said": "answers and calls"}, "~s", "by step", smooth=False),
    Curves("Tokens of the prompt", {"prompt": "prompt"}, "~s", "by step: what the model was told", smooth=False),
    Curves("Seconds", {"model_seconds": "the model", "tool_seconds": "tools"}, "~g", "by step", smooth=False),
)


@dataclass(frozen=True, slots=True)
class CallView:
    """A call: the tool, its arguments as JSON, in a line and whole; what it gave as the model was told it; what was
    decided; and what became of it (`state`: good, bad or dim)."""

    name: str
    short: str
    arguments: str
    gave: str
    state: str
    said: str
    decided: str
    effect: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StepView:
    """A step: what it was for and why, its trace in pieces, its calls, and the plan where it was new or revised."""

    number: int
    name: str
    why: str
    trace: TraceView
    calls: tuple[CallView, ...]
    plan: Plan
    thinking_tokens: int
    seconds: float


def check_page(path: Path) -> None:
    """UserError where no page can be written: a folder, or another ending than .html."""
    if path.is_dir():
        raise UserError(f"the report {path} is a folder: name a file in it, such as {path / 'agent.html'}")
    if path.suffix.casefold() != ".html":
        raise UserError(f"the report {path} must end in .html")


def write_page(path: Path, run: Run, trajectory: Trajectory) -> None:
    """Write it, all or nothing: an older one stays until the new one is complete. UserError where it cannot be."""
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(to_html(run, trajectory).encode("utf-8", errors="replace"))
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def to_html(run: Run, trajectory: Trajectory) -> str:
    """The page."""
    steps = step_views(run, trajectory)
    return (
        templates("thinksmith.evaluate")
        .get_template("agent.html")
        .render(
            run=run,
            trajectory=trajectory,
            steps=steps,
            charts=_charts(trajectory.steps),
            figures=_figures(trajectory),
            facts=_facts(run, trajectory),
            series=SERIES,
            version=__version__,
        )
    )


def trajectory_of(run: Run) -> Trajectory:
    """What a run that is over came to, as its journal has it; nothing is asked again."""
    journal, steps, plan = run.journal, [], Plan()
    for number, thought in sorted(journal.thoughts.items()):
        seen = tuple(journal.results[place] for place in sorted(journal.results) if place[0] == number)
        seconds = thought.seconds + sum(each.seconds for each in seen)
        steps.append(Step(number, thought.part, thought.trace, seen, seconds, thought.why))
        plan = _plan(steps[-1]) or plan
    costs = [step.trace.usage.cost for step in steps if step.trace.usage and step.trace.usage.cost is not None]
    ended = journal.ended or {"answer": "", "why": "it is not over"}
    return Trajectory(
        run.order.problem,
        tuple(steps),
        plan,
        ended["answer"],
        ended["why"],
        ended["why"] == "it answered",
        sum(step.trace.tokens for step in steps),
        sum(step.seconds for step in steps),
        sum(costs) if costs else None,
    )


def step_views(run: Run, trajectory: Trajectory) -> tuple[StepView, ...]:
    """Every step, ready to be shown. A plan stands where it was new, or revised."""
    views, plan = [], Plan()
    for step in trajectory.steps:
        found = _plan(step)
        (trace,) = pair_of(Attempt(run.order.problem, step.trace, Verdict("bad_gold"))).traces
        calls = tuple(_call(run, each, (step.number, at)) for at, each in enumerate(step.observations))
        revised = found if found and found != plan else Plan()
        plan = found or plan
        thinking = step.trace.thinking_tokens
        views.append(StepView(step.number, _NAMES[step.part], step.why, trace, calls, revised, thinking, step.seconds))
    return tuple(views)


def _plan(step: Step) -> Plan:
    return plan_in(step.trace.answer, ticked=step.part == "act")


def _call(run: Run, observation: Observation, place: Place) -> CallView:
    call = observation.call
    arguments = json.dumps(call["arguments"], ensure_ascii=False, indent=2, default=str)
    short = " ".join(json.dumps(call["arguments"], ensure_ascii=False, default=str).split())
    if observation.refused:
        state, said = "dim", "not allowed"
    elif observation.ok:
        state, said = "good", f"{observation.raw:,} characters"
    else:
        state, said = "bad", "did not work"
    cut = f"; cut: the rest is observations/{observation.handle}.txt of the run" if observation.handle else ""
    return CallView(
        call["name"],
        short if len(short) <= _SHORT else short[: _SHORT - 1] + "…",
        arguments,
        observation.text,
        state,
        said + cut,
        _decided(run, observation, place),
        observation.effect,
        observation.seconds,
    )


def _decided(run: Run, observation: Observation, place: Place) -> str:
    """Who allowed it: of a tool that was allowed for the whole run it is not known which calls came before that."""
    name = observation.call["name"]
    if observation.refused:
        return "refused by the owner"
    groups = {tool["name"]: tool["group"] for tool in run.journal.head["described"]}
    if place not in run.journal.begun:
        reads = observation.kind == "read" and (name in groups or name == READ_MORE)
        return "reads: runs unasked" if reads else "not made, so nobody was asked"
    if {name, groups.get(name, name)} & set(run.order.yes):
        return "allowed by --yes"
    return f"allowed by the owner, {'always for this tool' if name in run.journal.always else 'once'}"


def _charts(steps: Sequence[Step]) -> tuple[Chart, ...]:
    rows = [
        {
            "step": step.number,
            "thinking": step.trace.thinking_tokens,
            "said": step.trace.tokens - step.trace.thinking_tokens,
            "prompt": step.trace.prompt_tokens,
            "tool_seconds": (tools := sum(each.seconds for each in step.observations)),
            "model_seconds": max(step.seconds - tools, 0.0),
        }
        for step in steps
    ]
    return tuple(chart for curves in _CURVES if (chart := draw(rows, curves)))


def _figures(trajectory: Trajectory) -> tuple[tuple[str, str], ...]:
    """What stands at the top: value and its name."""
    seen = trajectory.observations
    figures = [
        (f"{len(trajectory.steps):,}", "steps"),
        (f"{len(seen):,}", "calls"),
        (f"{sum(not each.ok for each in seen):,}", "failed or refused"),
        (f"{len(trajectory.effects):,}", "effects"),
        (f"{trajectory.tokens:,}", "tokens"),
        (f"{trajectory.seconds:,.1f}", "seconds"),
    ]
    if trajectory.cost:
        figures.append((f"${trajectory.cost:,.4g}", "cost"))
    return tuple(figures)


def _facts(run: Run, trajectory: Trajectory) -> tuple[tuple[str, str], ...]:
    """What it was started with, and what was allowed."""
    order = run.order
    limits = {
        "steps": f"{order.limits.steps:,}",
        "tokens": f"{order.limits.tokens:,}",
        "seconds": f"{order.limits.seconds:g}",
        "dollars": f"{order.limits.cost:g}",
    }
    sampling = order.sampling
    return (
        ("run", run.id),
        ("model", order.model),
        ("tools", ", ".join(order.tools) or "none"),
        ("allowed from the beginning", ", ".join(order.yes) or "none"),
        ("allowed always, when asked", ", ".join(sorted(run.journal.always)) or "none"),
        ("limits", ", ".join(f"{value} {name}" for name, value in limits.items() if value != "0")),
        ("sampling", f"temperature {sampling.temperature:g}, {sampling.max_tokens:,} tokens, seed {sampling.seed}"),
        ("history", order.history),
    )
