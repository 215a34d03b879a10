"""How sure a model was of what it wrote, from its log-probabilities.

Tokens that the engine put there (a forced end of thinking, a `Wait`) are left out: the model did not choose them.
All is of the distribution at temperature 1 without truncation, as the engines tell it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thinksmith.records import Trace

Floats = NDArray[np.float64]
Kind = Literal["lowest", "tail", "bottom"]
"""How a trace's confidence comes from its groups'."""

TOP = 20
"""Log-probabilities of so many tokens are asked for, as DeepConf and Self-Certainty do."""
WINDOW = 2048
"""Tokens of a group in DeepConf, which was made for traces of tens of thousands; a shorter trace is one group."""
_BOTTOM = 0.1


def mean_probability(trace: Trace) -> float:
    """The geometric mean of the sampled tokens' probabilities, 0..1; 0 without any. ValueError without log-probs."""
    if trace.logprobs is None:
        raise ValueError("the trace has no log-probabilities")
    own = _own(trace, np.asarray(trace.logprobs, dtype=np.float64))
    return float(np.exp(own.mean())) if len(own) else 0.0


def self_certainty(trace: Trace, vocabulary: int = 0) -> float:
    """Self-Certainty (Kang et al. 2025, arXiv:2502.18581): the mean over tokens of KL(uniform ‖ p), in nats.

    That is -log V - 1/V Σ log p over the vocabulary of V tokens. Approximated: only the likeliest k are known
    (`top_logprobs`), so what is left of the mass is spread evenly over the other V - k, which makes it too small (the
    divergence of the true rest is larger). With k = V it is exact. `vocabulary` 0 (not known) is the limit of many
    tokens, -log of the mass that is left.
    """
    tops_Tk = top_logprobs(trace)
    if not len(tops_Tk):
        return 0.0
    # Log-probs in float32 cannot tell a smaller rest from rounding.
    left_T = np.clip(1.0 - np.exp(tops_Tk).sum(axis=1), 1e-7, 1.0)
    if not vocabulary:
        return float(-np.log(left_T).mean())
    others = max(0, vocabulary - tops_Tk.shape[1])
    logs_T = tops_Tk.sum(axis=1) + (others * np.log(left_T / others) if others else 0.0)
    return float((-np.log(vocabulary) - logs_T / vocabulary).mean())


def token_confidence(trace: Trace) -> Floats:
    """Of each token the model chose: minus the mean log-probability of its `top_logprobs` (DeepConf, Fu et
    al. 2025, arXiv:2508.15260). High where one token had nearly all mass."""
    tops_Tk = top_logprobs(trace)
    return -tops_Tk.mean(axis=1) if len(tops_Tk) else np.zeros(0)


def group_confidence(confidence_T: Floats, window: int = WINDOW) -> Floats:
    """The means of all runs of `window` tokens; one run of all where there are fewer."""
    if not len(confidence_T):
        return np.zeros(0)
    window = min(window, len(confidence_T))
    sums = np.concatenate(([0.0], np.cumsum(confidence_T)))
    means: Floats = (sums[window:] - sums[:-window]) / window
    return means


def trace_confidence(trace: Trace, kind: Kind = "lowest", window: int = WINDOW) -> float:
    """DeepConf's confidence of a trace: its `lowest` group's, the mean of the `bottom` tenth of its groups, or that
    of its last `window` tokens, its `tail`. 0 for a trace without tokens."""
    confidence_T = token_confidence(trace)
    if not len(confidence_T):
        return 0.0
    if kind == "tail":
        return float(confidence_T[-window:].mean())
    groups = np.sort(group_confidence(confidence_T, window))
    return float(groups[0] if kind == "lowest" else groups[: max(1, int(_BOTTOM * len(groups)))].mean())


def top_logprobs(trace: Trace) -> Floats:
    """(tokens the model chose, k). ValueError for a trace that has none."""
    if trace.top_logprobs is None:
        raise ValueError("the trace has no top_logprobs")
    if not trace.top_logprobs:
        return np.zeros((0, 1))
    return _own(trace, np.asarray(trace.top_logprobs, dtype=np.float64)[:, :, 1])


def _own(trace: Trace, values: Floats) -> Floats:
    """Without those at forced positions."""
    if not trace.forced:
        return values
    chosen = np.ones(len(values), dtype=bool)
    chosen[list(trace.forced)] = False
    own: Floats = values[chosen]
    return own
