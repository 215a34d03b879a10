"""Accuracy on held-out problems while a model is trained, as a part of a step's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from thinksmith.engines.contract import Engine, Releases
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.evaluate.evaluate import SINGLE, evaluate
from thinksmith.policy.policy import Policy
from thinksmith.records import Problem, Sampling
from thinksmith.store.store import Store


def held_out_accuracy(
    problems: Sequence[Problem], engine: Engine, sampling: Sampling, store: Store, name: str, *, strategy: str = SINGLE
) -> dict[str, float]:
    """`held_out_accuracy` with its 95 % interval and the number of problems. The attempts are in the store."""
    _, summary = evaluate(problems, engine, sampling=sampling, store=store, name=name, strategy=strategy)
    accuracy = summary.accuracy
    return {
        "held_out_accuracy": accuracy.mean,
        "held_out_low": accuracy.low,
        "held_out_high": accuracy.high,
        "held_out_n": accuracy.problems,
    }


@dataclass(slots=True)
class HeldOut:
    """Measures a policy that is being trained, on the same problems each time. `name` names its runs in the store."""

    problems: Sequence[Problem]
    sampling: Sampling
    store: Store
    name: str
    _engine: LocalEngine | None = field(default=None, init=False)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(problem.id for problem in self.problems)

    def __call__(self, policy: Policy, step: int) -> dict[str, float]:
        if self._engine is None:
            self._engine = LocalEngine(policy)
        found = held_out_accuracy(self.problems, self._engine, self.sampling, self.store, f"{self.name} step {step}")
        if isinstance(self._engine, Releases):
            self._engine.release()  # training wants the memory
        return found
