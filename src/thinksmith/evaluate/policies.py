"""What strategies come to, worked out from a pool of single samples: expected score and cost, problem by problem.

N samples of a problem, K sizes, R random orders, C classes of answers. Samples are independent and identically
distributed, so every order of the pool, and every subset of it, is as likely as any other: the mean over them all of
what a strategy would have said and spent is the unbiased estimate for fresh samples, of which pass@k (Chen et al.
2021, arXiv:2107.03374) is the best-known case. It is exact for `single`, `vote`, `pass` and `best_of`; for the
others the mean is over R random orders of a fixed seed, drawn without replacement.

A size k must not be larger than N. At k = N there is only one subset: the estimate is still unbiased, but as noisy
over problems as one run of the strategy, which the interval over problems tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinksmith.errors import UserError
from thinksmith.evaluate.pool import Floats, Ints, Pool, Samples
from thinksmith.problems.spec import did_you_mean

ORDERS = 1000
_MOST_CELLS = 4_000_000  # of the array over orders × samples × classes at once: 32 MB

COSTS = ("tokens", "flops", "traces")
"""The columns of a cost X. FLOPs are NaN where the model's shape is not known; the prompt's are counted once."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a policy of size `size` comes to: `score_P` in 0..1 and `cost_PX` (`COSTS`) of each of P problems."""

    size: int
    score_P: Floats
    cost_PX: Floats


@dataclass(frozen=True, slots=True)
class Policy:
    """A strategy as it is worked out from a pool. `spec` is how it is written, `sizes` the only ones wanted (else all).

    `about` for people; `oracle`: it looks at the gold answers, so it is a limit and no strategy.
    """

    spec: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()

    @property
    def series(self) -> str:
        """The spec without its size."""
        head, colon, options = self.spec.partition(":")
        return head.partition("@")[0] + colon + options

    @property
    def oracle(self) -> bool:
        return self.name == "pass"

    @property
    def exact(self) -> bool:
        """No random orders are drawn for it."""
        return self.name in ("single", "pass", "best_of") or (self.name == "vote" and self.options["by"] == "nothing")


@dataclass(frozen=True, slots=True)
class _Known:
    about: str
    options: Mapping[str, Any]
    work: Callable[[Samples, Policy, Sequence[int], int, int], list[tuple[float, Floats]]]


def parse_policies(text: str) -> list[Policy]:
    """The policies of a list with commas, such as `single,vote,adaptive:threshold=0.9,window=4,best_of@8`.

    Raises UserError, with the nearest names, for what is not known.
    """
    specs: list[str] = []
    for part in (piece.strip() for piece in text.split(",")):
        if "=" in part and ":" not in part and specs and ":" in specs[-1]:
            specs[-1] += "," + part
        elif part:
            specs.append(part)
    if not specs:
        raise UserError("name at least one strategy, such as single,vote,adaptive")
    return [parse_policy(spec) for spec in dict.fromkeys(specs)]


def parse_policy(spec: str) -> Policy:
    """NAME [@K] [:key=value,…]. Raises UserError."""
    head, _, rest = spec.partition(":")
    name, at, size = head.partition("@")
    if name not in POLICIES:
        from thinksmith.strategies.names import STRATEGIES

        if name in STRATEGIES:
            raise UserError(
                f"{name} cannot be worked out from a pool of single samples: make a run of it with "
                f"thinksmith eval --strategy {name}, and name it here with --runs"
            )
        known = f"; known are {', '.join(POLICIES)}"
        raise UserError(f"no strategy {name!r}{did_you_mean(name, POLICIES, otherwise=known)}")
    if at and not (size.isascii() and size.isdigit() and int(size) > 0):
        raise UserError(f"{spec}: write the number of samples as {name}@8")
    options = dict(POLICIES[name].options)
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in options:
            hint = did_you_mean(key, options, otherwise=f"; it has: {', '.join(options) or 'none'}")
            raise UserError(f"{spec}: {name} has no option {key!r}{hint}")
        options[key] = _typed(spec, key, value)
    return Policy(spec, name, options, (int(size),) if at else ())


def _typed(spec: str, key: str, value: str) -> Any:
    if key == "by":
        if value not in ("nothing", "confidence", "score"):
            raise UserError(f"{spec}: by is nothing, confidence or score, not {value!r}")
        return value
    low, high, kind = _RANGES[key]
    try:
        number = kind(value)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise UserError(f"{spec}: {key} must be from {low:g} to {high:g}, not {value!r}")
    return number


_RANGES: Mapping[str, tuple[float, float, type]] = {
    "threshold": (0.5, 1.0, float),
    "consensus": (0.5, 1.0, float),
    "keep": (0.01, 1.0, float),
    "window": (2, 1024, int),
    "first": (1, 1024, int),
}


def expect(pool: Pool, policy: Policy, sizes: Iterable[int], *, orders: int = ORDERS, seed: int = 0) -> list[Expected]:
    """The policy at each size, in order. Raises UserError for a size over the pool's samples, and for weights that the
    pool does not have."""
    wanted = [1] if policy.name == "single" else sorted(set(policy.sizes or sizes))
    if not wanted or wanted[0] < 1:
        raise UserError(f"{policy.spec}: needs sizes of at least 1 sample")
    if wanted[-1] > pool.samples:
        raise UserError(
            f"{policy.spec}: k = {wanted[-1]} is larger than the {pool.samples} samples of a problem: "
            f"lower it, or make more with --samples {wanted[-1]}"
        )
    by = policy.options.get("by", "nothing")
    if not pool.has(by):
        told = "log-probabilities" if by == "confidence" else "scores: name their column with --score"
        raise UserError(f"{policy.spec}: the samples of {pool.run or 'the pool'} have no {told}")
    work = POLICIES[policy.name].work
    worked = [work(each, policy, wanted, orders, seed) for each in pool.problems]
    return [
        Expected(size, np.array([one[at][0] for one in worked]), np.array([one[at][1] for one in worked]))
        for at, size in enumerate(wanted)
    ]


# Exact


def _fixed(samples: Samples, k: int) -> Floats:
    """The cost of k samples, which is k times the mean."""
    tokens, flops = samples.tokens_N.mean() * k, samples.flops_N.mean() * k + samples.prompt_flops
    return np.array([tokens, flops, k])


def _single(
    samples: Samples, policy: Policy, sizes: Sequence[int], orders: int, seed: int
) -> list[tuple[float, Floats]]:
    return [(float(samples.right_N.mean()), _fixed(samples, 1))]


def _pass(samples: Samples, policy: Policy, sizes: Sequence[int], orders: int, seed: int) -> list[tuple[float, Floats]]:
    """The best of k if one could see which it is: by the order statistics of the scores."""
    return [(best_of(samples.right_N, samples.right_N, k), _fixed(samples, k)) for k in sizes]


def _best_of(
    samples: Samples, policy: Policy, sizes: Sequence[int], orders: int, seed: int
) -> list[tuple[float, Floats]]:
    # A sample without an answer is taken only where there is no other.
    value_N = np.where(samples.class_N >= 0, samples.weights(policy.options["by"]), -np.inf)
    return [(best_of(value_N, samples.right_N, k), _fixed(samples, k)) for k in sizes]


def best_of(value_N: Floats, right_N: Floats, k: int) -> float:
    """The expected score of the sample with the greatest value among k drawn without replacement; ties go to the first
    to appear, which is each of them as often as any other."""
    total, below, expected = math.comb(len(value_N), k), 0, 0.0
    for value in np.unique(value_N):
        tied = value_N == value
        up_to = below + int(tied.sum())
        expected += (math.comb(up_to, k) - math.comb(below, k)) / total * float(right_N[tied].mean())
        below = up_to
    return expected


def _vote(samples: Samples, policy: Policy, sizes: Sequence[int], orders: int, seed: int) -> list[tuple[float, Floats]]:
    if policy.options["by"] != "nothing":
        return _weighted_vote(samples, policy, sizes, orders, seed)
    return [(vote(samples.class_N, samples.right_N, k), _fixed(samples, k)) for k in sizes]


def vote(class_N: Ints, right_N: Floats, k: int) -> float:
    """The expected score of the class that most of k samples drawn without replacement give. Exact.

    Ties go to the class that appears first: of t tied classes, each of the same number of samples, that is each with
    probability 1/t, whatever the others are. Samples without an answer (-1) have no vote; without any vote the score
    is 0. A class is worth the mean score of its members, who agree but for a verifier's whims.
    """
    numbers, counts = np.unique(class_N[class_N >= 0], return_counts=True)
    silent = int((class_N < 0).sum())
    expected = 0.0
    for number, size in zip(numbers.tolist(), counts.tolist(), strict=True):
        worth = float(right_N[class_N == number].mean())
        if worth:
            others = tuple(sorted(counts[numbers != number].tolist()))
            expected += worth * leads(size, others, silent)[k - 1]
    return expected


@lru_cache(maxsize=65536)
def leads(size: int, others: tuple[int, ...], silent: int) -> tuple[float, ...]:
    """The chance that a class of `size` members leads among k drawn, for every k from 1 on, ties shared evenly.

    For each number m of its members that are drawn: the ways in which the other classes have at most m, by how many of
    them have m (t) and how many samples are drawn from them (d). Ways are whole numbers, so this is exact.
    """
    total = size + sum(others) + silent
    found = [0.0] * total
    free = [math.comb(silent, j) for j in range(silent + 1)]
    for m in range(1, size + 1):
        ways = {(0, 0): 1}
        for other in others:
            grown: dict[tuple[int, int], int] = {}
            for (t, d), count in ways.items():
                for j in range(min(m, other) + 1):
                    key = t + (j == m), d + j
                    grown[key] = grown.get(key, 0) + count * math.comb(other, j)
            ways = grown
        own = math.comb(size, m)
        for (t, d), count in ways.items():
            for j, silences in enumerate(free):
                k = m + d + j
                found[k - 1] += own * count * silences / math.comb(total, k) / (t + 1)
    return tuple(found)


# Over random orders


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


def _orders(samples: Samples, weight_N: Floats, orders: int, seed: int) -> Iterable[_Orders]:
    """The orders in portions that fit into memory; a problem's are the same for every policy.

    Each random order comes with all its rotations, so that every sample stands at every place equally often: what
    depends on one place, such as the score of the first sample or the cost of k of them, has no noise.
    """
    n = len(samples)
    digest = sha256(f"{seed}\0{samples.problem.id}".encode("utf-8", "surrogatepass")).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    class_N = _numbered(samples.class_N)
    classes = max(1, int(class_N.max()) + 1)
    rotated_NN = (np.arange(n)[:, None] + np.arange(n)[None, :]) % n
    whole, portion = -(-orders // n), max(1, _MOST_CELLS // (n * n * classes))
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
    return np.where(gave_RNC.any(axis=1), gave_RNC.argmax(axis=1), gave_RNC.shape[1])


def _leaders(weight_RNC: Floats, first_RC: Ints) -> Ints:
    """The number of the leading class after each sample; ties go to the first to appear. Any number before a vote."""
    n = weight_RNC.shape[1]
    there_RNC = first_RC[:, None, :] <= np.arange(n)[None, :, None]
    standing_RNC = np.where(there_RNC, weight_RNC, -np.inf)
    tied_RNC = standing_RNC == standing_RNC.max(axis=2, keepdims=True)
    return np.asarray(np.where(tied_RNC, first_RC[:, None, :], n + 1).argmin(axis=2))


def _leader_right(weight_RNC: Floats, first_RC: Ints, order_RN: Ints, right_N: Floats) -> Floats:
    """The score of the leading class, judged by its first member, after each sample; 0 before a vote."""
    padded_RN = np.concatenate([right_N[order_RN], np.zeros((len(order_RN), 1))], axis=1)
    first_right_RC = np.take_along_axis(padded_RN, first_RC, axis=1)
    right_RN = np.take_along_axis(first_right_RC, _leaders(weight_RNC, first_RC), axis=1)
    any_RN = first_RC.min(axis=1)[:, None] <= np.arange(order_RN.shape[1])
    return np.where(any_RN, right_RN, 0.0)


def _mean(parts: Iterable[tuple[Floats, Floats]]) -> list[tuple[float, Floats]]:
    """Means over the orders of scores (R × K) and costs (R × K × X), given in portions."""
    scores, costs = zip(*parts, strict=True)
    score_K = np.concatenate(scores).mean(axis=0)
    cost_KX = np.concatenate(costs).mean(axis=0)
    return [(float(score), cost) for score, cost in zip(score_K, cost_KX, strict=True)]


def _weighted_vote(
    samples: Samples, policy: Policy, sizes: Sequence[int], orders: int, seed: int
) -> list[tuple[float, Floats]]:
    at_K = np.array(sizes) - 1
    drawn = _orders(samples, samples.weights(policy.options["by"]), orders, seed)
    return _mean((each.right_RN[:, at_K], each.cost_RNX[:, at_K]) for each in drawn)


def _adaptive(
    samples: Samples, policy: Policy, sizes: Sequence[int], orders: int, seed: int
) -> list[tuple[float, Floats]]:
    """As `thinksmith.strategies.adaptive`, one draw at a time (a window at a time with rule=window)."""
    parts = []
    for each in _orders(samples, np.ones(len(samples)), orders, seed):
        safe_RN = _safe(each, samples, policy.options)
        standing = _standing(each.weight_RNC, each.first_RC)
        looks_N = np.ones(len(samples), dtype=np.bool_)
        if policy.options["rule"] == "window":
            looks_N = (np.arange(len(samples)) + 1) % int(policy.options["window"]) == 0
        stops = [looks_N & (safe_RN | standing.decided(k)) for k in sizes]
        at_RK = np.stack([_first(stop_RN, k) for stop_RN, k in zip(stops, sizes, strict=True)], axis=1)
        parts.append(_taken(each.right_RN, each.cost_RNX, at_RK))
    return _mean(parts)


def _first(stop_RN: NDArray[np.bool_], size: int) -> Ints:
    """The place of the first stop, or the last of `size` samples where there is none before."""
    n = stop_RN.shape[1]
    first_R = np.where(stop_RN.any(axis=1), stop_RN.argmax(axis=1), n)
    return np.minimum(first_R, size - 1)


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


def _safe(drawn: _Orders, samples: Samples, options: Mapping[str, Any]) -> NDArray[np.bool_]:
    """After which samples the leader is safe by the rule: by the posterior of the two foremost classes, or because a
    whole window agrees."""
    from thinksmith.strategies.adaptive import lead

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


def _confident(
    samples: Samples, policy: Policy, sizes: Sequence[int], orders: int, seed: int
) -> list[tuple[float, Floats]]:
    """The share `keep` of the samples so far with the greatest weight votes by it; from the `first` on it stops once
    the leader has the share `consensus` of the weight (Fu et al. 2025, arXiv:2508.15260, sections 3.2 and 3.3).

    Weak traces are dropped whole: what stopping them early saves is not in a pool.
    """
    weight_N = samples.weights(policy.options["by"])
    parts = []
    for each in _orders(samples, weight_N, orders, seed):
        right_RN, share_RN = _kept_votes(samples, each.order_RN, weight_N, policy.options["keep"])
        stop_RN = share_RN >= policy.options["consensus"]
        stop_RN[:, : policy.options["first"] - 1] = False
        at_RK = np.stack([_first(stop_RN, k) for k in sizes], axis=1)
        parts.append(_taken(right_RN, each.cost_RNX, at_RK))
    return _mean(parts)


def _kept_votes(samples: Samples, order_RN: Ints, weight_N: Floats, keep: float) -> tuple[Floats, Floats]:
    """After each sample: the score of the class that leads among those kept so far, and its share of their weight."""
    class_N = _numbered(samples.class_N)
    one_hot_NC = (class_N[:, None] == np.arange(max(1, int(class_N.max()) + 1))).astype(np.float64)
    right_RN, share_RN = np.zeros(order_RN.shape), np.zeros(order_RN.shape)
    weight_RN = weight_N[order_RN]
    silent_RN = class_N[order_RN] < 0
    for k in range(1, order_RN.shape[1] + 1):
        most = math.ceil(keep * k)
        # Those without an answer come last; among equals the first to appear.
        value_Rk = np.where(silent_RN[:, :k], -np.inf, weight_RN[:, :k])
        best_Rm = np.sort(np.argsort(-value_Rk, axis=1, kind="stable")[:, :most], axis=1)
        kept_Rm = np.take_along_axis(order_RN, best_Rm, axis=1)
        sums_RmC = np.cumsum(one_hot_NC[kept_Rm] * weight_N[kept_Rm][:, :, None], axis=1)
        first_RC = _firsts(one_hot_NC[kept_Rm] > 0)
        right_RN[:, k - 1] = _leader_right(sums_RmC, first_RC, kept_Rm, samples.right_N)[:, -1]
        last_RC = sums_RmC[:, -1]
        share_RN[:, k - 1] = last_RC.max(axis=1) / np.maximum(last_RC.sum(axis=1), 1e-300)
    return right_RN, share_RN


POLICIES: dict[str, _Known] = {
    "single": _Known("ask once", {}, _single),
    "vote": _Known("the answer that most of k samples give", {"by": "nothing"}, _vote),
    "adaptive": _Known(
        "vote, and stop when the leader is safe", {"rule": "beta", "threshold": 0.95, "window": 4}, _adaptive
    ),
    "best_of": _Known("the sample with the greatest score", {"by": "score"}, _best_of),
    "confident": _Known(
        "the more confident samples vote, until they agree",
        {"by": "confidence", "keep": 0.5, "consensus": 0.95, "first": 4},
        _confident,
    ),
    "pass": _Known("one of k is right: a limit, no strategy", {}, _pass),
}
