"""The finder on real solutions. Every equation flagged there was read by a person: each is false as it is written.

The counts are pinned so that a change which finds more, or flags more, is looked at again.
"""

from __future__ import annotations

import re

from thinksmith.audit import find_equations, find_loop, find_segments


def counts(texts: list[str]) -> tuple[int, int]:
    found = [equation for text in texts for equation in find_equations(text)]
    return len(found), sum(not equation.true for equation in found)


def test_recorded_chains_of_a_real_model(rows):
    texts = [text for row in rows("replay/math_cot_100.jsonl") for text in row["responses"]]
    # 67 of the 79 come from one problem, whose chains write 1 \div 50 = 50 where they mean 50 \div 1.
    assert counts(texts) == (2274, 79)
    for text in texts[::8]:
        assert "".join(segment.text for segment in find_segments(text)) == text
    looping = [index for index in range(600, 800) if find_loop(texts[index])]
    # A long product written out: 10 \times \frac{3}{2} \times \frac{3}{2} … six times.
    assert looping == [637]


def test_gsm8k_reference_solutions(rows):
    texts = [re.sub(r"<<[^>]*>>", "", row["answer"]) for row in rows("gsm8k/test.jsonl")]
    assert counts(texts) == (3126, 2)


def test_math_and_aime_reference_solutions(rows):
    assert counts([row["solution"] for row in rows("math500/test.jsonl")]) == (307, 1)
    assert counts([row["solution"] for row in rows("aime24/test.jsonl")]) == (72, 2)
