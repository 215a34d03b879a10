"""A pool: independent single samples of every problem, as arrays, from which strategies are worked out afterwards.

N samples of a problem. Traces drawn one by one with the same settings can be put together in any way a strategy would
have put them together, so one run of N samples holds vote@1 to vote@N, and all the others of
`thinksmith.evaluate.scaling.policies`, at no further cost. What changes the traces themselves (a budget, another
temperature, another model) needs a pool of its own.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinksmith.errors import UserError
from thinksmith.fit.shapes.shape import Shape
from thinksmith.records import Attempt, Problem, Trace
from thinksmith.store.store import Store
from thinksmith.strategies.confidence import mean_probability
from thinksmith.strategies.recorded_scores import COLUMNS
from thinksmith.verify import verify
from thinksmith.verify.same import classes, final
from thinksmith.verify.verdict import VERIFIERS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ONE_TRACE = ("single", "budget")
"""Strategies of one trace: what they draw is a pool like any other."""
_TOKENS = ("tokens", "token_counts", "completion_tokens")
_CHARACTERS = 4  # of a token, where nobody counted


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one problem, in the order of drawing.

    `class_N`: equal numbers are equivalent answers (`thinksmith.verify.same`), -1 is no answer. `right_N`: scores in
    0..1. `tokens_N` were sampled, `flops_N` is what that took (NaN: the model's shape is not known), `seconds_N` wall
    time. `confidence_N` is the mean probability of its tokens, `score_N` what was recorded of it; NaN where there is
    none. `prompt_flops`: what reading the prompt took, once for all samples.
    """

    problem: Problem
    class_N: Ints
    right_N: Floats
    tokens_N: Floats
    flops_N: Floats
    seconds_N: Floats
    confidence_N: Floats
    score_N: Floats
    prompt_flops: float = float("nan")

    def __len__(self) -> int:
        return len(self.class_N)

    def weights(self, by: str) -> Floats:
        """What each sample weighs: `count` (1), its `confidence`, or its `recorded` score."""
        return {"count": np.ones(len(self)), "confidence": self.confidence_N, "recorded": self.score_N}[by]


@dataclass(frozen=True, slots=True)
class Pool:
    """Samples of several problems by one model with one budget.

    `model` and `budget` are for people; `run` is the run of the store, or the file, that they are from. `rate`: sampled
    tokens per second, as that run was measured (None: it was not). `estimated`: nobody counted the tokens, so they are
    characters over 4. `left_out` problems could not be judged or have fewer samples than the others.
    """

    model: str
    budget: str
    run: str
    problems: tuple[Samples, ...]
    rate: float | None = None
    estimated: bool = False
    left_out: int = 0
    scored_by: str = ""

    @property
    def samples(self) -> int:
        """Samples of every problem."""
        return len(self.problems[0])

    def has(self, by: str) -> bool:
        """Does every sample have a weight of this kind?"""
        return all(bool(np.isfinite(each.weights(by)).all()) for each in self.problems)

    def named(self, model: str, budget: str) -> Pool:
        """The same under other names."""
        return replace(self, model=model, budget=budget)


def pool_of_run(store: Store, run_id: str, *, shape: Shape | None = None, score: str = "") -> Pool:
    """The pool of a run of the store (or of the beginning of its id). Raises UserError where it holds none."""
    run = store.run(run_id)
    attempts = [stored.attempt for stored in store.attempts(run.id)]
    told = run.config.get("sampling", {})
    waits = re.search(r"waits=(\d+)", str(run.config.get("strategy", "")))
    budget = budget_name(
        told.get("max_thinking_tokens"), told.get("min_thinking_tokens", 0), int(waits[1]) if waits else 0
    )
    return pool_of(
        attempts,
        model=run.model,
        budget=budget,
        run=run.id,
        rate=run.summary.get("tokens_per_s"),
        shape=shape,
        score=score,
    )


def pool_of_file(spec: str, *, score: str = "") -> Pool:
    """The pool of recorded responses (a file as `thinksmith.problems.recorded` reads it). Raises UserError."""
    from thinksmith.problems.recorded import read_recorded

    rows = read_recorded(spec)
    verdicts = _side_by_side(lambda row: verify(row.problem, row.trace), rows, [row.problem for row in rows])
    seen: Counter[str] = Counter()
    attempts = []
    for row, verdict in zip(rows, verdicts, strict=True):
        notes = {name: value for name in (*COLUMNS, *_TOKENS, *([score] if score else []))
                 if (value := _of_sample(row.problem.meta, name, row.sample)) is not None}  # fmt: skip
        number = seen[row.problem.id]
        seen[row.problem.id] += 1
        attempts.append(Attempt(row.problem, row.trace, verdict, number, notes=notes))
    models = {row.trace.model for row in rows}
    return pool_of(attempts, model=models.pop() or "recorded" if len(models) == 1 else "", run=spec, score=score)


def pool_of(
    attempts: Iterable[Attempt],
    *,
    model: str = "",
    budget: str = "",
    run: str = "",
    rate: float | None = None,
    shape: Shape | None = None,
    score: str = "",
) -> Pool:
    """The pool of single samples. `score` names the note that is the score of a sample.

    Problems without usable gold, with a sample that a verifier of ours failed at, or with fewer samples than most have
    are left out. Raises UserError for no attempt, attempts of another strategy, several models, or no usable gold.
    """
    made = sorted(attempts, key=lambda each: (each.problem.id, each.sample))
    _check(made, run)
    groups: dict[str, list[Attempt]] = {}
    for each in made:
        groups.setdefault(each.problem.id, []).append(each)
    wanted = Counter(len(group) for group in groups.values()).most_common(1)[0][0]
    kept = [group[:wanted] for group in groups.values() if len(group) >= wanted and not any(map(_says_nothing, group))]
    if not kept:
        raise UserError(
            f"{run or 'the pool'} has no problem with a usable gold answer: nothing can be said to be right"
        )
    column = score or next((name for name in COLUMNS if any(name in each.notes for each in made)), "")
    if score and not any(score in each.notes for each in made):
        raise UserError(f"{run or 'the pool'} has no score {score!r} of its samples")
    found = _side_by_side(_classes, kept, [group[0].problem for group in kept])
    problems = tuple(_samples(group, of, shape, column) for group, of in zip(kept, found, strict=True))
    estimated = any(each.trace.tokens == 0 and _counted(each) is None and _written(each.trace) for each in made)
    return Pool(model, budget, run, problems, rate, estimated, len(groups) - len(kept), column)


def budget_name(most: int | None, least: int = 0, waits: int = 0) -> str:
    """A budget of thinking for people: `none`, `64`, `at once`, `least 128`, `Wait × 2`."""
    words = ["at once" if most == 0 else "" if most is None else f"{most:,}"]
    words += [f"least {least:,}" if least else "", f"Wait × {waits}" if waits else ""]
    return ", ".join(word for word in words if word) or "none"


def _check(made: Sequence[Attempt], run: str) -> None:
    where = run or "the pool"
    if not made:
        raise UserError(f"{where} holds no attempts: name a run or a file that does")
    other = next((each.strategy for each in made if not each.strategy.startswith(ONE_TRACE)), "")
    if other:
        raise UserError(f"{where} was made with {other}: a pool needs single samples; make it with thinksmith scale")
    models = sorted({each.trace.model for each in made if each.trace.model})
    if len(models) > 1:
        raise UserError(f"{where} mixes attempts of {' and '.join(models[:3])}: a pool is of one model")


def _says_nothing(attempt: Attempt) -> bool:
    status = attempt.verdict.status
    return status == "bad_gold" or (status == "error" and attempt.trace.finish != "error")


def _side_by_side(of: Callable[[Any], Any], items: Sequence[Any], problems: Sequence[Problem]) -> list[Any]:
    """`of` every item; in threads where judging the problems' kinds waits for a worker."""
    slow = any(VERIFIERS[each.kind].slow for each in problems if each.kind in VERIFIERS)
    if not slow:
        return [of(item) for item in items]
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as threads:
        return list(threads.map(of, items))


def _classes(group: Sequence[Attempt]) -> list[int]:
    """The class of each answer. Texts that are equal are compared once."""
    problem = group[0].problem
    answers = [final(problem, each.trace) for each in group]
    distinct = list(dict.fromkeys(answers))
    numbers = dict(zip(distinct, classes(problem, distinct), strict=True))
    return [-1 if numbers[answer] is None else int(numbers[answer] or 0) for answer in answers]


def _samples(group: Sequence[Attempt], found: Sequence[int], shape: Shape | None, column: str) -> Samples:
    tokens_N = np.array([_tokens(each) for each in group], dtype=np.float64)
    prompt = max(each.trace.prompt_tokens or len(each.trace.prompt_ids) for each in group)
    return Samples(
        problem=group[0].problem,
        class_N=np.array(found, dtype=np.int64),
        right_N=np.array([each.verdict.score for each in group], dtype=np.float64),
        tokens_N=tokens_N,
        flops_N=np.array([flops(shape, int(tokens), prompt) for tokens in tokens_N]),
        seconds_N=np.array([each.trace.seconds for each in group], dtype=np.float64),
        confidence_N=np.array([_confidence(each.trace) for each in group]),
        score_N=np.array([_number(each.notes.get(column)) for each in group]),
        prompt_flops=flops(shape, prompt, 0),
    )


def flops(shape: Shape | None, tokens: int, context: int) -> float:
    """Operations of a forward pass over `tokens` behind `context` others: two for each parameter that a token is
    multiplied by (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), and attention's. NaN without a shape."""
    from thinksmith.fit.speed.speed import attention_flops

    if shape is None:
        return float("nan")
    return 2.0 * shape.active_params * tokens + attention_flops(shape, tokens, context)


def _tokens(attempt: Attempt) -> float:
    counted = _counted(attempt)
    if counted is not None:
        return counted
    lost = attempt.trace.usage.lost_tokens if attempt.trace.usage else 0
    return float(
        attempt.notes.get("spent", attempt.trace.tokens + lost) or -(-len(_written(attempt.trace)) // _CHARACTERS)
    )


def _counted(attempt: Attempt) -> float | None:
    """The tokens that a record tells beside its text."""
    return next((float(attempt.notes[name]) for name in _TOKENS if name in attempt.notes), None)


def _written(trace: Trace) -> str:
    return trace.completion or trace.thinking + trace.answer


def _confidence(trace: Trace) -> float:
    return float("nan") if trace.logprobs is None else mean_probability(trace)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _of_sample(meta: Mapping[str, Any], name: str, sample: int) -> float | None:
    """The value of a column for one of the responses of its row; None where it has none."""
    value = meta.get(name)
    if isinstance(value, list):
        value = value[sample] if sample < len(value) else None
    number = _number(value)
    return None if np.isnan(number) else number
