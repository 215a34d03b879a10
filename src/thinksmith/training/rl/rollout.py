"""Rollouts: groups of completions of a step's problems, verified and rewarded, until the batch is full."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from thinksmith.engines.contract import Engine
from thinksmith.records import Attempt, Request, Sampling, Trace
from thinksmith.strategies.single import problem_seed
from thinksmith.training.ranks import ALONE, Ranks
from thinksmith.training.rl.episodes import Episode, play
from thinksmith.training.rl.prompts import Drawn, Prompts
from thinksmith.training.rl.recipe import AgentTable, RolloutTable
from thinksmith.training.rl.rewards import Scorer
from thinksmith.verify import verify_all

Parts = Mapping[str, float | None]

UNJUDGED = ("error", "bad_gold")  # verdicts that say nothing about the model


@dataclass(frozen=True, slots=True)
class Draws:
    """What a batch cost, in groups of all ranks. `groups`: asked; of these `dead`: without variance, or with nothing
    left to learn from; `errors`: with fewer than two rewards; `surplus`: good, but the batch was full. `rounds`: how
    often the engine was asked. `aside`: problems whose turn came while the curriculum had put them aside."""

    groups: int = 0
    dead: int = 0
    errors: int = 0
    surplus: int = 0
    rounds: int = 0
    aside: int = 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """The attempts that a step trains on, and what they cost; of several ranks each has its own.

    `groups[i]` is the group (from 0, in the order drawn by all ranks) of attempt i, `rewards[i]` its reward, `parts[i]`
    its rewards by name, `masked[i]` whether its tokens are left out of the loss (the reward counts in its group all the
    same). `wasted` are the attempts of the groups that are not trained on, with their rewards and parts.
    """

    attempts: tuple[Attempt, ...]
    groups: tuple[int, ...]
    rewards: tuple[float | None, ...]
    parts: tuple[Parts, ...]
    draws: Draws = Draws()
    masked: tuple[bool, ...] = ()
    wasted: tuple[Attempt, ...] = ()
    wasted_rewards: tuple[float | None, ...] = ()
    wasted_parts: tuple[Parts, ...] = ()
    sample_seconds: float = 0.0
    verify_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Group:
    """One problem, asked `num_generations` times."""

    drawn: Drawn
    attempts: tuple[Attempt, ...]
    rewards: tuple[float | None, ...]
    parts: tuple[Parts, ...]
    masked: tuple[bool, ...]

    @property
    def lost(self) -> bool:
        return len(self.rewards) - self.rewards.count(None) < 2

    @property
    def dead(self) -> bool:
        """All advantages are 0, or all that have one are masked."""
        rewards = {reward for reward in self.rewards if reward is not None}
        seen = any(reward is not None and not off for reward, off in zip(self.rewards, self.masked, strict=True))
        return not self.lost and (len(rewards) < 2 or not seen)

    @property
    def outcome(self) -> _Outcome:
        judged = [attempt.verdict for attempt in self.attempts if attempt.verdict.status not in UNJUDGED]
        correct = sum(verdict.correct for verdict in judged)
        return _Outcome(self.drawn.draw, self.drawn.problem.id, self.lost, self.dead, correct, len(judged))


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What all ranks must know of a group."""

    draw: int
    problem_id: str
    lost: bool
    dead: bool
    correct: int
    judged: int

    @property
    def live(self) -> bool:
        return not self.lost and not self.dead


@dataclass(slots=True)
class _Clock:
    sample_seconds: float = 0.0
    verify_seconds: float = 0.0


def roll_out(
    engine: Engine,
    prompts: Prompts,
    rollout: RolloutTable,
    scorer: Scorer,
    *,
    seed: int,
    step: int,
    ranks: Ranks = ALONE,
    agent: AgentTable | None = None,
) -> Rollout:
    """The batch of `step` (from 0): `rollout.prompts` groups of `rollout.num_generations` completions; of an `agent`
    each is a trajectory, judged by its world where that judges, and rewarded once, for its end.

    With `dynamic_sampling` it is filled with groups that have variance (Yu et al. 2025, arXiv:2503.14476, section 3.2):
    those without are left out, and as many are drawn again as are missing, divided by the share that was good so far,
    until the batch is full or `max_draws * prompts` groups were asked. Then the batch is smaller, at worst empty. The
    first good ones in the order drawn are used, so which they are does not depend on what the engine finished first.

    The curriculum learns from every group. Tokens are a function of (seed, problem, draw) alone.

    Of several ranks each asks its share of every round, and all learn what came of all groups. So together they have
    the groups of one process with `size` times as many prompts, and their `prompts` stay equal.
    """
    passed_over = prompts.counts.skipped
    groups: list[_Group] = []
    outcomes: list[_Outcome] = []  # of all ranks, in the order drawn
    clock = _Clock()
    rounds = 0
    batch = due = rollout.prompts * ranks.size
    while due:
        drawn = prompts.take(due, step, besides={outcome.problem_id for outcome in outcomes})
        asked = _ask(engine, ranks.own(drawn), rollout, agent, scorer, seed, step, clock)
        groups += asked
        outcomes += sorted(ranks.joined([group.outcome for group in asked]), key=lambda outcome: outcome.draw)
        rounds += 1
        live = sum(outcome.live for outcome in outcomes)
        due = _due(live, len(outcomes), batch, rollout.max_draws) if rollout.dynamic_sampling else 0
    for outcome in outcomes:
        prompts.note(outcome.problem_id, outcome.correct, outcome.judged, step)
    used = [outcome for outcome in outcomes if outcome.live][:batch] if rollout.dynamic_sampling else outcomes
    prompts.keep(len(used))
    draws = Draws(
        groups=len(outcomes),
        dead=sum(outcome.dead for outcome in outcomes),
        errors=sum(outcome.lost for outcome in outcomes),
        surplus=sum(outcome.live for outcome in outcomes) - sum(outcome.live for outcome in used),
        rounds=rounds,
        aside=prompts.counts.skipped - passed_over,
    )
    return _joined(groups, {outcome.draw: place for place, outcome in enumerate(used)}, draws, clock)


def sampling_of(rollout: RolloutTable, seed: int = 0) -> Sampling:
    """How the recipe's completions are drawn."""
    return Sampling(
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        min_p=rollout.min_p,
        seed=seed,
        max_tokens=rollout.max_tokens,
        max_thinking_tokens=rollout.max_thinking_tokens or None,
    )


def _due(live: int, asked: int, batch: int, max_draws: float) -> int:
    """How many groups to draw next; 0 when the batch is full or the cap is reached. Whole numbers: no rounding errs."""
    missing = batch - live
    left = int(max_draws * batch) - asked
    if missing <= 0 or left <= 0:
        return 0
    return min(left, -(-missing * asked // live)) if live else left


def _ask(
    engine: Engine,
    drawn: Sequence[Drawn],
    rollout: RolloutTable,
    agent: AgentTable | None,
    scorer: Scorer,
    seed: int,
    step: int,
    clock: _Clock,
) -> list[_Group]:
    """One round: sampled, then verified side by side, then rewarded together."""
    if not drawn:  # fewer were due than there are ranks
        return []
    began = time.perf_counter()
    size = rollout.num_generations
    episodes = (
        _completions(engine, drawn, rollout, seed) if agent is None else _played(engine, drawn, rollout, agent, seed)
    )
    sampled = time.perf_counter()
    attempts = _attempts(drawn, episodes, size)
    totals, parts = scorer(attempts)
    attempts = tuple(
        replace(attempt, notes={**attempt.notes, "step": step + 1, "reward": total, "rewards": dict(each)})
        for attempt, total, each in zip(attempts, totals, parts, strict=True)
    )
    clock.sample_seconds += sampled - began
    clock.verify_seconds += time.perf_counter() - sampled
    masked = tuple(rollout.mask_truncated_completions and cut_off(attempt.trace) for attempt in attempts)
    spans = [slice(place * size, (place + 1) * size) for place in range(len(drawn))]
    return [
        _Group(one, attempts[span], totals[span], parts[span], masked[span])
        for one, span in zip(drawn, spans, strict=True)
    ]


def _completions(engine: Engine, drawn: Sequence[Drawn], rollout: RolloutTable, seed: int) -> list[list[Episode]]:
    """Episodes of one turn."""
    base = sampling_of(rollout)
    traces = engine.sample_all(
        [
            Request(
                messages=one.problem.messages,
                n=rollout.num_generations,
                sampling=replace(base, seed=problem_seed(seed, one.problem.id, one.draw)),
            )
            for one in drawn
        ]
    )
    return [[Episode(trace) for trace in group] for group in traces]


def _played(
    engine: Engine, drawn: Sequence[Drawn], rollout: RolloutTable, agent: AgentTable, seed: int
) -> list[list[Episode]]:
    size = rollout.num_generations
    asked = [(one.problem, range(one.draw * size, (one.draw + 1) * size)) for one in drawn]
    return play(engine, asked, sampling_of(rollout, seed), agent)


def _attempts(drawn: Sequence[Drawn], episodes: Sequence[Sequence[Episode]], size: int) -> tuple[Attempt, ...]:
    """With their verdicts: those of their worlds, and the verifiers' side by side."""
    of = [
        (one.problem, episode, one.draw * size + index)
        for one, group in zip(drawn, episodes, strict=True)
        for index, episode in enumerate(group)
    ]
    verified = iter(verify_all((problem, episode.trace) for problem, episode, _ in of if episode.verdict is None))
    return tuple(
        Attempt(problem, episode.trace, episode.verdict or next(verified), sample, "grpo", episode.notes)
        for problem, episode, sample in of
    )


def cut_off(trace: Trace) -> bool:
    """Whether the tokens ran out before the model ended its turn: by `max_tokens`, or by the end of the context."""
    return trace.finish in ("length", "budget")


def _joined(groups: Sequence[_Group], places: Mapping[int, int], draws: Draws, clock: _Clock) -> Rollout:
    """`places`: which draws are used, as which groups."""
    used = [group for group in groups if group.drawn.draw in places]
    rest = [group for group in groups if group.drawn.draw not in places]
    return Rollout(
        attempts=tuple(attempt for group in used for attempt in group.attempts),
        groups=tuple(places[group.drawn.draw] for group in used for _ in group.attempts),
        rewards=tuple(reward for group in used for reward in group.rewards),
        parts=tuple(parts for group in used for parts in group.parts),
        draws=draws,
        masked=tuple(off for group in used for off in group.masked),
        wasted=tuple(attempt for group in rest for attempt in group.attempts),
        wasted_rewards=tuple(reward for group in rest for reward in group.rewards),
        wasted_parts=tuple(parts for group in rest for parts in group.parts),
        sample_seconds=clock.sample_seconds,
        verify_seconds=clock.verify_seconds,
    )
