"""What to call runs that stand beside each other: by model, strategy, and what differs in how they were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thinksmith.store.store import Run

# Of a configuration, what does not tell runs apart for people, or is told anyway.
_NOT_TOLD = ("problems", "problems_hash", "strategy", "judge_hash")
_SIMPLE = "single"
_HASH = 8  # characters of a hash


def labels(runs: Sequence[Run]) -> list[str]:
    """One label a run, all different: `tiny, vote@8, temperature=0.6`.

    The strategy is left out where all runs asked once; settings are told where they differ, the weights where one name
    stands for several.
    """
    strategies = [str(run.config.get("strategy", _SIMPLE)) for run in runs]
    flat = [dict(_flat(run.config)) for run in runs]
    keys = [key for key in dict.fromkeys(key for each in flat for key in each) if len({_at(f, key) for f in flat}) > 1]
    found = []
    for run, strategy, settings in zip(runs, strategies, flat, strict=True):
        parts = [run.model]
        if len({other.weights_hash for other in runs if other.model == run.model}) > 1:
            parts.append(f"weights {run.weights_hash[:_HASH] or 'unknown'}")
        if any(other != _SIMPLE for other in strategies):
            parts.append(strategy)
        parts += [f"{key.rpartition('.')[2]}={_at(settings, key)}" for key in keys]
        found.append(", ".join(parts))
    times = Counter(found)
    return [
        f"{label}, {run.id.rpartition('-')[2]}" if times[label] > 1 else label
        for label, run in zip(found, runs, strict=True)
    ]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif prefix or key not in _NOT_TOLD:
            yield f"{prefix}{key}", value


def _at(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key)
    return "–" if value is None or value == "" else str(value)
