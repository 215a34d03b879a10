"""What a strategy that stops by itself, or weighs its votes, comes to over many orders of the samples that are known.

N samples of a problem, K sizes, R orders, C classes of answers, X kinds of cost. Samples are independent, so every
order is as likely as any other, and an order's beginning is what the strategy would have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinksmith.evaluate.scaling.pool import Floats, Ints, Samples
from thinksmith.strategies.adaptive import lead

_TIE = 1e-9  # between sums of weights that would be equal, were they not rounded
_MOST_CELLS = 4_000_000  # of the array over orders × samples × classes at once: 32 MB

Options = Mapping[str, Any]
Outcome = tuple[float, Floats]
"""The expected score and the expected cost X of one size."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """How many orders at least, and the seed of the random ones."""

    orders: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Orders:
    """Random orders of a problem's samples, and who leads after each sample. `order_RN` are places in the pool.

    `weight_RNC`: the sum of weights of each class so far. `first_RC`: where each class appears first. `right_RN`: the
    score of the leader's first member, 0 without a vote. `cost_RNX`: what was spent so far.
    """

    order_RN: Ints
    weight_RNC: Floats
    first_RC: Ints
    right_RN: Floats
    cost_RNX: Floats


def _orders(samples: Samples, weight_N: Floats, drawing: Drawing) -> Iterable[_Orders]:
    """The orders in portions that fit into memory; a problem's are the same for every policy.

    All orders there are, where these are no more than are wanted. Else each random one comes with all its rotations, so
    that every sample stands at every place equally often: what depends on one place, such as the score of the first
    sample or the cost of k of them, has no noise.
    """
    n = len(samples)
    digest = sha256(f"{drawing.seed}\0{samples.problem.id}".encode("utf-8", "surrogatepass")).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    class_N = _numbered(samples.class_N)
    classes = max(1, int(class_N.max()) + 1)
    if math.factorial(n) <= drawing.orders:
        yield _followed(samples, np.array(list(permutations(range(n)))), class_N, classes, weight_N)
        return
    rotated_NN = (np.arange(n)[:, None] + np.arange(n)[None, :]) % n
    whole, portion = -(-drawing.orders // n), max(1, _MOST_CELLS // (n * n * classes))
    for start in range(0, whole, portion):
        base_BN = random.permuted(np.tile(np.arange(n), (min(portion, whole - start), 1)), axis=1)
        yield _followed(samples, base_BN[:, rotated_NN].reshape(-1, n), class_N, classes, weight_N)


def _numbered(class_N: Ints) -> Ints:
    """The classes from 0 on without gaps, -1 for no answer."""
    _, number_N = np.unique(class_N, return_inverse=True)
    return np.asarray(number_N - bool((class_N < 0).any()))


def _followed(samples: Samples, order_RN: Ints, class_N: Ints, classes: int, weight_N: Floats) -> _Orders:
    one_hot_NC = (class_N[:, None] == np.arange(classes)).astype(np.float64)
    weight_RNC = np.cumsum((one_hot_NC * weight_N[:, None])[order_RN], axis=1)
    first_RC = _firsts(one_hot_NC[order_RN] > 0)
    cost_NX = np.stack([samples.tokens_N, samples.flops_N, np.ones(len(samples))], axis=1)
    cost_RNX = np.cumsum(cost_NX[order_RN], axis=1)
    cost_RNX[:, :, 1] += samples.prompt_flops
    right_RN = _leader_right(weight_RNC, first_RC, order_RN, samples.right_N)
    return _Orders(order_RN, weight_RNC, first_RC, right_RN, cost_RNX)


def _firsts(gave_RNC: NDArray[np.bool_]) -> Ints:
    """The place of each class's first sample, the number of samples where it has none."""
    return np.asarray(np.where(gave_RNC.any(axis=1), gave_RNC.argmax(axis=1), gave_RNC.shape[1]))


def _leaders(weight_RNC: Floats, first_RC: Ints) -> Ints:
    """The number of the leading class after each sample; ties go to the first to appear. Any number before a vote."""
    n = weight_RNC.shape[1]
    there_RNC = first_RC[:, None, :] <= np.arange(n)[None, :, None]
    standing_RNC = np.where(there_RNC, weight_RNC, -np.inf)
    tied_RNC = standing_RNC >= standing_RNC.max(axis=2, keepdims=True) - _TIE
    return np.asarray(np.where(tied_RNC, first_RC[:, None, :], n + 1).argmin(axis=2))


def _leader_right(weight_RNC: Floats, first_RC: Ints, order_RN: Ints, right_N: Floats) -> Floats:
    """The score of the leading class, judged by its first member, after each sample; 0 before a vote."""
    padded_RN = np.concatenate([right_N[order_RN], np.zeros((len(order_RN), 1))], axis=1)
    first_right_RC = np.take_along_axis(padded_RN, first_RC, axis=1)
    right_RN = np.take_along_axis(first_right_RC, _leaders(weight_RNC, first_RC), axis=1)
    any_RN = first_RC.min(axis=1)[:, None] <= np.arange(order_RN.shape[1])
    return np.where(any_RN, right_RN, 0.0)


def _mean(parts: Iterable[tuple[Floats, Floats]]) -> list[Outcome]:
    """Means over the orders of scores (R × K) and costs (R × K × X), given in portions."""
    scores, costs = zip(*parts, strict=True)
    score_K = np.concatenate(scores).mean(axis=0)
    cost_KX = np.concatenate(costs).mean(axis=0)
    return [(float(score), cost) for score, cost in zip(score_K, cost_KX, strict=True)]


def weighted_vote(samples: Samples, weight_N: Floats, sizes: Sequence[int], drawing: Drawing) -> list[Outcome]:
    """The class of most weight among k samples."""
    at_K = np.array(sizes) - 1
    drawn = _orders(samples, weight_N, drawing)
    return _mean((each.right_RN[:, at_K], each.cost_RNX[:, at_K]) for each in drawn)


def adaptive(samples: Samples, options: Options, sizes: Sequence[int], drawing: Drawing) -> list[Outcome]:
    """As `thinksmith.strategies.adaptive`, one draw at a time (a window at a time with rule=window)."""
    parts = []
    for each in _orders(samples, np.ones(len(samples)), drawing):
        safe_RN = _safe(each, samples, options)
        standing = _standing(each.weight_RNC, each.first_RC)
        looks_N = np.ones(len(samples), dtype=np.bool_)
        if options["rule"] == "window":
            looks_N = (np.arange(len(samples)) + 1) % int(options["window"]) == 0
        stops = [looks_N & (safe_RN | standing.decided(k)) for k in sizes]
        at_RK = np.stack([_first(stop_RN, k) for stop_RN, k in zip(stops, sizes, strict=True)], axis=1)
        parts.append(_taken(each.right_RN, each.cost_RNX, at_RK))
    return _mean(parts)


def _first(stop_RN: NDArray[np.bool_], size: int) -> Ints:
    """The place of the first stop, or the last of `size` samples where there is none before."""
    n = stop_RN.shape[1]
    first_R = np.where(stop_RN.any(axis=1), stop_RN.argmax(axis=1), n)
    return np.asarray(np.minimum(first_R, size - 1))


def _taken(right_RN: Floats, cost_RNX: Floats, at_RK: Ints) -> tuple[Floats, Floats]:
    """Scores and costs at these places."""
    rows = np.arange(len(at_RK))[:, None]
    return right_RN[rows, at_RK], cost_RNX[rows, at_RK]


@dataclass(frozen=True, slots=True)
class _Standing:
    """Votes after each sample: of the leader, of the second, and of the best class that came before and after it."""

    leader_RN: Floats
    second_RN: Floats
    earlier_RN: Floats
    later_RN: Floats

    def decided(self, size: int) -> NDArray[np.bool_]:
        """Can the samples that are left of `size` no longer change who leads? Ties go to the class that came first."""
        left_N = size - 1 - np.arange(self.leader_RN.shape[1])
        ahead_RN = self.earlier_RN + left_N < self.leader_RN
        behind_RN = np.maximum(self.later_RN, 0) + left_N <= self.leader_RN
        return np.where(self.leader_RN > 0, ahead_RN & behind_RN, left_N == 0)


def _standing(count_RNC: Floats, first_RC: Ints) -> _Standing:
    leader_RN1 = _leaders(count_RNC, first_RC)[:, :, None]
    leading_RN1 = np.take_along_axis(count_RNC, leader_RN1, axis=2)
    came_RN1 = np.take_along_axis(np.broadcast_to(first_RC[:, None, :], count_RNC.shape), leader_RN1, axis=2)
    own_RNC = np.arange(count_RNC.shape[2]) == leader_RN1
    earlier_RNC = first_RC[:, None, :] < came_RN1
    return _Standing(
        leader_RN=leading_RN1[:, :, 0],
        second_RN=np.where(own_RNC, 0, count_RNC).max(axis=2),
        earlier_RN=np.where(earlier_RNC, count_RNC, -np.inf).max(axis=2),
        later_RN=np.where(earlier_RNC | own_RNC, -np.inf, count_RNC).max(axis=2),
    )


def _safe(drawn: _Orders, samples: Samples, options: Options) -> NDArray[np.bool_]:
    """After which samples the leader is safe by the rule: by the posterior of the two foremost classes, or because a
    whole window agrees."""
    if options["rule"] == "window":
        return _agreeing(samples.class_N[drawn.order_RN], int(options["window"]))
    standing = _standing(drawn.weight_RNC, drawn.first_RC)
    n = len(samples)
    table = np.array([[lead(a, b) for b in range(n + 1)] for a in range(n + 1)]) > options["threshold"]
    safe_RN: NDArray[np.bool_] = table[standing.leader_RN.astype(int), standing.second_RN.astype(int)]
    return safe_RN & (standing.leader_RN > 0)


def _agreeing(class_RN: Ints, window: int) -> NDArray[np.bool_]:
    """After which samples the last `window` all gave one answer."""
    agree_RN = np.zeros(class_RN.shape, dtype=np.bool_)
    for end in range(window, class_RN.shape[1] + 1):
        part = class_RN[:, end - window : end]
        agree_RN[:, end - 1] = (part == part[:, :1]).all(axis=1) & (part[:, 0] >= 0)
    return agree_RN


def confident(
    samples: Samples, weight_N: Floats, options: Options, sizes: Sequence[int], drawing: Drawing
) -> list[Outcome]:
    """As `thinksmith.strategies.confident`: offline with first=0, else stopped at the consensus.

    A trace that falls below the bar has no vote either way; but here it is drawn to its end, for what stopping it early
    saves is not in a pool: the tokens are an upper bound.
    """
    weight_N = _positive(weight_N)
    class_N = _numbered(samples.class_N)
    work = _online if options["first"] else _offline
    parts = []
    for each in _orders(samples, weight_N, drawing):
        ballot = _Ballot(each.order_RN, class_N, weight_N, samples.right_N)
        found = [work(ballot, k, options) for k in sizes]
        at_RK = np.stack([at_R for _, at_R in found], axis=1)
        costs = each.cost_RNX[np.arange(len(at_RK))[:, None], at_RK]
        parts.append((np.stack([right_R for right_R, _ in found], axis=1), costs))
    return _mean(parts)


def _positive(weight_N: Floats) -> Floats:
    """The weights; where one is negative, as of a reward model, all as 1 / (1 + exp(-weight)): no vote counts less than
    nothing."""
    return weight_N if (weight_N >= 0).all() else np.asarray(1 / (1 + np.exp(-weight_N)))


@dataclass(frozen=True, slots=True)
class _Ballot:
    """Votes over some of the first samples of each order."""

    order_RN: Ints
    class_N: Ints
    weight_N: Floats
    right_N: Floats

    def result(self, voting_Rk: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """The score of the leader and its share of the weight, of those that vote and give an answer; where none of
        them does all vote, and the share is 0."""
        order_Rk = self.order_RN[:, : voting_Rk.shape[1]]
        gives_Rk = self.class_N[order_Rk] >= 0
        none_R1 = np.asarray(~(voting_Rk & gives_Rk).any(axis=1, keepdims=True))
        voting_Rk = (voting_Rk | none_R1) & gives_Rk
        one_hot_NC = self.class_N[:, None] == np.arange(max(1, int(self.class_N.max()) + 1))
        gave_RkC = one_hot_NC[order_Rk] & voting_Rk[:, :, None]
        weight_RC = (gave_RkC * self.weight_N[order_Rk][:, :, None]).sum(axis=1)
        first_RC = _firsts(gave_RkC)
        came_RC = np.asarray(first_RC < voting_Rk.shape[1])
        standing_RC = np.where(came_RC, weight_RC, -np.inf)
        tied_RC = came_RC & (standing_RC >= standing_RC.max(axis=1, keepdims=True) - _TIE)
        place_R1 = np.where(tied_RC, first_RC, voting_Rk.shape[1] - 1).min(axis=1, keepdims=True)
        right_R = self.right_N[np.take_along_axis(order_Rk, place_R1, axis=1)[:, 0]]
        whole_R = weight_RC.sum(axis=1)
        share_R = np.where(none_R1[:, 0] | (whole_R <= 0), 0, weight_RC.max(axis=1) / np.maximum(whole_R, 1e-300))
        return np.where(came_RC.any(axis=1), right_R, 0.0), share_R


def _offline(ballot: _Ballot, k: int, options: Options) -> tuple[Floats, Ints]:
    """All k are drawn; the share `keep` of greatest weight of those that answer votes."""
    order_Rk = ballot.order_RN[:, :k]
    value_Rk = np.where(ballot.class_N[order_Rk] >= 0, ballot.weight_N[order_Rk], -np.inf)
    able_R = (value_Rk > -np.inf).sum(axis=1)
    most_R = np.maximum(1, np.round(options["keep"] * able_R))  # halves to even, as Python rounds
    rank_Rk = np.argsort(np.argsort(-value_Rk, axis=1, kind="stable"), axis=1, kind="stable")
    right_R, _ = ballot.result((rank_Rk < most_R[:, None]) & (value_Rk > -np.inf))
    return right_R, np.full(len(order_Rk), k - 1)


def _online(ballot: _Ballot, k: int, options: Options) -> tuple[Floats, Ints]:
    """The first few set the bar; then `step` at a time, until the leader has the share `consensus` of the weight of
    those above the bar."""
    first = min(int(options["first"]), k)
    weight_RN = ballot.weight_N[ballot.order_RN]
    bar_R1 = np.quantile(weight_RN[:, :first], 1 - options["keep"], axis=1)[:, None]
    right_R = np.zeros(len(weight_RN))
    at_R = np.full(len(weight_RN), -1)
    for drawn in [*range(first, k, int(options["step"])), k]:
        now_R, share_R = ballot.result(weight_RN[:, :drawn] >= bar_R1)
        stops_R = (at_R < 0) & ((share_R >= options["consensus"]) | (drawn == k))
        right_R = np.where(stops_R, now_R, right_R)
        at_R = np.where(stops_R, drawn - 1, at_R)
    return right_R, at_R
