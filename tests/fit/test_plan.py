"""Plans hold by laws: what is told to fit does, one more does not, and more of anything never takes less."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.fit.memory.inference import serving_memory
from thinksmith.fit.memory.training import Training, training_memory
from thinksmith.fit.plans.family import family, largest_bits
from thinksmith.fit.plans.serving import LEAST_CONTEXT, bits_that_fit, need, plan, settle, ways, what_to_change
from thinksmith.fit.plans.training import of_length, train_plan
from thinksmith.fit.plans.training import what_to_change as what_to_change_in_training
from thinksmith.fit.plans.verdict import SURE
from thinksmith.fit.shapes.catalogue import find_shape
from thinksmith.fit.speed.devices import find_device, with_memory

SPARK = find_device("dgx-spark")
MODELS = ("deepseek-r1:1.5b", "deepseek-r1:8b", "qwq", "deepseek-r1:70b", "gpt-oss:20b", "deepseek-r1:671b")
model = st.sampled_from(MODELS).map(find_shape)
device = st.sampled_from(("dgx-spark", "rtx-4090", "rtx-3060-12gb", "h200", "m4-max-64gb")).map(find_device)


@settings(max_examples=25, deadline=None)
@given(model, device, st.integers(1, 64))
def test_the_largest_that_fit_do_and_one_more_does_not(shape, device, batch) -> None:
    found = plan(shape, device, settle(shape, device, context=16384, batch=batch))
    sure = SURE * device.usable
    for name, most in (("context", shape.context), ("batch", 1024)):
        largest = getattr(found, f"largest_{name}")
        if largest:
            assert need(shape, device, replace(found.serving, **{name: largest})) <= sure
        if largest < most:
            assert need(shape, device, replace(found.serving, **{name: largest + 1})) > sure


@settings(max_examples=25, deadline=None)
@given(model, device, st.integers(1, 64), st.sampled_from((None, 16384)))
def test_what_is_told_to_change_makes_it_fit(shape, device, batch, context) -> None:
    asked = settle(shape, device, context=context, batch=batch)
    for change in what_to_change(shape, device, asked):
        assert serving_memory(shape, change.setting, device).total == change.bytes <= device.usable
        assert change.setting.context >= min(LEAST_CONTEXT, asked.context)
        assert change.what
        assert len(change.what) >= len(change.cost) > 0


def test_a_model_that_cannot_fit_is_told_so() -> None:
    shape, device = find_shape("deepseek-r1:671b"), find_device("rtx-4090")
    asked = settle(shape, device)
    assert plan(shape, device, asked, whole=True).verdict == "no"
    assert what_to_change(shape, device, asked) == ()


def test_the_whole_context_is_tight_where_a_shorter_one_fits() -> None:
    shape = find_shape("deepseek-r1:8b")
    some = with_memory(SPARK, 26 * 10**9)
    asked = settle(shape, some)
    assert asked.context == 131072
    assert plan(shape, some, asked, whole=True).verdict == "tight"
    assert plan(shape, some, asked).verdict == "no"  # it was asked for
    assert LEAST_CONTEXT < plan(shape, some, asked).largest_context < 131072


def test_ways_begin_with_what_is_published_and_fall() -> None:
    shape = find_shape("gpt-oss:20b")
    found = ways(shape, SPARK, settle(shape, SPARK), whole=True)
    assert [(each.serving.engine, each.serving.format) for each in found[:2]] == [
        ("vllm", "mxfp4"),
        ("ollama", "mxfp4"),
    ]
    for each in ways(find_shape("qwq"), SPARK, settle(find_shape("qwq"), SPARK), whole=True):
        assert each.estimate.total == need(each.shape, SPARK, each.serving)


def test_a_format_that_no_engine_of_the_device_runs() -> None:
    with pytest.raises(UserError, match=r"int4_32 runs on local|runs on"):
        settle(find_shape("qwq"), find_device("m4-max-64gb"), format="nvfp4")


def test_the_well_known_table_on_a_spark() -> None:
    """Sizes as they go round beside exact ones, and what is true of them on 128 GB."""
    rows = {(row.model.rpartition("-")[2], row.plan.serving.format): row for row in family(SPARK)}
    said = {key: round(row.rounded / 1e9) for key, row in rows.items()}
    fits = {key: row.plan.verdict for key, row in rows.items()}
    assert [said[size, "bf16"] for size in ("1.5B", "7B", "32B", "70B")] == [3, 14, 64, 140]
    assert [fits[size, "bf16"] for size in ("1.5B", "7B", "32B", "70B")] == ["yes", "yes", "yes", "no"]
    assert (said["70B", "q8_0"], fits["70B", "q8_0"]) == (70, "tight")
    assert rows["70B", "bf16"].weights == 2 * 70_553_706_496
    # 4 bits of 671 billion are 336 GB before any scale; what is said to be 130 GB has 1.6 bits, and fits no better.
    assert rows["R1", "q4_k_m"].weights > 400e9
    assert rows["R1", "iq1_s"].weights > 130e9
    assert {fits["R1", name] for name in ("fp8", "q4_k_m", "iq1_s")} == {"no"}
    assert 1.0 < largest_bits(SPARK) < 8 * SPARK.usable / 671e9


def test_bits_that_fit_leave_nothing() -> None:
    shape = find_shape("deepseek-r1:70b")
    asked = settle(shape, SPARK, context=8192)
    bits = bits_that_fit(shape, SPARK, asked)
    rest = serving_memory(shape, asked, SPARK).total - serving_memory(shape, asked, SPARK).named("weights")
    assert bits * shape.params / 8 + rest == pytest.approx(SPARK.usable)


METHODS = st.sampled_from(("sft", "dpo", "grpo"))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(MODELS[:4]).map(find_shape), device, METHODS, st.sampled_from(("full", "lora", "qlora")))
def test_what_is_told_to_change_makes_a_training_fit(shape, device, method, tuning) -> None:
    training = Training(method=method, tuning=tuning, precision="bf16", length=4096, prompt_tokens=256)
    for change in what_to_change_in_training(shape, device, training):
        assert training_memory(shape, change.setting, device).total == change.bytes <= device.usable
        assert change.setting.method == method


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(MODELS[:3]).map(find_shape), device, METHODS)
def test_the_longest_sequences_fit_and_longer_ones_do_not(shape, device, method) -> None:
    training = Training(method=method, tuning="lora", precision="bf16", length=2048, prompt_tokens=64)
    longest = train_plan(shape, device, training).largest_length
    sure = SURE * device.usable
    if longest:
        assert training_memory(shape, of_length(training, longest), device).total <= sure
    if longest < shape.context:
        longer = of_length(training, max(longest, 80) + 64)  # lengths are rounded up to 16
        assert training_memory(shape, longer, device).total > sure
