"""Rollouts: the batch that a step trains on, what it took to fill it, and that it hangs on nothing but its seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_kit import word_policy

from thinksmith.engines.contract import Delta, EngineInfo
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.records import Attempt, Problem, Request, Trace
from thinksmith.strategies.single import problem_seed
from thinksmith.training.rl.prompts import Prompts
from thinksmith.training.rl.recipe import CurriculumTable, RolloutTable
from thinksmith.training.rl.rollout import Draws, Rollout, roll_out

OFF = CurriculumTable()


def pool_of(size: int) -> list[Problem]:
    return [Problem(f"p/{i}", f"say yes {i}", "yes", "exact") for i in range(size)]


class FakeEngine:
    """Answers by the request's seed alone. Each problem has its own chance of being solved, and of failing."""

    info = EngineInfo("fake", logprobs=True)
    room = 1000

    def __init__(self, *, chances: Sequence[float] = (0.0, 0.5, 1.0), failing: float = 0.0, order: int = 0) -> None:
        self.chances, self.failing, self.order = chances, failing, order
        self.requests: list[Request] = []

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        self.requests += requests
        done: dict[int, list[Trace]] = {}
        for index in Random(self.order).sample(range(len(requests)), len(requests)):  # some finish earlier
            done[index] = self._traces(requests[index])
        return [done[index] for index in range(len(requests))]

    def _traces(self, request: Request) -> list[Trace]:
        rng = Random(request.sampling.seed)
        chance = Random(request.messages[0]["content"]).choice(self.chances)
        if rng.random() < self.failing:
            return [Trace("", "", finish="error", error="broken")] * request.n
        return [self._trace(rng, chance, request) for _ in range(request.n)]

    def _trace(self, rng: Random, chance: float, request: Request) -> Trace:
        if rng.random() < 0.2:
            return Trace("hm", "", token_ids=(6, 6), logprobs=(-1.0, -1.0), finish="length")
        word = "yes" if rng.random() < chance else "no"
        return Trace("hm", word, token_ids=(5, rng.randrange(9)), logprobs=(-1.0, -1.0), sampling=request.sampling)

    async def sample(self, request: Request) -> list[Trace]:
        raise NotImplementedError

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        raise NotImplementedError

    async def aclose(self) -> None: ...


def scorer(
    attempts: Sequence[Attempt],
) -> tuple[tuple[float | None, ...], tuple[Mapping[str, float | None], ...]]:
    totals = tuple(None if one.verdict.status == "error" else one.verdict.score for one in attempts)
    return totals, tuple({"correctness": total} for total in totals)


def timeless(rollout: Rollout) -> Rollout:
    return replace(rollout, sample_seconds=0.0, verify_seconds=0.0)


def by_group(rollout: Rollout) -> list[list[int]]:
    """The places of each group's attempts."""
    return [
        [i for i, group in enumerate(rollout.groups) if group == g] for g in range(max(rollout.groups, default=-1) + 1)
    ]


dynamic = st.builds(
    RolloutTable,
    prompts=st.integers(1, 8),
    num_generations=st.integers(2, 6),
    dynamic_sampling=st.just(True),
    max_draws=st.sampled_from([1.0, 1.5, 2.0, 4.0, 7.3]),
    mask_truncated_completions=st.booleans(),
)
engines = st.builds(
    FakeEngine,
    chances=st.sampled_from([(0.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.5,), (0.0, 0.1)]),
    failing=st.sampled_from([0.0, 0.3, 1.0]),
)


@given(st.integers(1, 20), dynamic, engines, st.integers(0, 3))
def test_dynamic_sampling_fills_the_batch_with_groups_to_learn_from(
    size: int, table: RolloutTable, engine: FakeEngine, seed: int
) -> None:
    prompts = Prompts(pool_of(size), seed, OFF)
    for step in range(2):
        asked = len(engine.requests)
        rollout = roll_out(engine, prompts, table, scorer, seed=seed, step=step)
        draws, groups, g = rollout.draws, by_group(rollout), table.num_generations
        for places in groups:
            rewards = [rollout.rewards[i] for i in places if rollout.rewards[i] is not None]
            assert len(places) == g
            assert len(rewards) > 1
            assert len(set(rewards)) > 1
            assert len({rollout.attempts[i].problem.id for i in places}) == 1
        assert len(groups) + draws.dead + draws.errors + draws.surplus == draws.groups == len(engine.requests) - asked
        assert len(rollout.wasted) == (draws.groups - len(groups)) * g
        assert draws.groups <= max(table.prompts, table.max_draws * table.prompts)
        if len(groups) < table.prompts:
            assert draws.groups == int(table.max_draws * table.prompts)
            assert draws.surplus == 0
        assert len(groups) <= table.prompts
        of_rollout = [rollout.attempts, rollout.groups, rollout.rewards, rollout.parts, rollout.masked]
        assert {len(part) for part in of_rollout} == {len(groups) * g}
        wasted = [rollout.wasted, rollout.wasted_rewards, rollout.wasted_parts]
        assert {len(part) for part in wasted} == {len(rollout.wasted)}


@given(st.integers(1, 20), dynamic, engines, st.integers(0, 3))
def test_the_first_good_groups_in_the_order_drawn_are_used(
    size: int, table: RolloutTable, engine: FakeEngine, seed: int
) -> None:
    rollout = roll_out(engine, Prompts(pool_of(size), seed, OFF), table, scorer, seed=seed, step=0)
    rest = zip(rollout.wasted, rollout.wasted_rewards, strict=True)
    good: dict[int, set[float]] = {}
    for attempt, reward in [*zip(rollout.attempts, rollout.rewards, strict=True), *rest]:
        if reward is not None:
            good.setdefault(attempt.sample // table.num_generations, set()).add(reward)
    first = sorted(draw for draw, rewards in good.items() if len(rewards) > 1)[: table.prompts]
    used = [attempt.sample // table.num_generations for attempt in rollout.attempts]
    assert sorted(set(used)) == first
    assert used == sorted(used)


@given(st.integers(1, 12), dynamic, st.integers(1, 9))
def test_what_finishes_earlier_changes_nothing(size: int, table: RolloutTable, order: int) -> None:
    one, other = (
        roll_out(FakeEngine(order=o), Prompts(pool_of(size), 0, OFF), table, scorer, seed=0, step=0) for o in (0, order)
    )
    assert timeless(one) == timeless(other)


@settings(max_examples=40)
@given(st.integers(1, 12), dynamic, st.booleans(), st.integers(0, 5))
def test_a_resumed_run_rolls_out_the_same(size: int, table: RolloutTable, fill: bool, stop: int) -> None:
    table = table.model_copy(update={"dynamic_sampling": fill})
    curriculum = CurriculumTable(measure=1, again=3)

    def steps(prompts: Prompts, start: int, end: int) -> list[Rollout]:
        engine = FakeEngine(failing=0.1)
        return [timeless(roll_out(engine, prompts, table, scorer, seed=3, step=step)) for step in range(start, end)]

    whole = steps(Prompts(pool_of(size), 3, curriculum), 0, 6)
    began = Prompts(pool_of(size), 3, curriculum)
    first = steps(began, 0, stop)
    resumed = Prompts(pool_of(size), 3, curriculum)
    resumed.restore(began.state())
    assert first + steps(resumed, stop, 6) == whole


@given(st.integers(1, 5), st.integers(1, 8), st.booleans())
def test_attempts_never_share_a_number_or_a_seed_however_small_the_pool(size: int, prompts: int, fill: bool) -> None:
    engine = FakeEngine()
    table = RolloutTable(prompts=prompts, num_generations=2, dynamic_sampling=fill)
    source = Prompts(pool_of(size), 0, OFF)
    made: list[Attempt] = []
    for step in range(4):
        rollout = roll_out(engine, source, table, scorer, seed=7, step=step)
        made += [*rollout.attempts, *rollout.wasted]
    assert sorted(attempt.sample for attempt in made) == list(range(len(made)))
    assert len({request.sampling.seed for request in engine.requests}) == len(engine.requests)
    seeds = {problem_seed(7, one.problem.id, one.sample // 2) for one in made}
    assert seeds == {request.sampling.seed for request in engine.requests}


def test_without_dynamic_sampling_all_groups_are_used() -> None:
    engine = FakeEngine(chances=(0.0, 1.0))
    table = RolloutTable(prompts=5, num_generations=4, max_tokens=9, top_p=0.9, top_k=7, min_p=0.1, temperature=0.7)
    prompts = Prompts(pool_of(20), 0, OFF)
    rollout = roll_out(engine, prompts, table, scorer, seed=0, step=0)
    assert rollout.groups == tuple(group for group in range(5) for _ in range(4))
    dead = sum(len({rollout.rewards[i] for i in places}) == 1 for places in by_group(rollout))
    assert rollout.draws == Draws(groups=5, dead=dead, rounds=1)
    assert dead > 0
    assert rollout.wasted == ()
    assert prompts.counts.kept == 5
    for request in engine.requests:
        s = request.sampling
        assert (s.temperature, s.top_p, s.top_k, s.min_p, s.max_tokens) == (0.7, 0.9, 7, 0.1, 9)
        assert (s.max_thinking_tokens, request.n) == (None, 4)


def test_a_thinking_budget_is_asked_for() -> None:
    engine = FakeEngine()
    table = RolloutTable(prompts=1, num_generations=2, max_thinking_tokens=5)
    roll_out(engine, Prompts(pool_of(1), 0, OFF), table, scorer, seed=0, step=0)
    assert engine.requests[0].sampling.max_thinking_tokens == 5


def test_as_many_are_drawn_again_as_are_missing_by_the_share_that_was_good() -> None:
    engine = FakeEngine(chances=(0.0, 0.0, 0.5))
    table = RolloutTable(prompts=16, num_generations=16, dynamic_sampling=True, max_draws=100.0)
    sizes: list[int] = []
    ask = engine.sample_all
    engine.sample_all = lambda requests: (sizes.append(len(requests)), ask(requests))[1]  # type: ignore[method-assign]
    rollout = roll_out(engine, Prompts(pool_of(2000), 0, OFF), table, scorer, seed=0, step=0)
    assert (sizes[0], len(sizes)) == (16, rollout.draws.rounds)
    everything = sorted([*rollout.attempts, *rollout.wasted], key=lambda attempt: attempt.sample)
    solved = Counter(attempt.sample // 16 for attempt in everything if attempt.verdict.correct)
    asked = 16
    for size in sizes[1:]:
        live = sum(0 < solved[draw] < 16 for draw in range(asked))
        assert size == -(-(16 - live) * asked // live)
        asked += size


@pytest.mark.parametrize("mask", [False, True])
def test_masked_are_the_completions_that_were_cut_off_and_their_rewards_count(mask: bool) -> None:
    table = RolloutTable(prompts=8, num_generations=8, mask_truncated_completions=mask)
    rollout = roll_out(FakeEngine(), Prompts(pool_of(8), 0, OFF), table, scorer, seed=0, step=0)
    assert rollout.masked == tuple(mask and one.trace.finish == "length" for one in rollout.attempts)
    assert any(one.trace.finish == "length" for one in rollout.attempts)
    assert None not in rollout.rewards


@pytest.mark.parametrize(("rewarded", "expected"), [(0, "errors"), (1, "errors"), (2, "used"), (3, "used")])
def test_a_group_with_fewer_than_two_rewards_is_lost_to_errors(rewarded: int, expected: str) -> None:
    def some(attempts: Sequence[Attempt]) -> tuple[tuple[float | None, ...], tuple[dict[str, float | None], ...]]:
        totals = tuple(float(one.sample % 4) if one.sample % 4 < rewarded else None for one in attempts)
        return totals, tuple({"own": total} for total in totals)

    table = RolloutTable(prompts=3, num_generations=4, dynamic_sampling=True, max_draws=2.0)
    rollout = roll_out(FakeEngine(), Prompts(pool_of(9), 0, OFF), table, some, seed=0, step=0)
    assert rollout.draws == (Draws(6, errors=6, rounds=2) if expected == "errors" else Draws(3, rounds=1))


def test_what_the_curriculum_passed_over_is_counted() -> None:
    prompts = Prompts(pool_of(12), 0, CurriculumTable(measure=1))
    table = RolloutTable(prompts=4, num_generations=4)
    engine = FakeEngine(chances=(0.0, 0.5))
    aside = [roll_out(engine, prompts, table, scorer, seed=0, step=step).draws.aside for step in range(9)]
    assert aside[:3] == [0, 0, 0]
    assert sum(aside) == prompts.counts.skipped > 0


class CutOff(FakeEngine):
    def _trace(self, rng: Random, chance: float, request: Request) -> Trace:
        return Trace("", "", token_ids=(6,) * rng.randint(1, 9), logprobs=(), finish=rng.choice(["length", "budget"]))


@pytest.mark.parametrize("mask", [False, True])
def test_a_group_that_is_masked_as_a_whole_is_dead(mask: bool) -> None:
    def by_length(attempts: Sequence[Attempt]) -> tuple[tuple[float, ...], tuple[dict[str, float], ...]]:
        totals = tuple(float(attempt.trace.tokens) for attempt in attempts)
        return totals, tuple({"tokens": total} for total in totals)

    table = RolloutTable(prompts=4, num_generations=8, dynamic_sampling=True, mask_truncated_completions=mask)
    rollout = roll_out(CutOff(), Prompts(pool_of(9), 0, OFF), table, by_length, seed=0, step=0)
    assert rollout.draws == (Draws(16, dead=16, rounds=2) if mask else Draws(4, rounds=1))
    assert len(rollout.attempts) == (0 if mask else 32)


def test_the_curriculum_learns_from_every_group_and_from_no_failure() -> None:
    pool = pool_of(12)
    table = RolloutTable(prompts=4, num_generations=6, dynamic_sampling=True, max_draws=3.0)
    prompts = Prompts(pool, 0, CurriculumTable(measure=1))
    rollout = roll_out(FakeEngine(chances=(0.0, 1.0), failing=0.3), prompts, table, scorer, seed=0, step=5)
    told = prompts.state()["curriculum"]
    expected: dict[str, list[int]] = {}
    for attempt in (*rollout.attempts, *rollout.wasted):
        numbers = expected.setdefault(attempt.problem.id, [5])
        if attempt.verdict.status != "error":
            numbers[1:] = numbers[1:] or [0, 0]
            numbers[1] += attempt.verdict.correct
            numbers[2] += 1
    assert rollout.draws.errors
    assert told == expected


def test_the_local_engine_fills_a_batch_and_repeats_itself() -> None:
    policy = word_policy(seed=1)
    pool = [Problem(f"say/{word}", f"say {word}", word, "exact") for word in ("yes", "no")]
    table = RolloutTable(prompts=2, num_generations=96, max_tokens=6, dynamic_sampling=True, max_draws=8.0)
    one, other = (roll_out(LocalEngine(policy), Prompts(pool, 0, OFF), table, scorer, seed=0, step=0) for _ in range(2))
    assert [(a.sample, a.trace.token_ids, a.trace.logprobs) for a in one.attempts] == [
        (a.sample, a.trace.token_ids, a.trace.logprobs) for a in other.attempts
    ]
    assert len(by_group(one)) == 2
    assert one.draws.groups <= 16
    assert min(one.sample_seconds, one.verify_seconds) > 0
