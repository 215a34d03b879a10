"""Loops: found wherever they are, with their smallest unit, and not in ordinary text."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.audit import find_loop

WORDS = [f"w{number}" for number in range(5_000)]


@given(st.integers(1, 40), st.integers(4, 30), st.integers(0, 60), st.integers(0, 60), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_a_planted_loop_is_found_where_it_is(period, repeats, before, after, seed):
    # Words are drawn without repetition, so that the planted loop is the only one and its unit is the smallest.
    words = random.Random(seed).sample(WORDS, period + before + after)
    head, unit, tail = words[:before], words[before : before + period], words[before + period :]
    text = " ".join([*head, *unit * repeats, *tail])
    loop = find_loop(text)
    if period * repeats < 64:
        assert loop is None
        return
    assert loop is not None
    assert text[loop.start : loop.end] == " ".join(unit * repeats)
    assert (loop.unit, loop.repeats, loop.at_end) == (" ".join(unit), repeats, after < period)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_random_text_without_repetition_has_no_loop(seed):
    rng = random.Random(seed)
    assert find_loop(" ".join(rng.choice(WORDS) for _ in range(2_000))) is None


@given(st.lists(st.sampled_from("ab"), min_size=0, max_size=40))
@settings(max_examples=100, deadline=None)
def test_equals_a_search_that_tries_every_period_at_every_place(words):
    loop = find_loop(" ".join(words), repeats=3, min_words=6)
    best = _longest(words, repeats=3, min_words=6)
    assert (len(loop_words(words, loop)) if loop else 0) == best


def loop_words(words: list[str], loop) -> str:
    return " ".join(words)[loop.start : loop.end].split(" ")


def _longest(words: list[str], repeats: int, min_words: int) -> int:
    best = 0
    for period in range(1, len(words) // repeats + 1):
        for first in range(len(words)):
            end = first + period
            while end < len(words) and words[end] == words[end - period]:
                end += 1
            if end - first >= max(min_words, repeats * period):
                best = max(best, end - first)
    return best


def test_letters_without_spaces_and_ruled_lines():
    assert find_loop("no" * 2_000).repeats >= 4
    assert find_loop("天地玄黄" * 600) is not None
    assert find_loop("-" * 500 + "\n" + "* " * 500) is None
    assert find_loop("") is None
