"""What strategies come to, worked out from a pool of single samples: expected score and cost, problem by problem.

P problems with N samples each. Samples are independent and identically distributed, so every order of the pool, and
every subset of it, is as likely as any other: the mean over them all of what a strategy would have said and spent is
the unbiased estimate for fresh samples, of which pass@k (Chen et al. 2021, arXiv:2107.03374) is the best-known case.
It is exact for `single`, `vote`, `pass` and `best_of` (`exact.py`); for the others it is over all orders where these
are few, and random ones of a fixed seed else (`orders.py`).

A size k must not be larger than N. At k = N there is only one subset: the estimate is still unbiased, but as noisy
over problems as one run of the strategy, which the interval over problems tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thinksmith.errors import UserError
from thinksmith.evaluate.scaling.exact import best_of, vote
from thinksmith.evaluate.scaling.orders import Drawing, Outcome, adaptive, confident, weighted_vote
from thinksmith.evaluate.scaling.pool import Floats, Pool, Samples
from thinksmith.problems.spec import did_you_mean

DRAWING = Drawing()
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
    """A strategy as it is worked out from a pool. `spec` is how it is written, without a size; `sizes` are the only
    ones wanted (none: all)."""

    spec: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()

    @property
    def weight(self) -> str:
        """What a sample weighs, or is chosen by."""
        return str(self.options.get("weight") or self.options.get("by") or "count")

    @property
    def oracle(self) -> bool:
        """It looks at the gold answers, so it is a limit and no strategy."""
        return self.name == "pass"

    @property
    def exact(self) -> bool:
        """No random orders are drawn for it."""
        if self.name == "best_of":
            return not self.options["weighted"]
        return self.name in ("single", "pass") or (self.name == "vote" and self.weight == "count")


Work = Callable[[Samples, Policy, Sequence[int], Drawing], list[Outcome]]


@dataclass(frozen=True, slots=True)
class _Known:
    """A strategy that can be worked out: what it is, its options as they are if nothing is said, and how."""

    about: str
    options: Mapping[str, Any]
    work: Work


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
    options, kept, sized = dict(POLICIES[name].options), list[str](), "most" if name == "adaptive" else "n"
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in options and key != sized:
            hint = did_you_mean(key, options, otherwise=f"; it has: {', '.join(options) or 'none'}")
            raise UserError(f"{spec}: {name} has no option {key!r}{hint}")
        if key == sized:
            if not (value.isascii() and value.isdigit() and int(value) > 0) or at:
                raise UserError(f"{spec}: write the number of samples once, as {name}@8")
            size = value
        else:
            options[key] = _typed(spec, key, value)
            kept.append(part)
    return Policy(":".join(filter(None, (name, ",".join(kept)))), name, options, (int(size),) if size else ())


def _typed(spec: str, key: str, value: str) -> Any:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise UserError(f"{spec}: {key} is {', '.join(_CHOICES[key][:-1])} or {_CHOICES[key][-1]}, not {value!r}")
        return value == "true" if key == "weighted" else value
    low, high, kind = _RANGES[key]
    try:
        number = kind(value)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise UserError(f"{spec}: {key} must be from {low:g} to {high:g}, not {value!r}")
    return number


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "weight": ("count", "confidence", "recorded"),
    "by": ("confidence", "recorded"),
    "rule": ("beta", "window"),
    "weighted": ("false", "true"),
}
_RANGES: Mapping[str, tuple[float, float, type]] = {
    "threshold": (0.5, 1.0, float),
    "consensus": (0.01, 1.0, float),
    "keep": (0.01, 1.0, float),
    "window": (2, 1024, int),
    "first": (0, 1024, int),
    "step": (1, 1024, int),
}


def expect(pool: Pool, policy: Policy, sizes: Iterable[int], drawing: Drawing = DRAWING) -> list[Expected]:
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
    if not pool.has(policy.weight):
        key = "weight" if "weight" in policy.options else "by"
        other = f": write {policy.name}:{key}=recorded" if pool.has("recorded") else ""
        told = f"log-probabilities{other}" if policy.weight == "confidence" else "scores: name them with --score"
        raise UserError(f"{policy.spec}: the samples of {pool.run or 'the pool'} have no {told}")
    work = POLICIES[policy.name].work
    worked = [work(each, policy, wanted, drawing) for each in pool.problems]
    return [
        Expected(size, np.array([one[at][0] for one in worked]), np.array([one[at][1] for one in worked]))
        for at, size in enumerate(wanted)
    ]


def _fixed(samples: Samples, k: int) -> Floats:
    """The cost of k samples, which is k times the mean."""
    tokens, flops = samples.tokens_N.mean() * k, samples.flops_N.mean() * k + samples.prompt_flops
    return np.array([tokens, flops, k])


def _single(samples: Samples, policy: Policy, sizes: Sequence[int], drawing: Drawing) -> list[Outcome]:
    return [(float(samples.right_N.mean()), _fixed(samples, 1))]


def _pass(samples: Samples, policy: Policy, sizes: Sequence[int], drawing: Drawing) -> list[Outcome]:
    return [(best_of(samples.right_N, samples.right_N, k), _fixed(samples, k)) for k in sizes]


def _best_of(samples: Samples, policy: Policy, sizes: Sequence[int], drawing: Drawing) -> list[Outcome]:
    weight_N = samples.weights(policy.weight)
    if policy.options["weighted"]:
        return weighted_vote(samples, weight_N, sizes, drawing)
    # A sample without an answer is taken only where there is no other.
    value_N = np.where(samples.class_N >= 0, weight_N, -np.inf)
    return [(best_of(value_N, samples.right_N, k), _fixed(samples, k)) for k in sizes]


def _vote(samples: Samples, policy: Policy, sizes: Sequence[int], drawing: Drawing) -> list[Outcome]:
    if policy.weight != "count":
        return weighted_vote(samples, samples.weights(policy.weight), sizes, drawing)
    return [(vote(samples.class_N, samples.right_N, k), _fixed(samples, k)) for k in sizes]


def _adaptive(samples: Samples, policy: Policy, sizes: Sequence[int], drawing: Drawing) -> list[Outcome]:
    return adaptive(samples, policy.options, sizes, drawing)


def _confident(samples: Samples, policy: Policy, sizes: Sequence[int], drawing: Drawing) -> list[Outcome]:
    return confident(samples, samples.weights(policy.weight), policy.options, sizes, drawing)


POLICIES: dict[str, _Known] = {
    "single": _Known("ask once", {}, _single),
    "vote": _Known("the answer that most of k samples give", {"weight": "count"}, _vote),
    "adaptive": _Known(
        "vote, and stop when the leader is safe", {"rule": "beta", "threshold": 0.9, "window": 4}, _adaptive
    ),
    "best_of": _Known("the sample with the greatest score", {"by": "confidence", "weighted": False}, _best_of),
    "confident": _Known(
        "the more confident samples vote",
        {"by": "confidence", "keep": 0.5, "first": 0, "consensus": 0.95, "step": 4},
        _confident,
    ),
    "pass": _Known("the best of k by the gold answers: a limit, no strategy", {}, _pass),
}
