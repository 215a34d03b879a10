from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.fit.rounding import round_up
from thinksmith.training.batches import LENGTH_STEP, Example, micro_batches

PAD = 99
ids = st.lists(st.integers(0, 50), max_size=40).map(tuple)
examples = st.lists(st.builds(Example, ids, ids).filter(lambda e: e.tokens > 0), max_size=12)


@given(examples, st.integers(1, 400))
def test_every_example_is_in_one_batch_unchanged(examples: list[Example], tokens: int) -> None:
    seen = []
    for batch in micro_batches(examples, PAD, tokens):
        rows, width = batch.input_ids_BT.shape
        assert rows == len(batch.indices) == 1 or rows * width <= tokens
        for b, index in enumerate(batch.indices):
            example, mask_T = examples[index], batch.completion_BT[b]
            row = batch.input_ids_BT[b].tolist()
            assert tuple(row) == example.prompt_ids + example.completion_ids + (PAD,) * (width - example.tokens)
            assert tuple(batch.input_ids_BT[b][mask_T].tolist()) == example.completion_ids
            # The mask lies behind the prompt, also where the completion happens to repeat it.
            assert torch.equal(mask_T.nonzero()[:, 0], torch.arange(len(example.prompt_ids), example.tokens))
        seen += batch.indices
    assert sorted(seen) == list(range(len(examples)))


@given(st.integers(0, 10**6))
def test_round_up_is_the_next_multiple(n: int) -> None:
    rounded = round_up(n, LENGTH_STEP)
    assert n <= rounded < n + LENGTH_STEP
    assert rounded % LENGTH_STEP == 0
