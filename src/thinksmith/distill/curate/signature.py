"""MinHash signatures: how similar two texts are, told by a few numbers of each.

Similar means the Jaccard index of their shingles: runs of SHINGLE words that both have, among those that either has
(Broder 1997). One permutation is enough for all numbers of a signature (Li, Owen and Zhang 2012, arXiv:1208.1259):
the shingles' hashes are put into K bins by their highest bits, and the smallest of each bin is kept. A bin that nothing
fell into takes the number of another, drawn the same way for every text (optimal densification, Shrivastava 2017,
arXiv:1703.04664). The share of equal numbers estimates the index, with a standard error below 1 / (2 sqrt(K)) = 0.044.

Why not a library's MinHash: that of datasketch hashes each shingle by itself and permutes it K times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thinksmith.problems.wording import Hashes, grams

SHINGLE = 5  # words
K = 128
_BIN = np.uint64(64 - 7)  # the highest 7 bits name one of 128 bins
_VALUE = np.uint64(64 - 7 - 32)

Signature = NDArray[np.uint32]


def signature(hashes_W: Hashes) -> Signature:
    """The signature (K) of a text's words (W). A text of fewer than SHINGLE words is one shingle."""
    shingles_G = grams(hashes_W, min(SHINGLE, max(1, len(hashes_W))))
    signature_K = np.zeros(K, dtype=np.uint32)
    if not len(shingles_G):
        return signature_K
    ordered_G = np.sort(shingles_G)
    bins_G = (ordered_G >> _BIN).astype(np.int64)
    first_G = np.flatnonzero(np.diff(bins_G, prepend=-1))
    full = bins_G[first_G]
    signature_K[full] = ((ordered_G[first_G] >> _VALUE) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    if len(full) < K:
        _densify(signature_K, full)
    return signature_K


def _densify(signature_K: Signature, full: NDArray[np.int64]) -> None:
    """Each empty bin takes the number of the first full one among its draws."""
    is_full_K = np.zeros(K, dtype=np.bool_)
    is_full_K[full] = True
    empty = np.flatnonzero(~is_full_K)
    drawn_ED = _DRAWS[empty]
    at_E = np.argmax(is_full_K[drawn_ED], axis=1)
    signature_K[empty] = signature_K[drawn_ED[np.arange(len(empty)), at_E]]


def _all_draws() -> NDArray[np.int64]:
    """For each bin the order in which it looks at the others: all of them, so that one that is full is found."""
    return np.stack([np.random.default_rng([K, at]).permutation(K) for at in range(K)])


_DRAWS = _all_draws()


def similarity(one_K: Signature, others_NK: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The estimated Jaccard index (0..1) of a text with each of N others."""
    return np.asarray((others_NK == one_K).mean(axis=1), dtype=np.float64)
