"""`thinksmith scale`: a grid of models and budgets, a pool of single samples for each, and the curves that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.evaluate.scaling.curve import Axis, Curves, EqualSpend, Point, Reach, same_problems
from thinksmith.evaluate.scaling.orders import Drawing
from thinksmith.evaluate.scaling.policies import POLICIES, Expected, Policy, expect
from thinksmith.evaluate.scaling.pool import ONE_TRACE, Pool, budget_name, pool_of_run
from thinksmith.evaluate.summary import scores_by_problem
from thinksmith.fit.shapes.shape import Shape
from thinksmith.records import Attempt, Problem, Sampling
from thinksmith.store.store import Store


@dataclass(frozen=True, slots=True)
class Setting:
    """A budget of thinking, as in s1 (Muennighoff et al. 2025, arXiv:2501.19393).

    At `most` so many tokens (None: no bound; 0: answers at once), at `least` so many, where "Wait" takes the place of
    an end that comes too soon. `waits`: the end is put off so many times by a "Wait", whatever the length.
    """

    most: int | None = None
    least: int = 0
    waits: int = 0

    @property
    def name(self) -> str:
        return budget_name(self.most, self.least, self.waits)

    @property
    def strategy(self) -> str:
        return f"budget:waits={self.waits}" if self.waits else "single"

    def of(self, sampling: Sampling) -> Sampling:
        """The sampling with this budget; a forced minimum comes on top of the tokens that a completion may have, and
        so does another thought behind each "Wait"."""
        return replace(
            sampling,
            max_tokens=sampling.max_tokens * (1 + self.waits) + self.least,
            max_thinking_tokens=self.most,
            min_thinking_tokens=self.least,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What was worked out: the curves, the cheapest ways to the goals, the comparison at equal spend, and `notes`, a
    sentence each, on what the figures do not say."""

    title: str
    axis: Axis
    curves: Curves
    front: tuple[int, ...]
    reach: tuple[Reach, ...]
    equal: tuple[EqualSpend, ...]
    notes: tuple[str, ...]
    pools: tuple[Pool, ...]


def parse_settings(budgets: str, least: str = "", waits: str = "") -> list[Setting]:
    """The settings of `--budgets 32,64,none`, `--least 128,256` and `--waits 1,2,4`. Raises UserError."""
    made = [Setting(_number(text, "--budgets", "none")) for text in _list(budgets)]
    made += [Setting(least=_positive(text, "--least")) for text in _list(least)]
    made += [Setting(waits=_positive(text, "--waits")) for text in _list(waits)]
    if not made:
        raise UserError("--budgets needs at least one: numbers of thinking tokens, 0 for an answer at once, or none")
    return list(dict.fromkeys(made))


def make_pool(
    problems: Sequence[Problem],
    engine: Engine,
    setting: Setting,
    *,
    sampling: Sampling,
    store: Store,
    name: str,
    samples: int,
    shape: Shape | None = None,
    on_attempt: Callable[[Attempt], None] | None = None,
) -> Pool:
    """The pool of one model and setting: the run of the store that has it, gone on with or begun where it must be.

    Raises UserError for a budget that the engine cannot keep, and whatever `evaluate` does.
    """
    if setting != Setting() and not engine.info.budget:
        raise UserError(
            f"{engine.info.name} keeps no budget of thinking: leave only none in --budgets, and no --least or --waits"
        )
    run_id, _ = evaluate(
        problems,
        engine,
        sampling=setting.of(sampling),
        store=store,
        name=name,
        samples=samples,
        strategy=setting.strategy,
        reuse=True,
        on_attempt=on_attempt,
    )
    return pool_of_run(store, run_id, shape=shape)


def sizes_up_to(samples: int) -> list[int]:
    """1, 2, 4, … and the number of samples itself."""
    return sorted({2**power for power in range(samples.bit_length())} | {samples})


def work_out(
    pools: Sequence[Pool],
    policies: Sequence[Policy],
    *,
    title: str,
    axis: Axis = "tokens",
    reach: Sequence[float] = (),
    sizes: Sequence[int] = (),
    own: Sequence[Point] = (),
    seed: int = 0,
) -> Scale:
    """The curves of the policies over the pools. `sizes`: samples of each (default: `sizes_up_to`); `own`: points of
    runs that are no pools. Only problems that all have are counted.

    Raises UserError for no pool, no shared problem, what `expect` raises, and an axis that nothing is known on.
    """
    if not pools and not own:
        raise UserError("there is nothing to draw: name problems, --runs or --recorded")
    pools, own, dropped = _shared(pools, own)
    labels = _labels(pools)
    points: list[Point] = []
    for pool, label in zip(pools, labels, strict=True):
        for policy in policies:
            expected = expect(pool, policy, sizes or sizes_up_to(pool.samples), Drawing(seed=seed))
            points += [_point(pool, label, policy, each) for each in expected]
    curves = Curves((*points, *own))
    if not any(np.isfinite(point.x(axis)) for point in curves.points):
        lacks = {"flops": "the shape of the model is not known", "seconds": "the speed of the run was not measured"}
        raise UserError(f"nothing to draw over {axis}: {lacks.get(axis, 'no tokens were counted')}; use --x tokens")
    equal = [found for spend in curves.spends(axis) if (found := curves.equal_spend(spend, axis))]
    return Scale(
        title=title,
        axis=axis,
        curves=curves,
        front=curves.front(axis),
        reach=tuple(curves.reach(target, axis) for target in reach),
        equal=tuple(equal),
        notes=tuple(_notes(pools, policies, curves, axis, dropped)),
        pools=tuple(pools),
    )


def point_of_run(store: Store, run_id: str) -> Point:
    """A run of any strategy as one point: its own samples, nothing worked out. UserError where nothing is judged."""
    run = store.run(run_id)
    attempts = [stored.attempt for stored in store.attempts(run.id)]
    scores = scores_by_problem(attempts)
    if not scores:
        raise UserError(f"run {run.id} has no attempt with a usable gold answer: nothing can be said to be right")
    costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in scores}
    for each in attempts:
        if each.problem.id in costs:
            spent = float(each.notes.get("spent", each.trace.tokens))
            costs[each.problem.id].append((spent, float("nan"), float(each.notes.get("traces", 1))))
    problems = {each.problem.id: each.problem for each in attempts}
    spec = str(run.config.get("strategy", attempts[0].strategy))
    return Point(
        series=f"{run.model} {spec}",
        model=run.model,
        budget="",
        strategy=spec,
        size=1,
        run=run.id,
        problems=tuple(problems[name] for name in scores),
        score_P=np.array([np.mean(score) for score in scores.values()]),
        cost_PX=np.array([np.mean(costs[name], axis=0) for name in scores]),
        rate=run.summary.get("tokens_per_s"),
        own=True,
        trials=sum(map(len, scores.values())) / len(scores),
    )


def is_pool(store: Store, run_id: str) -> bool:
    """Is this a run of single samples?"""
    return str(store.run(run_id).config.get("strategy", "single")).partition(":")[0].partition("=")[0] in ONE_TRACE


def known_shape(model: str) -> Shape | None:
    """The shape of a model by its name; None where none is known without asking the network."""
    from pathlib import Path

    from thinksmith import models
    from thinksmith.fit.shapes.catalogue import catalogue, find_shape

    called = {name.casefold() for each in catalogue().values() for name in (each.id, *each.names)}
    called |= {each.rpartition("/")[2] for each in called}
    for name in (model, model.partition(":")[0], model.partition("/")[2]):
        if name in models.EMBEDDED or name.casefold() in called or (name and (Path(name) / "config.json").is_file()):
            with suppress(UserError):
                return find_shape(name)
    return None


def _list(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(",") if piece.strip()]


def _number(text: str, option: str, none: str = "") -> int | None:
    if none and text.casefold() == none:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{option}: {text!r} is no number" + (f" of thinking tokens, and not {none!r}" if none else ""))
    return int(text)


def _positive(text: str, option: str) -> int:
    number = _number(text, option)
    if not number:
        raise UserError(f"{option} takes numbers from 1 on, not {text!r}")
    return number


def _shared(pools: Sequence[Pool], own: Sequence[Point]) -> tuple[list[Pool], list[Point], int]:
    """Pools and points with only the problems that all of them have, and how many were dropped."""
    found = [tuple(each.problem for each in pool.problems) for pool in pools] + [point.problems for point in own]
    ids = [[problem.id for problem in problems] for problems in found]
    shared = same_problems(ids)
    if not shared:
        raise UserError("these runs share no problem: they cannot stand in one chart")
    runs = [*(pool.run for pool in pools), *(point.run for point in own)]
    for run, problems in zip(runs[1:], found[1:], strict=True):
        _same_gold(runs[0], found[0], run, problems)
    kept = [_only(pool, shared) for pool in pools], [_point_only(point, shared) for point in own]
    return *kept, max(map(len, ids)) - len(shared)


def _same_gold(one: str, problems: Sequence[Problem], other: str, others: Sequence[Problem]) -> None:
    known = {problem.id: problem for problem in problems}
    for problem in others:
        twin = known.get(problem.id)
        if twin and (twin.text, twin.answer) != (problem.text, problem.answer):
            raise UserError(f"{one} and {other} mean different problems by {problem.id!r}: rename them")


def _only(pool: Pool, ids: Sequence[str]) -> Pool:
    found = {each.problem.id: each for each in pool.problems}
    return replace(pool, problems=tuple(found[name] for name in ids))


def _point_only(point: Point, ids: Sequence[str]) -> Point:
    place = {problem.id: at for at, problem in enumerate(point.problems)}
    chosen = [place[name] for name in ids]
    problems = tuple(point.problems[at] for at in chosen)
    return replace(point, problems=problems, score_P=point.score_P[chosen], cost_PX=point.cost_PX[chosen])


def _labels(pools: Sequence[Pool]) -> list[tuple[str, str, str]]:
    """For each pool: the model's name in a series, the budget's where it needs one, and the run's where both repeat."""
    models = {pool.model for pool in pools}
    kinds = [(pool.model, pool.budget) for pool in pools]
    many = {model: len({budget for name, budget in kinds if name == model}) > 1 for model in models}
    labels = []
    for pool in pools:
        model = pool.model if len(models) > 1 else ""
        again = f" ({pool.run[:12]})" if kinds.count((pool.model, pool.budget)) > 1 else ""
        labels.append((model + again, pool.budget if many[pool.model] else "", pool.budget))
    return labels


def _point(pool: Pool, label: tuple[str, str, str], policy: Policy, each: Expected) -> Point:
    model, shown, budget = label
    if policy.name == "single":
        # Budgets are the points of one curve: what thinking longer brings, before any vote.
        forced = next((word for word in ("least", "Wait") if word in budget), "")
        name = f"single, forced ({'minimum' if forced == 'least' else 'Wait'})" if forced else "single"
    else:
        name = policy.spec + (f" of {shown}" if shown else "")
    return Point(
        series=f"{model} {name}".strip(),
        model=pool.model,
        budget=budget,
        strategy=policy.spec,
        size=each.size,
        run=pool.run,
        problems=tuple(samples.problem for samples in pool.problems),
        score_P=each.score_P,
        cost_PX=each.cost_PX,
        rate=pool.rate,
        exact=policy.exact,
        oracle=policy.oracle,
        trials=pool.samples / each.size,
    )


def _notes(
    pools: Sequence[Pool], policies: Sequence[Policy], curves: Curves, axis: Axis, dropped: int
) -> Iterable[str]:
    if pools:
        yield (
            f"{curves.problems:,} problems, {min(pool.samples for pool in pools)} samples each; every size of a "
            "strategy is worked out from these without bias; another budget changes the traces, so each has its own"
        )
        yield "where k is all the samples there is one set of them: no bias, but no averaging over sets either"
    if any(policy.name == "confident" for policy in policies):
        yield "confident drops weak traces whole; what stopping them early would save is not in a pool and not counted"
    if any(policy.weight == "recorded" for policy in policies):
        yield "what a scorer costs is not in the tokens"
    if any(policy.oracle for policy in policies):
        yield f"pass: {POLICIES['pass'].about}"
    if any(pool.estimated for pool in pools):
        yield "nobody counted the tokens of some samples: they are characters over 4"
    if dropped or any(pool.left_out for pool in pools):
        left_out = dropped + max((pool.left_out for pool in pools), default=0)
        yield f"{left_out} problems are left out: not in every run, no usable gold, or fewer samples than the others"
    missing = sum(not np.isfinite(point.x(axis)) for point in curves.points)
    if missing:
        yield f"{missing} points are not drawn: nothing is known of their {axis}"
    if axis == "seconds":
        yield "seconds are tokens over the rate of the whole run, many problems at a time: throughput, not waiting time"
    if axis == "flops":
        yield "FLOPs are 2 × parameters × tokens and attention's; a prompt is counted once for all of its samples"
