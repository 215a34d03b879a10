"""Log-probabilities and entropies in C and in torch, against plain formulas in double precision."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.native.build import library
from thinksmith.policy import softmax
from thinksmith.policy.softmax import SOFTMAX, LogSoftmax


@pytest.fixture(params=["c", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(softmax, "library", lambda sources: None)
    elif library(SOFTMAX) is None:
        pytest.skip("there is no C compiler")
    return str(request.param)


def scored(logits_CV: torch.Tensor, target_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found: Any = LogSoftmax.apply(logits_CV, target_C, True)  # type: ignore[no-untyped-call]
    return found  # type: ignore[no-any-return]


def plain(logits_CV: torch.Tensor, target_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    log_CV = logits_CV.log_softmax(-1)
    return log_CV.gather(-1, target_C[:, None])[:, 0], -(log_CV.exp() * log_CV).sum(-1)


# A hundred examples of each way: the fixture need not be made anew for them.
@settings(max_examples=100, suppress_health_check=["function_scoped_fixture"])  # type: ignore[list-item]
@given(
    rows=st.integers(1, 40), vocab=st.integers(1, 2300), large=st.sampled_from([1e-3, 1.0, 30.0]),
    offset=st.sampled_from([0.0, 1e3, -1e3]), seed=st.integers(0, 99), of_entropy=st.booleans(),
)  # fmt: skip
def test_values_and_gradients_are_the_formulas(
    way: str, rows: int, vocab: int, large: float, offset: float, seed: int, of_entropy: bool
) -> None:
    made = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, vocab, generator=made) * large + offset).requires_grad_()
    target = torch.randint(0, vocab, (rows,), generator=made)
    grads = torch.randn(2, rows, generator=made)
    wide = logits.detach().double().requires_grad_()
    parts = 2 if of_entropy else 1
    want = plain(wide, target)
    (want_grad,) = torch.autograd.grad(want[:parts], wide, tuple(grads.double())[:parts])
    found = scored(logits, target)
    (grad,) = torch.autograd.grad(found[:parts], logits, tuple(grads)[:parts])
    atol = 2e-7 * max(10.0, float(logits.detach().abs().max()))  # a logit is no more exact than that
    for one, exact in zip(found, want, strict=True):
        torch.testing.assert_close(one.double(), exact, rtol=2e-6, atol=atol)
    torch.testing.assert_close(grad.double(), want_grad, rtol=1e-4, atol=atol)


def test_any_number_of_threads_gives_the_same_bits(way: str) -> None:
    logits, target = torch.randn(37, 1500) * 5, torch.randint(0, 1500, (37,))
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        own = logits.clone().requires_grad_()
        values = scored(own, target)
        found.append((*values, *torch.autograd.grad(values[0].sum(), own)))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for each in found[1:] for one, other in zip(found[0], each, strict=True))


@pytest.mark.parametrize("vocab", [3, 16, 700])
def test_a_token_that_cannot_come_has_no_part_in_the_entropy(way: str, vocab: int) -> None:
    logits = torch.zeros(1, vocab)
    logits[:, 2:] = -inf
    logprob, entropy = scored(logits.requires_grad_(), torch.tensor([1]))
    assert logprob.item() == pytest.approx(-torch.tensor(2.0).log().item())
    assert entropy.item() == pytest.approx(torch.tensor(2.0).log().item())
    (grad,) = torch.autograd.grad(logprob.sum(), logits)
    torch.testing.assert_close(grad[0, :3], torch.tensor([-0.5, 0.5, 0.0]))
    assert scored(logits, torch.tensor([2]))[0].item() < -80.0


@pytest.mark.parametrize("wrong", [nan, inf])
@pytest.mark.parametrize("at", [0, 20, 39])
def test_what_is_not_finite_is_told(way: str, wrong: float, at: int) -> None:
    """The trainer stops at a loss that is not finite, so it must not be made one."""
    logits = torch.randn(3, 40)
    logits[1, at] = wrong
    logprob, _ = scored(logits, torch.tensor([0, 1, 2]))
    assert torch.isfinite(logprob).tolist() == [True, False, True]


def test_other_layouts_and_no_rows(way: str) -> None:
    logits, target = torch.randn(50, 6).T, torch.tensor([1, 9, 2, 8, 3, 7])
    for one, other in zip(scored(logits, target), plain(logits, target), strict=True):
        torch.testing.assert_close(one, other)
    empty = scored(torch.empty(0, 50), torch.empty(0, dtype=torch.int64))
    assert [each.shape for each in empty] == [(0,), (0,)]


@pytest.mark.parametrize("wrong", [-1, 50])
def test_an_id_that_there_is_not_is_refused(way: str, wrong: int) -> None:
    with pytest.raises((IndexError, RuntimeError)):
        scored(torch.randn(2, 50), torch.tensor([0, wrong]))


def test_no_entropy_unless_it_is_wanted(way: str) -> None:
    found: Any = LogSoftmax.apply(torch.randn(2, 50), torch.tensor([0, 1]), False)  # type: ignore[no-untyped-call]
    assert found[1].tolist() == [0.0, 0.0]
