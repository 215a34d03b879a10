"""The bench of SFT compares the same work: lengths as asked, and equal losses for every way to batch."""

from __future__ import annotations

import statistics

import pytest


def test_lengths_are_lognormal_and_given() -> None:
    from _sft_work import Work, examples_of

    work = Work(400, 100, 0.8, 5000)
    examples = examples_of(work)
    assert examples == examples_of(work)
    assert examples != examples_of(work, seed=1)
    lengths = [len(example.completion_ids) for example in examples]
    assert statistics.fmean(lengths) == pytest.approx(100, rel=0.02)
    assert statistics.median(lengths) == pytest.approx(100 / 2.718 ** (0.8**2 / 2), rel=0.15)
    assert all(20 <= len(example.prompt_ids) <= 40 for example in examples)
    assert max(example.tokens for example in examples_of(Work(50, 100, 2.0, 300))) <= 340


def test_both_sides_begin_at_the_same_loss_however_they_batch() -> None:
    pytest.importorskip("trl", reason="needs trl, of the bench extra")
    from _grpo_work import make_policy
    from _sft_sides import Way, run_ours, run_trl
    from _sft_work import Work, examples_of

    examples = examples_of(Work(10, 20, 0.8, 60))
    ours = run_ours(make_policy("tiny"), examples, 1)
    assert len(ours.seconds) == 1
    assert len(ours.losses) == 2
    for way in (Way(5), Way(1, 200), Way(2, 128), Way(5, padding_free=True)):
        trl = run_trl(make_policy("tiny"), examples, 1, way)
        assert len(trl.seconds) == 1
        assert trl.losses == pytest.approx(ours.losses, rel=1e-3), way


def test_the_short_form_is_smaller_and_no_sample_is_cut() -> None:
    import sft_vs_trl
    from _sft_passes import MEMORY

    assert sft_vs_trl.QUICK.samples < sft_vs_trl.WORK.samples
    for work, ways in ((sft_vs_trl.WORK, sft_vs_trl.WAYS), (sft_vs_trl.QUICK, sft_vs_trl.QUICK_WAYS)):
        assert all(way.length == 0 or way.length >= work.longest for way in ways.values())
        assert "unpacked" in ways
    for memory in MEMORY.values():
        assert all(way.length == 0 or way.length >= memory.work.longest for way in memory.sides.values())
