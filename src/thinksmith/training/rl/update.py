"""What is learnt from a rollout: one or more optimiser steps on its completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from thinksmith.policy.logprobs import Scores
from thinksmith.policy.policy import Policy
from thinksmith.records import Trace
from thinksmith.training.batches import Example
from thinksmith.training.micro import MICRO_TOKENS, Micro, idle_micros, micros
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.ranks import ALONE, Ranks
from thinksmith.training.reference import Reference
from thinksmith.training.rl.advantages import group_advantages
from thinksmith.training.rl.losses import Loss, LossRules, Normaliser, policy_loss, top_entropy_mask
from thinksmith.training.rl.recipe import GRPORecipe, TrainingTable
from thinksmith.training.rl.rollout import Rollout
from thinksmith.training.rows import Metrics
from thinksmith.training.step import take_step


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion as the update sees it: `advantage`, and the log-probability of each learnt token when it was
    sampled, at temperature 1. One that is masked has no learnt tokens."""

    example: Example
    advantage: float
    sampled: tuple[float, ...]

    @property
    def learnt(self) -> int:
        return len(self.sampled)


@dataclass(frozen=True, slots=True)
class Known:
    """What is computed of a micro-batch before the weights move; [M] each, None where it is not needed."""

    old_M: Tensor | None
    reference_M: Tensor | None
    mask_M: Tensor | None


@dataclass(slots=True)
class Sums:
    """Of all micro-batches and optimiser steps of an update, on this rank."""

    loss: float = 0.0
    tokens: int = 0
    ratios: int = 0
    low: int = 0
    high: int = 0
    kl: float = 0.0
    drift: float = 0.0
    entropy: float = 0.0
    gap: float = 0.0
    compared: int = 0
    computed: int = 0
    padding: int = 0
    largest_gap: float = 0.0
    largest_ratio: float = 0.0
    norms: list[float] = field(default_factory=list)

    def add(self, loss: Loss, micro: Micro, entropy: float) -> None:
        self.loss += float(loss.value.detach())
        self.tokens += loss.tokens
        self.ratios += loss.ratios
        self.low += loss.clipped_low
        self.high += loss.clipped_high
        self.kl += loss.kl_sum
        self.drift += loss.drift_sum
        self.entropy += entropy
        self.computed += micro.computed
        self.padding += micro.padding
        self.largest_ratio = max(self.largest_ratio, loss.largest_ratio)

    def compare(self, logprobs_M: Tensor, sampled_M: Tensor) -> None:
        """How far the log-probabilities of training are from those of sampling."""
        gap_M = (logprobs_M - sampled_M).abs()
        self.gap += float(gap_M.sum())
        self.compared += gap_M.numel()
        self.largest_gap = max(self.largest_gap, float(gap_M.max()))


def update(
    policy: Policy,
    rollout: Rollout,
    recipe: GRPORecipe,
    optimizers: Optimizers,
    lr_scale: float,
    *,
    reference: Reference | None = None,
    micro_tokens: int = 0,
    ranks: Ranks = ALONE,
) -> Metrics:
    """Move the weights by what `rollout` teaches: `num_iterations` passes over it, each of `minibatches` optimiser
    steps. Of `recipe` the tables `training` and `rollout` count.

    A completion with advantage 0 has no gradient and is not computed, unless there is a KL penalty. `micro_tokens`: the
    most tokens of a pass, which changes no result; 0 is what the recipe says. Raises NotFiniteError before a step that
    would spoil the weights.
    """
    training = recipe.training
    completions = completions_of(rollout, training, ranks)
    of_rollout = sum(ranks.gather(sum(each.learnt for each in completions)))
    sums = Sums()
    trained: list[Completion] = []
    prepared = []
    policy.model.eval()  # what the loss compares with is without dropout
    for part in _minibatches(completions, rollout.groups, training.minibatches, ranks):
        normaliser = Normaliser(
            training.loss_type,
            tuple(ranks.joined([each.learnt for each in part])),
            recipe.rollout.max_tokens,
            of_rollout,
            training.minibatches,
        )
        step = _Step(policy, recipe, part, normaliser, micro_tokens or training.micro_tokens, ranks)
        step.look(reference)
        trained += step.chosen
        prepared.append(step)
    policy.model.train()  # what makes transformers recompute layers, where the recipe wants that
    try:
        for iteration in range(training.num_iterations):
            for place, step in enumerate(prepared):
                step.take(optimizers, lr_scale, sums, first=iteration == place == 0)
    finally:
        policy.model.eval()
    return _told(sums, completions, trained, ranks)


def completions_of(rollout: Rollout, training: TrainingTable, ranks: Ranks = ALONE) -> list[Completion]:
    """The rollout's completions with their advantages, which for `scale_rewards = "batch"` depend on all ranks'."""
    rewards: list[float | None] = ranks.joined(list(rollout.rewards))
    groups = ranks.joined([(ranks.rank, group) for group in rollout.groups])
    number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    advantages_N = group_advantages(rewards, [number[group] for group in groups], scale=training.scale_rewards)
    own = np.flatnonzero([rank == ranks.rank for rank, _ in groups])
    masked = rollout.masked or (False,) * len(rollout.attempts)
    return [
        _completion(attempt.trace, float(advantage), off)
        for attempt, advantage, off in zip(rollout.attempts, advantages_N[own], masked, strict=True)
    ]


def _completion(trace: Trace, advantage: float, masked: bool) -> Completion:
    if trace.logprobs is None:
        raise ValueError("GRPO needs an engine that gives log-probabilities")
    forced = range(len(trace.token_ids)) if masked else trace.forced
    sampled = tuple(trace.logprobs)
    if forced:
        given = set(forced)
        sampled = tuple(logprob for place, logprob in enumerate(sampled) if place not in given)
    return Completion(Example(trace.prompt_ids, trace.token_ids, tuple(forced)), advantage, sampled)


def _minibatches(
    completions: Sequence[Completion], groups: Sequence[int], count: int, ranks: Ranks
) -> Iterator[list[Completion]]:
    """This rank's completions in `count` parts of whole groups; the parts of all ranks are as even as they come."""
    order = sorted(set(ranks.joined(groups)))
    for part in range(count):
        chosen = set(order[part * len(order) // count : (part + 1) * len(order) // count])
        yield [each for each, group in zip(completions, groups, strict=True) if group in chosen]


class _Step:
    """One optimiser step: the completions of a minibatch, cut into micro-batches once for all passes over it."""

    def __init__(
        self,
        policy: Policy,
        recipe: GRPORecipe,
        completions: Sequence[Completion],
        normaliser: Normaliser,
        micro_tokens: int,
        ranks: Ranks,
    ) -> None:
        self._policy, self._training, self._ranks = policy, recipe.training, ranks
        self._temperature = recipe.rollout.temperature
        every = self._training.beta != 0.0
        places = [i for i, each in enumerate(completions) if each.learnt and (every or each.advantage)]
        self.chosen = [completions[i] for i in places]
        self._micros = micros(policy, [each.example for each in self.chosen], micro_tokens or MICRO_TOKENS)
        self._idle = idle_micros(policy, len(self._micros), ranks)
        first = sum(ranks.gather(len(completions))[: ranks.rank])  # the normaliser counts all ranks' completions
        self._weights = normaliser.weights([first + i for i in places])
        self._known: list[Known] = []

    @property
    def _single(self) -> bool:
        """Is there one pass and one step, so that the weights which are trained are those that sampled?"""
        return self._training.num_iterations * self._training.minibatches == 1

    def look(self, reference: Reference | None) -> None:
        """Compute, before the weights move, what the loss compares with."""
        training = self._training
        # The sampled log-probabilities are at temperature 1, and at another one they say nothing of the ratio.
        computed = training.old_logprobs == "computed" or self._temperature != 1.0
        masked = training.top_entropy_quantile < 1.0
        scores = []
        with torch.no_grad():
            if masked or (computed and not self._single):
                scores = self._scores(self._policy, masked)
            references: list[Tensor | None] = [None] * len(self._micros)
            if reference is not None and training.beta:
                with reference() as policy:
                    references = [found.logprobs_N for found in self._scores(policy, False)]
        masks: list[Tensor | None] = [None] * len(self._micros)
        if masked:
            entropies = [found.entropy_N for found in scores if found.entropy_N is not None]
            here = torch.cat(entropies).tolist() if entropies else []
            of_step = torch.tensor(self._ranks.joined(here))
            masks = [
                top_entropy_mask(part.cpu(), training.top_entropy_quantile, of_step=of_step).to(part.device)
                for part in entropies
            ]
        for place, micro in enumerate(self._micros):
            if not computed:
                old_M: Tensor | None = self._sampled(micro)
            else:
                old_M = None if self._single else scores[place].logprobs_N
            self._known.append(Known(old_M, references[place], masks[place]))

    def _scores(self, policy: Policy, entropy: bool) -> list[Scores]:
        found = [micro.score(policy, entropy, self._temperature) for micro in (*self._micros, *self._idle)]
        return found[: len(self._micros)]

    def take(self, optimizers: Optimizers, lr_scale: float, sums: Sums, *, first: bool) -> None:
        """One optimiser step. Where no rank has anything to learn the weights stay as they are."""
        for micro, known in zip(self._micros, self._known, strict=True):
            self._learn(micro, known, sums, first=first)
        for micro in self._idle:
            nothing = 0.0 * micro.score(self._policy, True, self._temperature).logprobs_N.sum()
            nothing.backward()  # type: ignore[no-untyped-call]
        if not any(self._ranks.gather(len(self._micros))):
            return
        most = self._training.max_grad_norm
        sums.norms.append(take_step(self._policy, optimizers, lr_scale, most, sums.loss, self._ranks))

    def _learn(self, micro: Micro, known: Known, sums: Sums, *, first: bool) -> None:
        """Add a micro-batch's gradient."""
        found = micro.score(self._policy, True, self._temperature)
        rows = [self.chosen[i] for i in micro.indices]
        loss = policy_loss(
            found.logprobs_N,
            found.logprobs_N.detach() if known.old_M is None else known.old_M,
            self._per_token([each.advantage for each in rows], micro),
            self._per_token([self._weights[i] for i in micro.indices], micro),
            self._rules,
            rows_N=micro.rows_M,
            reference_N=known.reference_M,
            mask_N=known.mask_M,
        )
        loss.value.backward()  # type: ignore[no-untyped-call]
        entropy_M = found.entropy_N
        sums.add(loss, micro, 0.0 if entropy_M is None else float(entropy_M.detach().sum()))
        if first and self._temperature == 1.0:
            sums.compare(found.logprobs_N.detach(), self._sampled(micro))

    @property
    def _rules(self) -> LossRules:
        training = self._training
        return LossRules(
            training.loss_type,
            training.epsilon,
            training.epsilon_high,
            training.delta,
            training.beta,
            training.kl_estimator,
        )

    def _sampled(self, micro: Micro) -> Tensor:
        values = [value for i in micro.indices for value in self.chosen[i].sampled]
        return torch.from_numpy(np.array(values, dtype=np.float32)).to(micro.rows_M.device)

    def _per_token(self, values: Sequence[float], micro: Micro) -> Tensor:
        """Each completion's value at its learnt tokens."""
        return torch.tensor(values, dtype=torch.float32, device=micro.rows_M.device)[micro.rows_M]


def _told(sums: Sums, completions: Sequence[Completion], trained: Sequence[Completion], ranks: Ranks) -> Metrics:
    """The metrics of an update, over all ranks."""
    parts = ranks.gather((sums, len(completions), len(trained), sum(each.example.tokens for each in trained)))

    def total(name: str) -> float:
        return float(sum(getattr(part[0], name) for part in parts))

    tokens, ratios = max(total("tokens"), 1.0), max(total("ratios"), 1.0)
    return {
        "loss": total("loss") / max(len(sums.norms), 1),
        "kl": total("kl") / tokens,
        "drift": total("drift") / tokens,
        "entropy": total("entropy") / tokens,
        "clip_low_share": total("low") / ratios,
        "clip_high_share": total("high") / ratios,
        "largest_ratio": max(part[0].largest_ratio for part in parts),
        "logprob_gap": total("gap") / max(total("compared"), 1.0),
        "largest_logprob_gap": max(part[0].largest_gap for part in parts),
        "grad_norm": float(np.mean(sums.norms)) if sums.norms else 0.0,
        "kept_share": sum(part[2] for part in parts) / max(sum(part[1] for part in parts), 1),
        "trained_tokens": float(sum(part[3] for part in parts)),
        "computed_tokens": total("computed"),
        "padding_share": total("padding") / max(total("computed"), 1.0),
    }
