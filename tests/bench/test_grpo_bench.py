"""The benches of GRPO: both sides do the work that they were given; the limit counts the products that there are."""

from __future__ import annotations

import random
import statistics
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def policy() -> Any:
    from _grpo_work import make_policy

    return make_policy("tiny")


def small(**changed: Any) -> Any:
    from _grpo_work import Work

    return replace(Work(2, 4, 0, 6, 0.5, 12, trl_rows=4), **changed)


def test_lengths_are_drawn_once_and_keep_their_bounds() -> None:
    from _grpo_work import lengths_of

    work = small(prompts=64, generations=16, mean=100, sigma=1.0, most=1024)
    lengths = lengths_of(work)
    assert len(lengths) == 1024
    assert lengths == lengths_of(work) != lengths_of(work, seed=1)
    assert 2 <= min(lengths) <= max(lengths) <= 1024
    assert statistics.mean(lengths) == pytest.approx(100, rel=0.05)
    assert max(lengths) > 5 * statistics.median(lengths)  # a heavy tail
    assert max(lengths_of(replace(work, most=64))) == 64


def test_long_prompts_are_as_long_as_asked(policy: Any) -> None:
    from _grpo_work import task_of

    task = task_of(small(prompt=200), policy)
    sizes = [len(policy.render(problem.messages).ids) for problem in task.problems]
    assert all(185 <= size <= 200 for size in sizes), sizes
    assert len({problem.text for problem in task.problems}) == 2
    assert [len(task.lengths[problem.text]) for problem in task.problems] == [4, 4]


def test_both_sides_train_on_the_lengths_that_were_given(policy: Any) -> None:
    pytest.importorskip("trl", reason="needs trl, of the bench extra")
    from _grpo_ours import run_ours
    from _grpo_trl import run_trl
    from _grpo_work import make_policy, task_of

    work = small()
    task = task_of(work, policy)
    other = make_policy("tiny")
    sides = run_ours(make_policy("tiny"), work, task, 2), run_trl(other.model, other.tokenizer, work, task, 2)
    for timed in sides:
        assert [round(tokens) for tokens in timed.tokens] == [task.tokens] * 2
        assert [len(values) for values in asdict(timed).values()] == [2] * 5
        for whole, *parts in zip(timed.seconds, timed.rollout, timed.reward, timed.update, strict=True):
            assert all(part >= 0 for part in parts)
            assert 0 < sum(parts) <= whole * 1.001


def test_trls_rows_end_where_they_are_told(policy: Any) -> None:
    from _grpo_trl import give_lengths
    from _grpo_work import make_policy

    other = make_policy("tiny")
    lengths, eos = [3, 7, 7, 1], other.tokenizer.eos_token_id
    give_lengths(other.model, lengths, eos)
    ids = torch.tensor([list(policy.render([{"role": "user", "content": "1 + 1?"}]).ids)] * 4)
    out = other.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=True, eos_token_id=eos,
        pad_token_id=0,
    )  # fmt: skip
    completions = out[:, ids.shape[1] :]
    assert completions.shape[1] == 7
    assert [row.tolist().index(eos) + 1 for row in completions] == lengths


def test_our_engine_gives_each_sample_its_length(policy: Any) -> None:
    from _grpo_ours import GivenLengths
    from _grpo_work import make_policy, task_of
    from thinksmith.records import Request, Sampling

    work = small()
    task = task_of(work, policy)
    engine = GivenLengths(make_policy("tiny"), task)
    requests = [
        Request(messages=problem.messages, n=4, sampling=Sampling(temperature=1.0, seed=5)) for problem in task.problems
    ]
    groups = engine.sample_all(requests)
    engine.close()
    found = [tuple(len(trace.token_ids) for trace in group) for group in groups]
    assert found == [task.lengths[problem.text] for problem in task.problems]
    assert len({trace.token_ids for group in groups for trace in group}) == 8


def test_the_limit_is_made_of_the_products_that_it_counts(policy: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from _grpo_limit import Products, rows_of
    from thinksmith.training.batches import Example

    draw = random.Random(0)
    examples = [Example((1, 2, 3, group), (5,) * draw.randint(2, 40), ()) for group in range(3) for _ in range(4)]
    rows = rows_of(examples, 100)
    assert len(rows) > 1
    assert sum(row.learnt for row in rows) == sum(len(example.completion_ids) for example in examples)
    for row in rows:
        assert row.tokens == sum(row.segments)
        assert sum(seers for _, seers in row.crossings) == row.learnt
    products = Products(policy.model)
    with FlopCounterMode(display=False) as counter:
        found = products.seconds(rows)
    assert products.flops(rows) == counter.get_total_flops()
    assert set(found) == {"linear", "head", "attention"}


def test_the_limit_is_of_what_a_model_computes(policy: Any) -> None:
    """One sequence alone: a prompt of one token, and the rest. transformers' own passes have the same products."""
    from torch.utils.flop_counter import FlopCounterMode

    from _grpo_limit import Products, Row

    length = 48
    model = type(policy.model)(policy.model.config)
    model.set_attn_implementation("eager")
    ids = torch.arange(3, 3 + length)[None]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    counted = Products(model).flops([Row(length, length, (length,), ())])
    # Rotary frequencies are a product too; and it does no more than these.
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_reward_is_reached_when_the_smoothed_one_is() -> None:
    from grpo_curves import Curve, compared

    ours = Curve([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.9, 0.0, 0.0, 0.0, 0.0, 0.9])
    assert ours.smoothed == pytest.approx([0.9, 0.45, 0.3, 0.225, 0.18, 0.18])
    assert ours.reaches(0.18 - 1e-9) == 5.0
    assert ours.reaches(0.5) is None  # the first steps do not count
    trl = Curve([4.0, 8.0, 12.0, 16.0, 20.0], [0.1] * 5)
    assert compared(3, trl, ours, trl)["share"] == 0.25
    assert compared(3, trl, trl, Curve([1.0] * 5, [0.2] * 5))["share"] is None


def test_memory_is_compared_by_what_it_grows() -> None:
    from grpo_memory import ratios

    rows = [
        {"name": "a", "side": "ours", "growth": 100},
        {"name": "a", "side": "trl", "growth": 400},
        {"name": "a", "side": "trl-1", "growth": 200},
        {"name": "b", "side": "ours", "growth": 7},
    ]
    assert ratios(rows) == {"a over trl": 0.25, "a over trl-1": 0.5}


def test_ratios_are_of_medians() -> None:
    from _grpo_ours import Timed
    from grpo_vs_trl import row_of

    ours = Timed([1.0, 2.0, 9.0], [0.5, 0.6, 7.0], [0.1] * 3, [0.4, 1.0, 2.0], [10.0] * 3)
    trl = Timed([4.0, 8.0, 6.0], [3.0] * 3, [0.0] * 3, [1.0, 5.0, 3.0], [10.0] * 3)
    row = row_of("tiny", "short", small(), 10, ours, trl)
    assert (row.ours, row.trl, row.ratio) == (2.0, 6.0, 3.0)
    assert (row.rollout_ratio, row.update_ratio) == (5.0, 3.0)
    assert row.slowest_ratio == 0.44
    assert row.steps == 3


def test_trls_passes_hold_all_completions() -> None:
    from _grpo_passes import PASSES
    from _grpo_trl import batch_settings
    from grpo_vs_trl import QUICK, SMALLER, WORKS, smaller

    assert batch_settings(4, 8, 16) == {
        "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2, "num_generations": 8,
    }  # fmt: skip
    for work in (*WORKS.values(), *QUICK.values()):
        for divisor in (1, *(divisor for divisor, _ in SMALLER.values())):
            own = smaller(work, divisor)
            assert own.rows % own.trl_rows == 0
            assert own.rows == own.generations * max(1, work.prompts // divisor)
    for passes in PASSES.values():
        assert all(passes.prompts * passes.generations % rows == 0 for rows in passes.trl.values())
