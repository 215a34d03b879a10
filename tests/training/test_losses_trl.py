"""Our losses against TRL's own `_compute_loss`, on the same tensors: value, gradient and metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from thinksmith.training.rl.advantages import group_advantages
from thinksmith.training.rl.losses import Loss, LossRules, LossType, Normaliser, policy_loss, top_entropy_mask

pytest.importorskip("trl", reason="needs trl, of the bench extra")

TYPES: tuple[LossType, ...] = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo")
MAX_TOKENS, WIDTH = 20, 12


@cache
def trainer() -> Any:
    from trl import GRPOTrainer

    return GRPOTrainer


@dataclass(frozen=True)
class Batch:
    """One rollout, padded as TRL has it; `mask_BT` marks the learnt tokens, whatever lies between them."""

    new_BT: Tensor
    old_BT: Tensor
    reference_BT: Tensor
    entropy_BT: Tensor
    mask_BT: Tensor
    advantages_B: Tensor

    def part(self, rows: slice) -> Batch:
        return Batch(*(tensor[rows] for tensor in astuple(self)))

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self.mask_BT.sum(1).tolist())


def batch_of(seed: int, rows: int = 8, *, holes: bool, masked: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths_B = torch.randint(1, WIDTH + 1, (rows,), generator=generator)
    mask_BT = torch.arange(WIDTH) < lengths_B[:, None]
    if holes:  # tokens that the model did not choose
        mask_BT &= (torch.rand(rows, WIDTH, generator=generator) < 0.7) | (torch.arange(WIDTH) == 0)
    if masked:  # what mask_truncated_completions does to those that were cut off
        mask_BT[::3] = False
    old_BT = -normal(rows, WIDTH).abs()
    entropy_BT = normal(rows, WIDTH).abs().float().double()  # TRL takes the quantile in fp32
    advantages_B = normal(rows)
    advantages_B[1] = 0.0
    new_BT, reference_BT = old_BT + 0.4 * normal(rows, WIDTH), old_BT + 0.4 * normal(rows, WIDTH)
    return Batch(new_BT, old_BT, reference_BT, entropy_BT, mask_BT, advantages_B)


def stub(rules: LossRules, quantile: float, micro_batches: int, steps: int) -> SimpleNamespace:
    """As much of a trainer as `_compute_loss` reads, for `steps` optimiser steps of `micro_batches` each."""
    whole = SimpleNamespace(
        num_processes=1,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        pad_across_processes=lambda x, dim, pad_index: x,
    )
    args = SimpleNamespace(
        use_bias_correction_kl=False, delta=rules.delta or None, steps_per_generation=micro_batches * steps
    )
    self = SimpleNamespace(
        accelerator=whole,
        args=args,
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        use_vllm=False,
        off_policy_mask_threshold=None,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        top_entropy_quantile=quantile,
        importance_sampling_level="sequence" if rules.loss_type == "gspo" else "token",
        loss_type="grpo" if rules.loss_type == "gspo" else rules.loss_type,
        beta=rules.beta,
        epsilon_low=rules.clip_low,
        epsilon_high=rules.clip_high,
        max_completion_length=MAX_TOKENS,
        current_gradient_accumulation_steps=micro_batches,
    )
    self.get_high_entropy_mask = partial(trainer().get_high_entropy_mask, self)
    return self


def theirs(self: SimpleNamespace, batch: Batch, tokens: int) -> tuple[float, Tensor]:
    new_BT = batch.new_BT.clone().requires_grad_()
    self._get_per_token_logps_and_entropies = lambda *a, **k: (new_BT, batch.entropy_BT, None)
    ids_BT = torch.zeros_like(batch.mask_BT, dtype=torch.int64)
    inputs = {
        "prompt_ids": ids_BT[:, :1],
        "prompt_mask": ids_BT[:, :1] + 1,
        "completion_ids": ids_BT,
        "completion_mask": torch.ones_like(ids_BT),
        "tool_mask": batch.mask_BT.long(),
        "advantages": batch.advantages_B,
        "old_per_token_logps": batch.old_BT,
        "ref_per_token_logps": batch.reference_BT,
        "num_items_in_batch": torch.tensor(float(tokens), dtype=torch.float64),
    }
    loss = trainer()._compute_loss(self, None, inputs)
    loss.backward()
    return loss.item(), new_BT.grad


def ours(
    rules: LossRules, quantile: float, batch: Batch, weights: list[float], entropy_N: Tensor
) -> tuple[Loss, Tensor]:
    new_BT = batch.new_BT.clone().requires_grad_()
    mask_BT = batch.mask_BT
    rows_N = mask_BT.nonzero()[:, 0]
    loss = policy_loss(
        new_BT[mask_BT],
        batch.old_BT[mask_BT],
        batch.advantages_B[rows_N],
        torch.tensor(weights, dtype=torch.float64)[rows_N],
        rules,
        rows_N=rows_N,
        reference_N=batch.reference_BT[mask_BT] if rules.beta else None,
        mask_N=top_entropy_mask(batch.entropy_BT[mask_BT], quantile, of_step=entropy_N) if quantile < 1 else None,
    )
    loss.value.backward()
    return loss, new_BT.grad


def same(found: tuple[float, Tensor], wanted: tuple[float, Tensor]) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=1e-6, abs=1e-12)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-6, atol=1e-12)
    assert wanted[1].any()


def rules_and_quantiles() -> Iterator[Any]:
    for kind in TYPES:
        for beta in (0.0, 0.3):
            for delta in (0.0, 1.4):
                for quantile in (1.0, 0.3):
                    rules = LossRules(kind, 0.2, 1.3 if kind == "cispo" else 0.28, delta, beta)
                    yield pytest.param(rules, quantile, id=f"{kind}-beta{beta}-delta{delta}-top{quantile}")


@pytest.mark.parametrize(("rules", "quantile"), [*rules_and_quantiles()])
@pytest.mark.parametrize("holes", [False, True])
def test_one_batch(rules: LossRules, quantile: float, holes: bool) -> None:
    for seed in range(5):
        batch = batch_of(seed, holes=holes)
        self = stub(rules, quantile, 1, 1)
        weights = Normaliser(rules.loss_type, batch.lengths, MAX_TOKENS).weights(range(len(batch.lengths)))
        loss, gradient = ours(rules, quantile, batch, weights, batch.entropy_BT[batch.mask_BT])
        same((loss.value.item(), gradient), theirs(self, batch, sum(batch.lengths)))
        logged = {name: values[0] for name, values in self._metrics["train"].items()}
        if rules.loss_type == "cispo":
            assert loss.clipped_high / loss.ratios == pytest.approx(logged["cispo_clip_ratio"])
        else:
            assert loss.clipped_low / loss.ratios == pytest.approx(logged["clip_ratio/low_mean"])
            assert loss.clipped_high / loss.ratios == pytest.approx(logged["clip_ratio/high_mean"])
        if rules.beta:
            assert loss.kl_sum / loss.tokens == pytest.approx(logged["kl"])


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "bnpo"])
@pytest.mark.parametrize("masked", [False, True])
def test_accumulation_over_steps(kind: LossType, masked: bool) -> None:
    """A rollout of 12 completions in 2 optimiser steps of 3 micro-batches of 2; bnpo is TRL's only per micro-batch."""
    batch = batch_of(7, 12, holes=True, masked=masked)
    rules = LossRules(kind, 0.2, 1.3 if kind == "cispo" else 0.28, 1.4, 0.3)
    self = stub(rules, 1.0, 3, 2)
    for start in (0, 6):
        step = batch.part(slice(start, start + 6))
        normaliser = Normaliser(kind, step.lengths, MAX_TOKENS, sum(batch.lengths), 2)
        for cut in (0, 2, 4):
            micro = step.part(slice(cut, cut + 2))
            loss, gradient = ours(rules, 1.0, micro, normaliser.weights([cut, cut + 1]), micro.entropy_BT[:0, 0])
            same((loss.value.item(), gradient), theirs(self, micro, sum(batch.lengths)))


@pytest.mark.parametrize("quantile", [0.05, 0.2, 0.5, 0.8, 0.99])
def test_the_entropy_mask(quantile: float) -> None:
    for seed in range(5):
        batch = batch_of(seed, holes=True)
        self = stub(LossRules("dapo"), quantile, 1, 1)
        wanted_BT = self.get_high_entropy_mask(batch.entropy_BT, batch.mask_BT, 1 - quantile)
        found_N = top_entropy_mask(batch.entropy_BT[batch.mask_BT], quantile)
        assert torch.equal(found_N, wanted_BT[batch.mask_BT])


def test_advantages_over_the_batch_use_its_standard_deviation() -> None:
    from trl.trainer.utils import nanstd

    rewards_GM = torch.rand(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rewards_GM[1, 2] = rewards_GM[3, 0] = torch.nan
    rewards_N = rewards_GM.flatten().tolist()
    known: list[float | None] = [None if r != r else r for r in rewards_N]
    groups = [i // 6 for i in range(24)]
    centred_GM = rewards_GM - rewards_GM.nanmean(1, keepdim=True)
    for scale, std in (("batch", nanstd(rewards_GM)), ("group", nanstd(rewards_GM, dim=1, keepdim=True))):
        wanted_N = (centred_GM / (std + 1e-4)).nan_to_num().flatten()
        found_N = torch.from_numpy(group_advantages(known, groups, scale=scale))
        torch.testing.assert_close(found_N, wanted_N, rtol=1e-6, atol=1e-9)  # nanstd has a step in fp32
