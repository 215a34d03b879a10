"""What passes between program and examiner: values come out as they went in, and no message does harm."""

import json
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.verify.code.inside.guest import Broken, Peer, Remote, TooLarge, same

keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.fractions()
values = st.recursive(
    keys | st.complex_numbers(allow_nan=False) | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
    ),
)
messages = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("tszdifbcqmor"), inner, max_size=2),
)


def passed(value):
    return Peer(-1).decode(json.loads(json.dumps(Peer(-1).encode(value))))


@given(values)
def test_a_value_comes_out_as_it_went_in(value):
    got = passed(value)
    assert got == value
    assert repr(got) == repr(value) or isinstance(value, (set, frozenset, dict, list, tuple))  # sets have no order


@given(messages)
def test_a_message_that_nobody_wrote_is_broken_and_nothing_else(message):
    with suppress(Broken):
        Peer(-1).decode(message)


def test_what_looks_like_a_number_becomes_one():
    class Odd(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    class List(list):
        def __eq__(self, other):
            return True

        __hash__ = None

    assert type(passed(Odd(3))) is int
    assert passed(Odd(3)) != 4
    assert type(passed(List([1]))) is list
    assert passed(List([1])) != [2]


def test_what_is_no_plain_data_stays_where_it_is():
    here = Peer(-1)
    told = here.encode([object(), len])
    assert told == [{"r": 1}, {"r": 2}]
    there = Peer(-1)
    first, _ = there.decode(told)
    assert isinstance(first, Remote)
    assert there.encode(first) == {"o": 1}  # and comes home
    assert here.decode({"o": 2}) is len
    with pytest.raises(Broken):
        here.decode({"o": 3})


def test_too_deep_and_too_many():
    deep = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(TooLarge):
        Peer(-1).encode(deep)
    with pytest.raises(TooLarge):
        Peer(-1).encode([object() for _ in range(200_000)])


def test_big_numbers_are_told_in_full():
    assert passed(2**200_000 + 1) == 2**200_000 + 1
    assert passed(Fraction(2**70, 3)) == Fraction(2**70, 3)
    assert passed(Decimal("1e-30")) == Decimal("1e-30")


@pytest.mark.parametrize(
    ("expected", "got", "equal"),
    [
        ([1, 2], (1, 2), True), ([1, [2]], [1, (2,)], True), ({"a": [0.1]}, {"a": [0.1 + 1e-9]}, True), (1, 1.0, True),
        (1e9, 1e9 + 100, True), (True, 1, False), (1, True, False), (None, 0, False), (None, None, True),
        ([1], [1, 2], False), ("1", 1, False), (0.1, 0.11, False), (float("inf"), float("inf"), True),
        (float("nan"), 1.0, False), (1, 2, False), ({"a": 1}, {"b": 1}, False),
        (10**30, 10**30 + 1, False), (float("inf"), 5, False), (float("-inf"), float("inf"), False),
        (12345678, 12345677.5, False), (12345678, 12345678.0, True), (3, 3.0000001, True), ({"1": 2}, {1: 2}, True),
        ({"1": 2}, {1: 3}, False), (10**400, 1.5, False),
    ],
)  # fmt: skip
def test_same(expected, got, equal):
    assert same(expected, got, 1e-6) is equal
