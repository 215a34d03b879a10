"""The numbers of a rollout: each against a plain count over the attempts, and laws of the sample."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.audit.audit import audit
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.training.rl import metrics
from thinksmith.training.rl.metrics import describe
from thinksmith.training.rl.rollout import Draws, Rollout

THOUGHTS = (
    "27 * 4 = 108.",
    "27 * 4 = 118.\nWait, that is not right.\n27 * 4 = 108.",
    "3 + 4 = 7.\nLet me check: 7 - 4 = 3.",
    "2 + 2 = 5.\nLet me check: 5 - 2 = 2.\nWait, no.",
    "I think and think. " * 40,
    "",
)
STATUSES = ("correct", "wrong", "no_answer", "truncated", "timeout", "bad_gold", "error")

attempts = st.builds(
    lambda thought, answer, status, tokens: Attempt(
        Problem("p/1", "?", "7"),
        Trace(thought, answer, token_ids=tuple(range(tokens)), thinking_tokens=tokens // 2),
        Verdict(status, float(status == "correct")),
    ),
    st.sampled_from(THOUGHTS),
    st.sampled_from(("The answer is 7.", "", "Let me check: 3 + 4 = 7.")),
    st.sampled_from(STATUSES),
    st.integers(0, 60),
)
reward = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0]))


@st.composite
def rollouts(draw: Any) -> Rollout:
    """Up to six groups of three, the last of them perhaps wasted."""
    count = draw(st.integers(0, 6))
    made = [tuple(draw(attempts) for _ in range(3)) for _ in range(count)]
    rewards = [tuple(draw(reward) for _ in range(3)) for _ in range(count)]
    used = draw(st.integers(0, count))

    def parts(groups: list[tuple[float | None, ...]]) -> tuple[dict[str, float | None], ...]:
        return tuple({"correctness": one, "length": None if one is None else -one} for group in groups for one in group)

    return Rollout(
        tuple(one for group in made[:used] for one in group),
        tuple(index for index in range(used) for _ in range(3)),
        tuple(one for group in rewards[:used] for one in group),
        parts(rewards[:used]),
        wasted=tuple(one for group in made[used:] for one in group),
        wasted_rewards=tuple(one for group in rewards[used:] for one in group),
        wasted_parts=parts(rewards[used:]),
    )


@given(rollouts())
def test_each_number_is_a_plain_count(rollout: Rollout) -> None:
    every = [*rollout.attempts, *rollout.wasted]
    rewards = [one for one in (*rollout.rewards, *rollout.wasted_rewards) if one is not None]
    audits = [audit(one.trace, one.problem) for one in every]
    wanted: dict[str, list[float]] = {
        "reward": rewards,
        "reward/correctness": rewards,
        "reward/length": [-one for one in rewards],
        "accuracy": [one.verdict.status == "correct" for one in every],
        "thinking_tokens": [one.trace.thinking_tokens for one in every],
        "completion_tokens": [len(one.trace.token_ids) or one.trace.thinking_tokens for one in every],
        "truncated_share": [one.verdict.status == "truncated" for one in every],
        "no_answer_share": [one.verdict.status == "no_answer" for one in every],
        "verify_error_share": [one.verdict.status == "error" for one in every],
        "verify_timeout_share": [one.verdict.status == "timeout" for one in every],
        "check_share": [found.has_check for found in audits],
        "backtrack_share": [found.has_backtrack for found in audits],
        "check_or_backtrack_share": [found.has_check or found.has_backtrack for found in audits],
        "true_equation_share": [found.share_true for found in audits if found.share_true is not None],
        "loop_share": [found.loop is not None for found in audits],
        "frac_reward_zero_std": zero_std(rollout),
    }
    expected = {name: pytest.approx(statistics.fmean(values)) for name, values in wanted.items() if values}
    if len(rewards) > 1:
        expected["reward_std"] = pytest.approx(statistics.stdev(rewards))
    if every:
        expected["completions/max_length"] = max(one.trace.tokens for one in every)
    assert describe(rollout) == expected


def zero_std(rollout: Rollout) -> list[float]:
    found = []
    for group in set(rollout.groups):
        values = [r for g, r in zip(rollout.groups, rollout.rewards, strict=True) if g == group and r is not None]
        if values:
            found.append(float(max(values) == min(values)))
    return found


def test_what_was_drawn_to_fill_the_batch() -> None:
    row = describe(Rollout((), (), (), (), draws=Draws(groups=20, dead=8, errors=1, surplus=3, rounds=2)))
    assert row == {
        "frac_reward_zero_std": 0.4,
        "groups_drawn": 20.0,
        "groups_dead": 8.0,
        "groups_kept": 8.0,
        "waste_share": pytest.approx(0.6),
    }
    assert describe(Rollout((), (), (), ())) == {}


def test_a_part_that_not_every_attempt_has_is_a_mean_over_those_that_have_it() -> None:
    made = tuple(Attempt(Problem("p", "?"), Trace("", "x"), Verdict("wrong")) for _ in range(3))
    row = describe(Rollout(made, (0, 0, 0), (1.0, 2.0, None), ({"a": 1.0}, {"a": 2.0, "b": 5.0}, {"a": None})))
    assert (row["reward/a"], row["reward/b"], row["reward"]) == (1.5, 5.0, 1.5)


@given(st.lists(st.text(max_size=40), max_size=80), st.integers(8, 40), st.integers(1, 600))
def test_the_sample_is_even_bounded_and_in_order(texts: list[str], most: int, characters: int) -> None:
    numbered = [f"{index}:{text}" for index, text in enumerate(texts)]
    kept = [int(text.split(":")[0]) for text in metrics._sample(numbered, most, characters)]
    assert kept == sorted(set(kept))
    assert len(kept) <= min(len(texts), most)
    assert len(kept) >= min(len(texts), 8)
    mean = sum(map(len, numbered)) / max(len(numbered), 1)
    assert len(kept) <= 8 or len(kept) * mean <= characters
    if sum(map(len, numbered)) <= characters and len(texts) <= most:
        assert kept == list(range(len(texts)))  # where there is room nothing is left out
    gaps = [b - a for a, b in pairwise(kept)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert not kept or kept[0] == 0


def test_a_large_step_is_read_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,096 long attempts, of which every group of 16 has a backtrack in its first."""
    read = {"habits": 0, "equations": 0}
    segments, equations = metrics.find_segments, metrics.find_equations

    def count(key: str, text: str) -> None:
        read[key] += len(text)

    monkeypatch.setattr(metrics, "find_segments", lambda text: count("habits", text) or segments(text))
    monkeypatch.setattr(metrics, "find_equations", lambda text: count("equations", text) or equations(text))
    thoughts = [THOUGHTS[1] if index % 16 == 0 else "2 + 2 = 4. " * 50 for index in range(4096)]
    made = tuple(Attempt(Problem("p", "?"), Trace(text, "4"), Verdict("correct")) for text in thoughts)
    row = describe(Rollout(made, tuple(i // 16 for i in range(4096)), (1.0,) * 4096, ({},) * 4096))
    assert read["habits"] <= 256 * 600
    assert read["equations"] <= 32_000
    assert row["accuracy"] == 1.0
