"""The attention over blocks and their pool, against softmax(QK)V written out for each row."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from thinksmith.engines.local.attention import Decode, Prefill
from thinksmith.engines.local.cache import BLOCK, PADDING, SINK, Pool, blocks_for
from thinksmith.fit.rounding import round_up


def filled(blocks, kv_heads, dim, seed=0):
    """A pool whose every column holds something, so that a look too far shows."""
    torch.manual_seed(seed)
    pool = Pool(torch.device("cpu"))
    pool.open(blocks)
    for buffer in pool.layer(0, torch.zeros(1, kv_heads, 1, dim), torch.zeros(1, kv_heads, 1, dim)):
        buffer.normal_()
    return pool


def table_of(pool, shared, own, entries):
    """Blocks for rows with so many shared tokens and tokens of their own, in no order."""
    lines = []
    for one, other in zip(shared, own, strict=True):
        blocks = pool.take(blocks_for(one) + blocks_for(other + 1))[::-1]
        lines.append(blocks + [PADDING] * (entries - len(blocks)))
    return torch.tensor(lines)


def line_of(buffer, table, shared, own):
    """What a row sees, one after the other: [heads, tokens, dim]."""
    whole = torch.cat([buffer[block] for block in table.tolist()], 1)
    first = blocks_for(shared) * BLOCK
    return torch.cat((whole[:, :shared], whole[:, first : first + own + 1]), 1)


def reference(query, keys, values, scale):
    """One row and head: query [D], keys and values [S, D], in double precision."""
    weights = torch.softmax(keys.double() @ query.double() * scale, 0)
    return (weights @ values.double()).float()


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (8, 1)])
@pytest.mark.parametrize("window", [None, 1, 7, 40])
def test_decode_is_attention(heads, kv_heads, window):
    rows, dim = 6, 8
    pool = filled(120, kv_heads, dim)
    shared, own = [0, 3, 16, 100, 200, 0], [0, 5, 100, 16, 15, 319]
    table = table_of(pool, shared, own, 22)
    step = Decode(pool, table, torch.tensor(shared), torch.tensor(own))
    query = torch.randn(rows, heads, 1, dim)
    new_keys, new_values = torch.randn(rows, kv_heads, 1, dim), torch.randn(rows, kv_heads, 1, dim)
    out = step.attend(query, *step.update(new_keys, new_values, 0), 0.3, window)
    assert out.shape == query.shape
    for row in range(rows):
        keys = line_of(pool.keys[0], table[row], shared[row], own[row])
        values = line_of(pool.values[0], table[row], shared[row], own[row])
        assert torch.equal(keys[:, -1], new_keys[row, :, 0])
        assert torch.equal(values[:, -1], new_values[row, :, 0])
        seen = slice(0 if window is None else max(0, keys.shape[1] - window), None)
        for head in range(heads):
            kv = head // (heads // kv_heads)
            expected = reference(query[row, head, 0], keys[kv, seen], values[kv, seen], 0.3)
            torch.testing.assert_close(out[row, head, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (8, 1), (8, 2), (4, 4)])
def test_decode_does_not_depend_on_neighbours_or_padding_in_any_bit(heads, kv_heads):
    rows, dim = 40, 16
    pool = filled(1000, kv_heads, dim)
    shared, own = [30, 200, 0, 16, 90] * 8, [0, 0, 255, 240, 210] * 8
    table = table_of(pool, shared, own, 64)
    query, new = torch.randn(rows, heads, 1, dim), torch.randn(rows, kv_heads, 1, dim)

    def run(count, entries):
        step = Decode(pool, table[:count, :entries], torch.tensor(shared[:count]), torch.tensor(own[:count]))
        keys, values = step.update(new[:count], new[:count], 0)
        return step.attend(query[:count], keys, values, 0.25, None)

    first = run(16, 20)
    for count, entries in [(16, 21), (17, 20), (40, 26), (33, 32), (40, 64)]:
        assert torch.equal(run(count, entries)[:16], first), (count, entries)


@pytest.mark.parametrize("window", [None, 3, 20])
@pytest.mark.parametrize("cuts", [(0, 41), (0, 32, 41), (0, 16, 32, 41)])
def test_prefill_is_causal_whole_or_in_pieces(window, cuts):
    pool = filled(12, 2, 8)
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 4, 48, 8), torch.randn(2, 2, 48, 8), torch.randn(2, 2, 48, 8)
    blocks = torch.tensor([pool.take(3)[::-1], [*pool.take(2), SINK]])  # the second prompt is shorter
    pieces = []
    for start, end in pairwise(round_up(cut, BLOCK) for cut in cuts):
        past, part = blocks[:, : start // BLOCK], blocks[:, start // BLOCK : end // BLOCK]
        step = Prefill(pool, part, past)
        seen = step.update(keys[:, :, start:end], values[:, :, start:end], 0)
        pieces.append(step.attend(query[:, :, start:end], *seen, 0.5, window))
    out = torch.cat(pieces, 2)
    for row, length in ((0, 41), (1, 30)):
        assert torch.equal(line_of(pool.keys[0], blocks[row], length, -1), keys[row, :, :length])
        assert torch.equal(line_of(pool.values[0], blocks[row], length, -1), values[row, :, :length])
        for head in range(4):
            for t in range(length):
                seen = slice(0 if window is None else max(0, t + 1 - window), t + 1)
                expected = reference(query[row, head, t], keys[row, head // 2, seen], values[row, head // 2, seen], 0.5)
                torch.testing.assert_close(out[row, head, t], expected, atol=1e-5, rtol=1e-5)


def test_blocks_are_free_when_nobody_names_them_and_are_used_again_first():
    pool = Pool(torch.device("cpu"))
    pool.open(10)
    one, other = pool.take(4), pool.take(3)
    assert not {PADDING, SINK} & {*one, *other}
    assert len({*one, *other}) == 7
    pool.share(one[:2])
    pool.give(one)
    assert pool.free == 5
    pool.give(one[:2])
    assert pool.free == 7
    assert set(pool.take(4)) == set(one)
    pool.release()
    assert pool.size == pool.free == 0
