from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_kit import small_model

from thinksmith.training.optimizer import OptimizerName, Optimizers, warmup_stable_decay


@given(st.integers(1, 200), st.integers(0, 50), st.integers(0, 50))
def test_the_schedule_rises_stays_and_falls(steps: int, warmup: int, decay: int) -> None:
    factors = [warmup_stable_decay(step, steps, warmup, decay) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    if warmup + decay <= steps:
        assert max(factors) == 1
        assert sum(factor < 1 for factor in factors) <= warmup + decay


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_weight_is_stepped_once_and_scaled(name: OptimizerName) -> None:
    model = small_model("Qwen2", 20)
    optimizers = Optimizers(model, name, 1e-3, muon_lr=2e-3)
    stepped = [p for part in optimizers.parts for group in part.param_groups for p in group["params"]]
    assert sorted(map(id, stepped)) == sorted(map(id, model.parameters()))
    matrices = {id(p) for part in optimizers.parts[1:] for group in part.param_groups for p in group["params"]}
    inside = {id(p) for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n}
    assert matrices == (inside if name == "muon" else set())
    before = [p.detach().clone() for p in model.parameters()]
    model(input_ids=torch.arange(12)[None]).logits.square().sum().backward()
    optimizers.step(0.0)  # a factor of zero moves nothing, and the gradients are gone after it
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())
