"""Norms, gates and rotations in C: against plain formulas, on any number of threads, and where they must step aside."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.policy.adapter import LoRA, add_lora
from thinksmith.policy.policy import Policy
from thinksmith.training.packed.native.fused import Gate, Norm, Rotation, fused
from thinksmith.training.recompute import recompute_layers

EPS = 1e-5


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()


def gate(x: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return x / (1 + torch.exp(-x)) * up


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 700), width=st.integers(1, 70), large=st.sampled_from([1e-4, 1.0, 60.0]), seed=st.integers(0, 9)
)
@pytest.mark.parametrize("kind", ["norm", "gate"])
def test_values_and_gradients_are_the_formulas(kind: str, rows: int, width: int, large: float, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    x = (torch.randn(rows, width, generator=made) * large).requires_grad_()
    other = torch.randn(*([rows] if kind == "gate" else []), width, generator=made, requires_grad=True)
    grad = torch.randn(rows, width, generator=made)
    wide = [each.detach().double().requires_grad_() for each in (x, other)]
    want_out = (norm if kind == "norm" else gate)(*wide)
    want = [want_out.detach(), *torch.autograd.grad(want_out, wide, grad.double())]
    found = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        out: Any = Norm.apply(x, other, EPS) if kind == "norm" else Gate.apply(x, other)
        found.append([out.detach(), *torch.autograd.grad(out, (x, other), grad)])
    torch.set_num_threads(before)
    terms = (
        (grad * other / (x.square().mean(-1, keepdim=True) + EPS).sqrt()).abs().max().item() if kind == "norm" else 0.0
    )
    for first, second, exact in zip(*found, want, strict=True):
        assert torch.equal(first, second)
        # Terms that cancel leave their rounding, and next to nothing holds the least numbers of a float.
        scale = max(float(exact.abs().max()), terms)
        torch.testing.assert_close(first.double(), exact, rtol=1e-4, atol=max(1e-5 * scale, 1e-35))


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = x.chunk(2, -1)
    return x * cos[:, :, None] + torch.cat((-high, low), -1) * sin[:, :, None]


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 90), heads=st.integers(1, 5), half=st.integers(1, 40), seed=st.integers(0, 9))
def test_rotations_and_their_gradients_are_the_formula(tokens: int, heads: int, half: int, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(1, tokens, n, 2 * half, generator=made, requires_grad=True) for n in (2 * heads, heads))
    cos, sin = (torch.randn(1, tokens, 2 * half, generator=made) for _ in range(2))
    grads = [torch.randn(each.shape, generator=made) for each in (query, key)]
    want = [rotated(each, cos, sin) for each in (query, key)]
    want += torch.autograd.grad(want, (query, key), grads)
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found: Any = Rotation.apply(query, key, cos, sin)
        found = [*found, *torch.autograd.grad(found, (query, key), [grads[0].mT.contiguous().mT, grads[1]])]
        for one, other in zip(found, want, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    torch.set_num_threads(before)


def small(family: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config: Any = getattr(transformers, f"{family}Config")(
        vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, **more,
    )  # fmt: skip
    return getattr(transformers, f"{family}ForCausalLM")(config).float()


def gradients(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    logits = model(input_ids=ids).logits
    learnt = [p for p in model.parameters() if p.requires_grad]
    return [logits.detach(), *torch.autograd.grad(logits.float().log_softmax(-1)[..., 3].sum(), learnt)]


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3", "Gemma"])
@pytest.mark.parametrize("lora", [False, True])
def test_a_model_computes_what_it_did(family: str, lora: bool) -> None:
    model = small(family, attention_dropout=0.0)
    if lora:
        add_lora(Policy(model, None, name="small"), LoRA(rank=2))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.2, 1.8)
            if "lora_B" in name:
                weight.uniform_(-0.1, 0.1)
    ids = torch.arange(40).reshape(2, 20) % 60
    plain = gradients(model, ids)
    with fused(model.get_decoder()):
        replaced = sum("forward" in module.__dict__ for module in model.modules())
        again = gradients(model, ids)
    assert replaced == {"Gemma": 0, "Qwen3": 13}.get(family, 9)
    assert not any("forward" in module.__dict__ for module in model.modules())
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_what_is_not_of_32_bits_takes_its_own_way() -> None:
    model = small("Llama").double()
    ids = torch.arange(20)[None]
    plain = gradients(model, ids)
    with fused(model.get_decoder()):
        assert all(torch.equal(*pair) for pair in zip(plain, gradients(model, ids), strict=True))


def test_a_layer_that_is_computed_again_saves_what_it_did() -> None:
    """In the backward pass, after `fused`; and so does one that was computed without it."""
    model = small("Llama").train()
    ids = torch.arange(20)[None]
    learnt = list(model.parameters())

    def backward(context: AbstractContextManager[None]) -> list[torch.Tensor]:
        with context:
            logits = model(input_ids=ids).logits
        return list(torch.autograd.grad(logits.log_softmax(-1)[..., 3].sum(), learnt))

    ways = (lambda: fused(model.get_decoder()), nullcontext)
    kept = [backward(way()) for way in ways]
    recompute_layers(model)
    for way, before in zip(ways, kept, strict=True):
        assert all(torch.equal(*pair) for pair in zip(before, backward(way()), strict=True))
