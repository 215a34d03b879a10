"""The card of an embedded model: what it saw, how long it took, what it scores. Every figure is measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.evaluate.summary import Summary, summarise
from thinksmith.policy.load import load_policy
from thinksmith.problems.families import FAMILIES, sample
from thinksmith.records import Attempt, Problem, Request, Sampling
from thinksmith.strategies.single import problem_seed
from thinksmith.verify import verify_all

TEMPERATURES = (0.6, 1.0)
PROBLEMS_PER_FAMILY = 200
MAX_TOKENS = 384
LOADING = (
    "`AutoModelForCausalLM` loads the model. Load the tokenizer with `PreTrainedTokenizerFast`: in transformers 5",
    "`AutoTokenizer` cuts texts by Qwen2's own rules, whatever tokenizer.json says, and gives wrong ids.",
)


def measure(folder: Path) -> dict[float, Summary]:
    """A summary per temperature: one attempt at each of the same held-out problems, all families in equal shares."""
    engine = LocalEngine(load_policy(str(folder)))
    problems = [p for name in FAMILIES for p in sample(name, {}, PROBLEMS_PER_FAMILY, split="test", seed=2026)]
    found = {temperature: _summary(engine, problems, temperature) for temperature in TEMPERATURES}
    engine.close()
    return found


def _summary(engine: LocalEngine, problems: Sequence[Problem], temperature: float) -> Summary:
    requests = [
        Request(
            messages=problem.messages,
            sampling=Sampling(temperature=temperature, max_tokens=MAX_TOKENS, seed=problem_seed(0, problem.id, 0)),
        )
        for problem in problems
    ]
    traces = [traces[0] for traces in engine.sample_all(requests)]
    verdicts = verify_all(zip(problems, traces, strict=True))
    return summarise(Attempt(p, t, v) for p, t, v in zip(problems, traces, verdicts, strict=True))


def write_card(
    folder: Path, name: str, about: str, stages: Mapping[str, Mapping[str, Any]], logs: Mapping[str, Path]
) -> None:
    """Measure the model in `folder` and write its README.md and scores.json there."""
    summaries = measure(folder)
    lines = [f"# {name}", "", about, "", *LOADING, "", "## How it was made", ""]
    lines += [_stage(stage, recipe, logs[stage]) for stage, recipe in stages.items()]
    lines += ["", "## What it scores", ""]
    lines.append(
        f"One attempt at each of {PROBLEMS_PER_FAMILY} held-out problems of every family (no problem of the held-out "
        f"split is ever trained on), at most {MAX_TOKENS} tokens, 95 % intervals."
    )
    lines += ["", *_scores(summaries), ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
    scores = {
        str(t): {"all": s.accuracy.mean, **{f: a.mean for f, a in s.families.items()}} for t, s in summaries.items()
    }
    (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")


def _stage(stage: str, recipe: Mapping[str, Any], log: Path) -> str:
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    minutes = sum(row["seconds"] for row in rows) / 60
    settings = f"all settings in `recipes/tiny/{stage}.toml`"
    if rollout := recipe.get("rollout"):
        drawn = f"{rollout['prompts']} problems × {rollout['num_generations']} completions"
        rewards = ", ".join(f"{name} {_weight(reward):g}" for name, reward in recipe["rewards"].items())
        return (
            f"- `{stage}`: GRPO, {len(rows):,} steps of {drawn}, {minutes:.0f} minutes; rewards: {rewards}; {settings}."
        )
    tokens = sum(row["tokens"] for row in rows)
    style = ", ".join(f"{key} {value:g}" for key, value in recipe["style"].items())
    return (
        f"- `{stage}`: {len(rows):,} steps, {tokens / 1e6:.1f} M tokens, {minutes:.0f} minutes; traces written by the "
        f"symbolic solvers ({style}); {settings}."
    )


def _weight(reward: float | Mapping[str, Any]) -> float:
    """A reward with options has its weight among them."""
    return float(reward["weight"] if isinstance(reward, Mapping) else reward)


def _scores(summaries: Mapping[float, Summary]) -> list[str]:
    """A Markdown table: a row per family, a column per temperature, and how the traces look."""
    temperatures = list(summaries)
    head = "| problems | " + " | ".join(f"temperature {t:g}" for t in temperatures) + " |"
    rows = [head, "|---|" + "---|" * len(temperatures)]
    families = summaries[temperatures[0]].families
    cells = {"all families": [s.accuracy for s in summaries.values()]}
    cells |= {family: [s.families[family] for s in summaries.values()] for family in families}
    for label, values in cells.items():
        rows.append(f"| {label} | " + " | ".join(f"{a.mean:.1%} [{a.low:.1%}, {a.high:.1%}]" for a in values) + " |")
    counts = [f"{s.counts.get('truncated', 0)} / {s.counts.get('no_answer', 0)}" for s in summaries.values()]
    rows.append("| truncated / no answer | " + " | ".join(counts) + " |")
    rows.append("| share of true equations | " + " | ".join(_percent(s.true_share) for s in summaries.values()) + " |")
    rows.append("| traces with a check | " + " | ".join(_percent(s.check_share) for s in summaries.values()) + " |")
    rows.append(
        "| traces with backtracking | " + " | ".join(_percent(s.backtrack_share) for s in summaries.values()) + " |"
    )
    rows.append(
        "| mean thinking tokens | " + " | ".join(f"{s.thinking_tokens.mean:.0f}" for s in summaries.values()) + " |"
    )
    return rows


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
