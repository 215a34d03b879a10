"""The attention over slots and the cache, against softmax(QK)V written out for each row."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from thinksmith.engines.local.attention import Decode, Prefill
from thinksmith.engines.local.cache import SlotCache


def filled(rows, columns, kv_heads, dim, seed=0):
    """A cache whose every column holds something, so that a look too far shows."""
    torch.manual_seed(seed)
    cache = SlotCache(torch.device("cpu"))
    cache.reserve(rows, columns, used=0)
    keys, values = cache.layer(0, torch.zeros(1, kv_heads, 1, dim), torch.zeros(1, kv_heads, 1, dim))
    keys.normal_()
    values.normal_()
    return cache


def reference(query, keys, values, scale):
    """One row and head: query [D], keys and values [S, D], in double precision."""
    weights = torch.softmax(keys.double() @ query.double() * scale, 0)
    return (weights @ values.double()).float()


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (8, 1)])
@pytest.mark.parametrize("window", [None, 1, 7])
def test_decode_is_attention(heads, kv_heads, window):
    rows, dim, span = 5, 8, 320
    cache = filled(rows, span, kv_heads, dim)
    lengths = torch.tensor([0, 5, 100, 256, 319])
    step = Decode(cache, lengths, span)
    query = torch.randn(rows, heads, 1, dim)
    new_keys, new_values = torch.randn(rows, kv_heads, 1, dim), torch.randn(rows, kv_heads, 1, dim)
    keys, values = step.update(new_keys, new_values, 0)
    out = step.attend(query, keys, values, 0.3, window)
    assert out.shape == query.shape
    for row, length in enumerate(lengths.tolist()):
        first = 0 if window is None else max(0, length + 1 - window)
        for head in range(heads):
            kv = head // (heads // kv_heads)
            torch.testing.assert_close(cache.keys[0][row, kv, length], new_keys[row, kv, 0])
            seen = slice(first, length + 1)
            expected = reference(query[row, head, 0], keys[row, kv, seen], values[row, kv, seen], 0.3)
            torch.testing.assert_close(out[row, head, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (8, 1), (8, 2), (4, 4)])
def test_decode_does_not_depend_on_neighbours_or_span_in_any_bit(heads, kv_heads):
    rows, dim = 40, 16
    cache = filled(rows, 1024, kv_heads, dim)
    lengths = torch.tensor([30, 200, 255, 256, 300] * 8)
    query, new = torch.randn(rows, heads, 1, dim), torch.randn(rows, kv_heads, 1, dim)

    def run(count, span):
        step = Decode(cache, lengths[:count], span)
        keys, values = step.update(new[:count], new[:count], 0)
        return step.attend(query[:count], keys, values, 0.25, None)

    first = run(16, 304)
    for count, span in [(16, 320), (17, 304), (40, 400), (33, 512), (40, 1024)]:
        assert torch.equal(run(count, span)[:16], first), (count, span)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("cuts", [(0, 9), (0, 5, 9), (0, 1, 2, 9)])
def test_prefill_shares_a_prompt_and_is_causal_whole_or_in_pieces(window, cuts):
    cache = SlotCache(torch.device("cpu"))
    cache.reserve(16, 16, used=0)
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 4, 9, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8)
    source, target, leader = torch.tensor([0, 0, 1]), torch.tensor([4, 1, 2]), torch.tensor([1, 2])
    pieces = []
    for start, end in pairwise(cuts):
        step = Prefill(cache, source, target, leader, start)
        seen = step.update(keys[:, :, start:end], values[:, :, start:end], 0)
        pieces.append(step.attend(query[:, :, start:end], *seen, 0.5, window))
    out = torch.cat(pieces, 2)
    for slot, source in ((4, 0), (1, 0), (2, 1)):
        assert torch.equal(cache.keys[0][slot, :, :9], keys[source])
        assert torch.equal(cache.values[0][slot, :, :9], values[source])
    for row in range(2):
        for head in range(4):
            for t in range(9):
                seen = slice(0 if window is None else max(0, t + 1 - window), t + 1)
                expected = reference(query[row, head, t], keys[row, head // 2, seen], values[row, head // 2, seen], 0.5)
                torch.testing.assert_close(out[row, head, t], expected, atol=1e-5, rtol=1e-5)


def test_cache_grows_and_moves_without_losing_anything():
    cache = filled(16, 64, 2, 4)
    before = cache.keys[0].clone()
    cache.reserve(40, 200, used=10)
    assert cache.rows >= 40
    assert cache.columns >= 200
    assert torch.equal(cache.keys[0][:10, :, :64], before[:10])
    assert not cache.keys[0][10:].any()
    cache.move([9, 8], [0, 3], columns=50)
    assert torch.equal(cache.keys[0][0, :, :50], before[9, :, :50])
    assert torch.equal(cache.keys[0][3, :, :50], before[8, :, :50])
    assert torch.equal(cache.keys[0][0, :, 50:64], before[0, :, 50:])
    cache.release()
    assert cache.rows == cache.columns == 0
