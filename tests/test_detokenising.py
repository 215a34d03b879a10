"""Token ids into text as they come: one by one, in chunks, or all at once, it is the same text."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.thinking import Detokeniser


@cache
def tiny() -> Policy:
    return load_policy("tiny")


def read(chunks: list[list[int]], *, whole: bool) -> str:
    detokeniser = Detokeniser(tiny().decode)
    text = "".join(detokeniser.feed_all(chunk) if whole else "".join(map(detokeniser.feed, chunk)) for chunk in chunks)
    return text + detokeniser.finish()


Ids = st.lists(st.lists(st.integers(0, 726), max_size=40), max_size=12)
Texts = st.text(st.sampled_from("ab 1+=\n é€🙂中"), max_size=200)


@settings(deadline=None)
@given(Ids)
def test_chunks_of_any_tokens_read_as_single_ones(chunks: list[list[int]]) -> None:
    assert read(chunks, whole=True) == read(chunks, whole=False)


@settings(deadline=None)
@given(Texts, st.lists(st.integers(0, 200), max_size=10))
def test_chunks_of_a_text_are_the_text(text: str, cuts: list[int]) -> None:
    ids = list(tiny().encode(text))
    places = sorted({0, len(ids), *(cut for cut in cuts if cut < len(ids))})
    chunks = [ids[start:end] for start, end in pairwise(places)]
    assert read(chunks, whole=True) == text
