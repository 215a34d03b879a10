"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290): of two traces of one problem the right one
is made likelier than the wrong one, as seen from the model before training.

    r(y) = beta (log p(y | x) - log p_before(y | x)),    loss = - log sigmoid(r(right) - r(wrong)),    equation 7

with log-probabilities summed over the completion, and the mean over the pairs of the optimiser step. Of the reference
two sums a pair are all that is needed; they are computed once, before the first step, by the weights as they are then.
So it is the frozen copy's, or the adapter's absence, without a second copy and without a second pass in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from thinksmith.policy.policy import Policy
from thinksmith.training.batches import Example
from thinksmith.training.micro import MICRO_TOKENS, Micro, micros
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.ranks import ALONE, Ranks
from thinksmith.training.rows import Metrics
from thinksmith.training.step import take_step
from thinksmith.training.supervised.lesson import in_training


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions of one prompt."""

    right: Example
    wrong: Example

    @property
    def tokens(self) -> int:
        """As they are computed: the prompt once."""
        return self.right.tokens + len(self.wrong.completion_ids)


Sums = tuple[float, float]
"""Log-probability of a pair's right completion and of its wrong one, in nats."""


def preference_loss(
    right_P: Tensor, wrong_P: Tensor, right_before_P: Tensor, wrong_before_P: Tensor, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [P] of each pair, and the rewards r(right), r(wrong) [P], from summed log-probabilities in nats."""
    right_reward_P = beta * (right_P - right_before_P)
    wrong_reward_P = beta * (wrong_P - wrong_before_P)
    return -logsigmoid(right_reward_P - wrong_reward_P), right_reward_P, wrong_reward_P


def reference_sums(policy: Policy, pairs: Sequence[Pair], micro_tokens: int = 0, ranks: Ranks = ALONE) -> list[Sums]:
    """Of each pair, by the weights as they are now; the ranks share the work."""
    mine = list(range(len(pairs)))[ranks.rank :: ranks.size]
    found: dict[int, Sums] = {}
    with torch.no_grad():
        for places, micro in _passes(policy, [pairs[index] for index in mine], micro_tokens):
            right_P, wrong_P = _sums(policy, micro)
            rows = zip(right_P.tolist(), wrong_P.tolist(), strict=True)
            found |= {mine[place]: sums for place, sums in zip(places, rows, strict=True)}
    everyone = {index: sums for part in ranks.gather(found) for index, sums in part.items()}
    return [everyone[index] for index in range(len(pairs))]


@dataclass(frozen=True, slots=True)
class DPO:
    """A `Lesson` of pairs. `before` and `held_out_before` are their sums by the reference. `micro_tokens`: the most
    tokens of a pass (0: 2,048), at least one pair, which changes no result."""

    policy: Policy
    pairs: Sequence[Pair]
    before: Sequence[Sums]
    beta: float = 0.1
    held_out: Sequence[Pair] = ()
    held_out_before: Sequence[Sums] = ()
    max_grad_norm: float = 1.0
    micro_tokens: int = 0
    ranks: Ranks = ALONE

    @property
    def sizes(self) -> list[int]:
        return [pair.tokens for pair in self.pairs]

    def learn(self, indices: Sequence[int], optimizers: Optimizers, lr_scale: float) -> Metrics:
        mine = self.ranks.own(indices)
        pairs, before = [self.pairs[index] for index in mine], [self.before[index] for index in mine]
        told = _Told()
        with in_training(self.policy.model):
            for places, micro in _passes(self.policy, pairs, self.micro_tokens):
                loss_P, right_P, wrong_P = self._loss(micro, [before[place] for place in places])
                loss = loss_P.sum() / len(indices)
                loss.backward()  # type: ignore[no-untyped-call]
                told.add(loss_P, right_P, wrong_P, micro)
            here = told.loss / len(indices)
            norm = take_step(self.policy, optimizers, lr_scale, self.max_grad_norm, here, self.ranks)
        whole = _Told.joined(self.ranks.gather(told))
        return {
            **whole.means(""),
            "grad_norm": norm,
            "samples": float(len(indices)),
            "trained_tokens": float(sum(self.pairs[index].tokens for index in indices)),
            "learnt_tokens": float(sum(_learnt(self.pairs[index]) for index in indices)),
            "computed_tokens": float(whole.computed),
            "padding_share": whole.padding / max(whole.computed, 1),
        }

    def measure(self) -> Metrics:
        """The same of held-out pairs."""
        if not self.held_out:
            return {}
        pairs, before = self.ranks.own(self.held_out), self.ranks.own(self.held_out_before)
        told = _Told()
        with torch.no_grad():
            for places, micro in _passes(self.policy, pairs, self.micro_tokens):
                told.add(*self._loss(micro, [before[place] for place in places]), micro)
        return _Told.joined(self.ranks.gather(told)).means("held_out_")

    def _loss(self, micro: Micro, before: Sequence[Sums]) -> tuple[Tensor, Tensor, Tensor]:
        right_P, wrong_P = _sums(self.policy, micro)
        before_P2 = torch.tensor(before, dtype=right_P.dtype, device=right_P.device)
        return preference_loss(right_P, wrong_P, before_P2[:, 0], before_P2[:, 1], self.beta)


@dataclass(slots=True)
class _Told:
    """Sums over pairs."""

    pairs: int = 0
    loss: float = 0.0
    right: float = 0.0
    wrong: float = 0.0
    won: float = 0.0
    computed: int = 0
    padding: int = 0

    def add(self, loss_P: Tensor, right_P: Tensor, wrong_P: Tensor, micro: Micro) -> None:
        sums = [loss_P.sum(), right_P.sum(), wrong_P.sum(), (right_P > wrong_P).sum().to(loss_P.dtype)]
        loss, right, wrong, won = torch.stack(sums).detach().tolist()
        self.pairs += len(loss_P)
        self.loss, self.right, self.wrong, self.won = (
            self.loss + loss, self.right + right, self.wrong + wrong, self.won + won,
        )  # fmt: skip
        self.computed += micro.computed
        self.padding += micro.padding

    @classmethod
    def joined(cls, parts: Sequence[_Told]) -> _Told:
        return cls(*(sum(getattr(part, name) for part in parts) for name in cls.__slots__))

    def means(self, prefix: str) -> Metrics:
        count = max(self.pairs, 1)
        return {
            f"{prefix}loss": self.loss / count,
            f"{prefix}reward_right": self.right / count,
            f"{prefix}reward_wrong": self.wrong / count,
            f"{prefix}margin": (self.right - self.wrong) / count,
            f"{prefix}pair_accuracy": self.won / count,
        }


def _learnt(pair: Pair) -> int:
    return pair.right.learnt + pair.wrong.learnt


def _passes(policy: Policy, pairs: Sequence[Pair], micro_tokens: int) -> list[tuple[list[int], Micro]]:
    """Every pair once, its two completions in one pass; with which pairs each pass has, in their order there."""
    examples = [example for pair in pairs for example in (pair.right, pair.wrong)]
    units = [(2 * place, 2 * place + 1) for place in range(len(pairs))]
    found = micros(policy, examples, micro_tokens or MICRO_TOKENS, units)
    return [([index // 2 for index in micro.indices if index % 2 == 0], micro) for micro in found]


def _sums(policy: Policy, micro: Micro) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities [P] of the right completions and of the wrong ones, each in the order of the pass."""
    logprobs_M = micro.score(policy).logprobs_N
    sums_R = logprobs_M.new_zeros(len(micro.indices)).index_add(0, micro.rows_M, logprobs_M)
    place = {index: row for row, index in enumerate(micro.indices)}
    rights = [index for index in micro.indices if index % 2 == 0]
    right_P, wrong_P = (
        torch.tensor([place[index + other] for index in rights], device=sums_R.device) for other in (0, 1)
    )
    return sums_R[right_P], sums_R[wrong_P]
