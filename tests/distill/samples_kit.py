"""Samples for the tests of distillation: any at all (hypothesis), and plain ones."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from thinksmith.distill.sample import Sample
from thinksmith.records import Finish, Status

# Every code point, halves of surrogate pairs and NUL included, and often what has a meaning to splitters and files.
NASTY = ("<think>", "</think>", "<think>\n", "\n</think>\n\n", "`</think>`", "<|begin_of_thought|>", "[THINK]",
         "</thinking>", "<|end_of_solution|>", "\ud800", "\udc00\ud83d", "\x00", "\u241b", "\u241b0041", "\u2028",
         "\x85", "\r\n", "\n\n", " ", "  x", "\\n", '"', "\\ud800")  # fmt: skip
texts = st.lists(
    st.one_of(st.text(max_size=6), st.sampled_from(NASTY), st.characters(categories=["Cs"])), max_size=6
).map("".join)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=4,
)
messages = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": texts, "content": texts}),
        st.fixed_dictionaries({"role": texts, "content": texts, "thinking": texts}),
        st.fixed_dictionaries({"role": texts, "content": texts, "name": json_values.filter(lambda v: v is not None)}),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
samples = st.builds(
    Sample,
    id=texts,
    messages=messages,
    thinking=texts,
    answer=texts,
    gold=st.none() | texts,
    kind=texts,
    status=st.sampled_from(["", *get_args(Status)]),
    tokens=st.integers(0, 2**40),
    finish=st.sampled_from(get_args(Finish)),
    model=texts,
    meta=st.dictionaries(texts, json_values, max_size=3),
)


def sample(n: int = 0, *, thinking: str = "", answer: str = "", **changes: Any) -> Sample:
    """The correct sample of problem `n`, whose answer is n + 1."""
    told = {
        "id": f"sum/{n}",
        "messages": ({"role": "user", "content": f"What is {n} + 1?"},),
        "thinking": thinking or f"I add one to {n}. So {n} + 1 = {n + 1}.",
        "answer": answer or f"The answer is {n + 1}.",
        "gold": str(n + 1),
        "kind": "number",
        "status": "correct",
        "tokens": 40,
        "model": "teacher",
    }
    return Sample(**{**told, **changes})
