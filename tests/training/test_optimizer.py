from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_kit import small_model

from thinksmith.training import checkpoint
from thinksmith.training.optimizer import OptimizerName, Optimizers, Schedule, lr_factor


@given(st.integers(1, 200), st.integers(0, 50), st.integers(0, 50))
def test_the_schedule_rises_stays_and_falls(steps: int, warmup: int, decay: int) -> None:
    factors = [lr_factor("trapezoid", step, steps, warmup, decay) for step in range(steps)]
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


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_other_schedules_rise_and_then_fall_to_their_floor(schedule: Schedule) -> None:
    factors = [lr_factor(schedule, step, 100, 10, 0) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    floor = {"linear": 1 / 90, "cosine": 0.1}[schedule]
    assert factors[-1] == pytest.approx(floor, rel=0.01)
    assert factors[55] == pytest.approx({"linear": 0.5, "cosine": 0.55}[schedule], abs=1e-9)


def test_moments_in_8_bits_step_nearly_as_adamw_does(tmp_path: Path) -> None:
    pytest.importorskip("torchao.optim")
    if not shutil.which("c++"):
        pytest.skip("torchao compiles its step, and there is no C++ compiler")
    ends = []
    for name in ("adamw", "adamw8bit"):
        torch.manual_seed(0)
        linear = torch.nn.Linear(64, 128)
        optimizers = Optimizers(linear, name, 1e-2)
        for scale in (1.0, 0.5, 0.0):
            for parameter in linear.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizers.step(scale)
        ends.append(linear.weight.detach().clone())
        checkpoint.save(tmp_path / name, 3, linear, optimizers, {})
        other = torch.nn.Linear(64, 128)
        again = Optimizers(other, name, 1e-2)
        assert checkpoint.load(tmp_path / name, other, again)[0] == 3
        assert torch.equal(other.weight, linear.weight)
    torch.manual_seed(0)
    began = torch.nn.Linear(64, 128).weight.detach()
    moved = [end - began for end in ends]
    assert 0 < float((moved[0] - moved[1]).norm() / moved[0].norm()) < 0.1
    sizes = [(tmp_path / name / "step-000003.pt").stat().st_size for name in ("adamw", "adamw8bit")]
    assert sizes[1] < 0.7 * sizes[0]
