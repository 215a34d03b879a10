"""Attempts for the store's tests: any at all (hypothesis), and one for each number."""

from __future__ import annotations

import re
import struct
from typing import Any, get_args

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from thinksmith.records import Attempt, Finish, Problem, Sampling, Status, ThinkingStatus, Trace, Usage, Verdict

# The laws say nothing of speed, and a store may be shared by the examples of a test.
patient = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

# Every code point, lone surrogates and NUL included, and often those that have a meaning for the store.
texts = st.text(st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from("\x00\u241b\u2028\x85d0")))
ids = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8).map(tuple)
counts = st.integers(0, 2**31 - 1)
finite = st.floats(allow_nan=False)
float32s = st.floats(width=32, allow_nan=False)
messages = st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), max_size=3).map(tuple)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), finite, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=4,
)

problems = st.builds(
    Problem,
    id=texts,
    prompt=st.one_of(texts, messages),
    answer=st.one_of(st.none(), texts),
    kind=texts,
    meta=st.dictionaries(texts, json_values, max_size=3),
)
samplings = st.builds(
    Sampling,
    temperature=finite,
    top_k=counts,
    seed=st.integers(0, 2**70),
    max_thinking_tokens=st.one_of(st.none(), counts),
    stop=st.lists(texts, max_size=2).map(tuple),
    stop_ids=ids,
    closing=texts,
)
usages = st.builds(
    Usage,
    cached_tokens=counts,
    first_thinking_seconds=st.none() | finite,
    first_answer_seconds=st.none() | finite,
    cost=st.none() | finite,
    lost_tokens=counts,
    counted=st.sampled_from(["server", "estimate"]),
    notes=st.lists(texts, max_size=2).map(tuple),
)
traces = st.builds(
    Trace,
    thinking=texts,
    answer=texts,
    thinking_status=st.sampled_from(get_args(ThinkingStatus)),
    token_ids=ids,
    logprobs=st.one_of(st.none(), st.lists(finite, max_size=8).map(tuple), st.lists(float32s, max_size=8).map(tuple)),
    thinking_tokens=counts,
    answer_tokens=st.just(0),
    finish=st.sampled_from(get_args(Finish)),
    model=texts,
    sampling=samplings,
    seconds=finite,
    prompt_tokens=counts,
    prompt_ids=ids,
    opened=texts,
    completion=texts,
    error=texts,
    forced=ids,
    top_logprobs=st.one_of(
        st.none(), st.lists(st.lists(st.tuples(counts, finite), max_size=3).map(tuple), max_size=3).map(tuple)
    ),
    usage=st.none() | usages,
)
verdicts = st.builds(
    Verdict,
    status=st.sampled_from(get_args(Status)),
    score=finite,
    extracted=st.one_of(st.none(), texts),
    reason=texts,
    judge=texts,
)
attempts = st.builds(Attempt, problem=problems, trace=traces, verdict=verdicts, sample=counts, strategy=texts)


def numbered(number: int, status: Status = "correct", length: int | None = None) -> Attempt:
    """The attempt of this number: the same in every process. `length` sampled tokens."""
    count = number % 50 if length is None else length
    logprobs = tuple(struct.unpack("<f", struct.pack("<f", -i / 7))[0] for i in range(count))
    trace = Trace(
        thinking=f"Let me see: {number} is {number}. " * (number % 40),
        answer=str(number),
        token_ids=tuple(range(number, number + count)),
        logprobs=logprobs,
        thinking_tokens=count,
        model="tiny",
        sampling=Sampling(seed=number),
        completion=f"{number}",
    )
    problem = Problem(f"count/test/{number // 4}", f"What is {number // 4}?", str(number // 4), meta={"n": number // 4})
    return Attempt(problem, trace, Verdict(status, 1.0 if status == "correct" else 0.0), sample=number % 4)


def without_pairs(value: Any) -> bool:
    """No high surrogate stands before a low one: JSON cannot tell such a pair from the character that it spells."""
    return not re.search("[\ud800-\udbff][\udc00-\udfff]", all_texts(value))


def all_texts(value: Any) -> str:
    """All texts of a record, apart from each other."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return " ".join(f"{all_texts(k)} {all_texts(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(all_texts(item) for item in value)
    if hasattr(value, "__dataclass_fields__"):
        return " ".join(all_texts(getattr(value, name)) for name in value.__dataclass_fields__)
    return ""
