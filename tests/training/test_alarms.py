"""Alarms: each sickness is told, once and when it begins; a healthy run, however noisy, is left in peace."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.evaluate.statistics.stats import accuracy
from thinksmith.training.alarms import Alarm
from thinksmith.training.rl.alarms import alarms

Row = dict[str, float]
SEEDS = 50  # 1,000 seeds of 300 steps were tried too, without an alarm
STEPS = 120


def healthy(seed: int, steps: int = STEPS) -> list[Row]:
    """A run that learns: the noise of a batch of 8 to 64 groups, entropy down to as little as a fifth, length doubled,
    ever more problems solved, a measurement on 100 held-out problems every ten steps."""
    rng = Random(seed)
    groups, size = rng.choice([8, 16, 64]), rng.choice([8, 16])
    begins, ends = rng.uniform(0.05, 0.5), rng.uniform(0.55, 0.85)
    entropy, floor = rng.uniform(0.15, 0.8), rng.uniform(0.2, 0.6)
    tokens, truncated, norm = rng.uniform(30, 800), rng.uniform(0.0, 0.3), rng.uniform(0.05, 2.0)
    rows: list[Row] = []
    for step in range(1, steps + 1):
        done = 1 - math.exp(-3 * step / steps)
        solved = begins + (ends - begins) * done
        # Problems differ: a Beta of their pass rates around `solved`, and groups of `size` attempts at each.
        rates = [rng.betavariate(2 * solved, 2 * (1 - solved)) for _ in range(groups)]
        right = [sum(rng.random() < rate for _ in range(size)) for rate in rates]
        mean = sum(right) / (groups * size)
        row = {
            "step": float(step),
            "reward": mean,
            "accuracy": mean,
            "frac_reward_zero_std": sum(each in (0, size) for each in right) / groups,
            "entropy": entropy * (1 - (1 - floor) * done) * math.exp(rng.gauss(0, 0.1)),
            "completion_tokens": tokens * (1 + done) * math.exp(rng.gauss(0, 0.1)),
            "truncated_share": min(max(truncated * (1 - 0.5 * done) + rng.gauss(0, 0.05), 0.0), 1.0),
            "grad_norm": norm * math.exp(rng.gauss(0, 0.5)),
            "loss": rng.gauss(0, 0.1),
            "logprob_gap": 0.01 * math.exp(rng.gauss(0, 0.5)),
        }
        if step % 10 == 0:
            row |= held_out(sum(rng.random() < solved for _ in range(100)), 100)
        rows.append(row)
    return rows


def held_out(right: int, of: int) -> Row:
    found = accuracy({str(i): [float(i < right)] for i in range(of)})
    return {"held_out_accuracy": found.mean, "held_out_low": found.low, "held_out_high": found.high}


def told(rows: list[Row]) -> list[tuple[int, Alarm]]:
    """What is told while the run goes, with its step."""
    return [(end, alarm) for end in range(1, len(rows) + 1) for alarm in alarms(rows[:end])]


def kinds(rows: list[Row]) -> list[tuple[int, str]]:
    return [(step, alarm.kind) for step, alarm in told(rows)]


def sick(seed: int, begin: int, **values: object) -> list[Row]:
    """A healthy run whose rows from step `begin` on (counted from 1) have these values, or functions of the old value
    and of the steps since."""
    rows = healthy(seed, 80)
    for since, row in enumerate(rows[begin - 1 :]):
        for key, value in values.items():
            row[key] = value(row[key], since) if callable(value) else value  # type: ignore[assignment]
    return rows


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_healthy_run_raises_no_alarm(seed: int) -> None:
    assert kinds(healthy(seed)) == []


def test_recorded_quickstarts_raise_no_alarm() -> None:
    curves = json.loads((Path(__file__).parent / "quickstart_curves.json").read_text(encoding="utf-8"))
    assert len(curves) == 10
    for columns in curves:
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        assert len(rows) == 32
        assert kinds(rows) == []


@pytest.mark.parametrize("key", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 30])
def test_what_is_no_number_stops_the_run_at_once(key: str, value: float, step: int) -> None:
    rows = sick(0, step, **{key: value})[:step]
    (alarm,) = alarms(rows)
    assert (alarm.kind, alarm.stop) == ("not_finite", True)
    assert str(value) in alarm.text
    assert "training.lr" in alarm.text
    assert kinds(rows) == [(step, "not_finite")]


@pytest.mark.parametrize("seed", range(5))
def test_collapsing_entropy(seed: int) -> None:
    collapsed = sick(seed, 30, entropy=lambda old, since: old * 0.7**since, accuracy=0.5)
    ((step, kind),) = kinds(collapsed)
    assert kind == "entropy"
    assert 33 <= step <= 45
    solved = sick(seed, 30, entropy=lambda old, since: old * 0.7**since, accuracy=0.97)
    assert kinds(solved) == []  # it may be sure of what it can do


def test_entropy_that_was_low_from_the_beginning_is_no_collapse() -> None:
    rows = [{"step": float(step), "entropy": 0.02, "accuracy": 0.5} for step in range(1, 60)]
    assert kinds(rows) == []
    assert kinds([row | {"entropy": 5.0 - 0.08 * row["step"]} for row in rows]) == []  # nor a fall from chance


@pytest.mark.parametrize("seed", range(5))
def test_exploding_length(seed: int) -> None:
    cut = sick(seed, 30, truncated_share=lambda old, since: min(1.0, old + 0.05 * since))
    assert [kind for _, kind in kinds(cut)] == ["length"]
    doubled = sick(
        seed,
        30,
        truncated_share=lambda old, since: 0.45 if since > 5 else old,
        completion_tokens=lambda old, since: old * (3 if since > 5 else 1),
    )
    begins = sum(row["truncated_share"] for row in doubled[:5]) / 5
    assert [kind for _, kind in kinds(doubled)] == (["length"] if begins <= 0.25 else [])
    longer = sick(seed, 30, completion_tokens=lambda old, since: old * 5)
    assert kinds(longer) == []  # to think longer is no fault
    always = [row | {"truncated_share": 0.9} for row in healthy(seed, 40)]
    assert kinds(always) == []


@pytest.mark.parametrize(
    ("accuracy_is", "truncated", "said"),
    [(0.02, 0.1, "too hard"), (0.98, 0.0, "too easy"), (0.02, 0.9, "are cut off")],
)
def test_no_variance_says_why(accuracy_is: float, truncated: float, said: str) -> None:
    rows = [
        {"step": float(s), "frac_reward_zero_std": 0.95, "accuracy": accuracy_is, "truncated_share": truncated}
        for s in range(1, 12)
    ]
    ((step, alarm),) = told(rows)
    assert (step, alarm.kind, alarm.stop) == (5, "no_variance", False)
    assert said in alarm.text
    rows[3]["frac_reward_zero_std"] = 0.5
    assert kinds(rows) == [(9, "no_variance")]  # five in a row
    assert kinds([row | {"frac_reward_zero_std": 0.85} for row in rows]) == []


def measured(accuracies: list[int], rewards: list[float]) -> list[Row]:
    """Ten steps to each measurement of 200 problems; the reward goes evenly from one of `rewards` to the next."""
    rng, rows = Random(1), []
    for index, right in enumerate(accuracies):
        for step in range(10):
            share = step / 10
            reward = rewards[index] * (1 - share) + rewards[index + 1] * share
            rows.append({"reward": reward + rng.gauss(0, 0.02)})
        rows[-1] |= held_out(right, 200)
    return rows


def test_reward_that_rises_while_held_out_accuracy_falls() -> None:
    up = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert kinds(measured([120, 130, 90, 80, 70], up)) == [(40, "held_out")]
    text = alarms(measured([120, 130, 90, 80], up))[0].text
    assert "65%" in text
    assert "40%" in text
    assert kinds(measured([120, 130, 90, 130, 120], up)) == []  # one bad measurement is chance
    assert kinds(measured([90, 130, 90, 90, 90], up)) == []  # and so is one good one
    assert kinds(measured([120, 130, 118, 116, 117], up)) == []  # within the intervals
    assert kinds(measured([120, 130, 90, 80, 70], up[::-1])) == []  # the reward tells it by itself
    assert kinds(measured([70, 80, 90, 120, 130], up)) == []


def test_a_gap_between_rollout_and_training() -> None:
    assert kinds([{"logprob_gap": 0.08}] * 5) == [(1, "logprob_gap")]
    assert kinds([{"logprob_gap": 0.04}] * 5) == []
    once = [{"logprob_gap": 0.001}] * 10 + [{"logprob_gap": 0.5}] + [{"logprob_gap": 0.001}] * 10
    assert kinds(once) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_spike_of_the_gradient_norm(seed: int) -> None:
    rows = sick(seed, 40, grad_norm=lambda old, since: old * 200 if since == 0 else old)
    assert kinds(rows) == [(40, "gradient_spike")]
    assert kinds(sick(seed, 40, grad_norm=lambda old, since: 0.0 if since < 10 else old)) == []  # nothing was trained
    early = [{"grad_norm": 1.0}] * 5 + [{"grad_norm": 500.0}]
    assert kinds(early) == []  # nobody knows yet what is usual
    wild = [{"grad_norm": math.exp(Random(step).gauss(0, 2))} for step in range(80)]
    assert kinds(wild) == []  # what is wild by nature has no spikes


def test_an_alarm_that_comes_and_goes_is_told_again_only_after_a_rest() -> None:
    bad, good = {"logprob_gap": 0.2}, {"logprob_gap": 0.0}
    assert kinds([bad, good] * 20) == [(1, "logprob_gap")]
    assert kinds([bad] * 5 + [good] * 30 + [bad] * 30) == [(1, "logprob_gap"), (37, "logprob_gap")]


number = st.one_of(st.floats(), st.floats(0, 1), st.sampled_from([math.nan, math.inf, 0.0, -1.0]))
keys = (
    *("loss", "grad_norm", "entropy", "reward", "accuracy", "truncated_share", "completion_tokens", "logprob_gap"),
    *("frac_reward_zero_std", "held_out_accuracy", "held_out_low", "held_out_high"),
)


@given(st.lists(st.dictionaries(st.sampled_from(keys), number), max_size=30))
def test_no_history_crashes_it_and_each_text_is_one_line(rows: list[Row]) -> None:
    before = json.dumps(rows)
    for alarm in alarms(rows):
        assert alarm.text
        assert "\n" not in alarm.text
        assert alarm.stop == (alarm.kind == "not_finite")
    assert json.dumps(rows) == before
