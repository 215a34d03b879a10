"""HTTP underneath: bytes into events, retries, pace, circuit breaker."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from itertools import chain, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines.remote.wire.breaker import FAILURES, FIRST_PAUSE, Breaker
from thinksmith.engines.remote.wire.events import Framing, decoder
from thinksmith.engines.remote.wire.faults import Garbled, Unreachable, told
from thinksmith.engines.remote.wire.pace import Pace
from thinksmith.engines.remote.wire.retries import LONGEST_ASKED, Retries, asked_wait

events = st.lists(
    st.fixed_dictionaries({"text": st.text(max_size=20), "n": st.integers()}, optional={"deep": st.lists(st.text())}),
    max_size=6,
)


def decoded(framing: Framing, data: bytes, cuts: list[int]) -> tuple[list[dict[str, Any]], bool]:
    decoding = decoder(framing)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    found = [e for a, b in pairwise(places) for e in decoding.feed(data[a:b])]
    return [*found, *decoding.finish()], decoding.ended


@settings(max_examples=300, deadline=None)
@given(
    sent=events,
    cuts=st.lists(st.integers(0, 10**6), max_size=12),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    ascii_only=st.booleans(),
    spread=st.booleans(),
    seed=st.integers(0, 99),
    done=st.booleans(),
)
def test_any_cutting_of_a_stream_gives_its_events(
    sent: Any, cuts: list[int], end: str, ascii_only: bool, spread: bool, seed: int, done: bool
) -> None:
    random = Random(seed)
    lines = []
    for event in sent:
        text = json.dumps(event, ensure_ascii=ascii_only, indent=1 if spread else None)
        lines += [*random.choice(([], [": ping"], ["event: delta", "id: 7"]))]
        lines += [f"data:{random.choice(('', ' '))}{line}" for line in text.split("\n")] + [""]
    lines += ["data: [DONE]", ""] if done else []
    data = (random.choice(("", "\ufeff")) + "".join(line + end for line in lines)).encode("utf-8", "surrogatepass")
    assert decoded("sse", data, cuts) == (sent, done)


@settings(max_examples=150, deadline=None)
@given(sent=events, cuts=st.lists(st.integers(0, 10**6), max_size=12), last=st.booleans())
def test_any_cutting_of_lines_gives_them(sent: Any, cuts: list[int], last: bool) -> None:
    data = "\n".join([json.dumps(e, ensure_ascii=False) for e in sent] + ["" if not last else '{"done": true}'])
    assert decoded("ndjson", data.encode("utf-8", "surrogatepass"), cuts) == (
        [*sent, *([{"done": True}] if last else [])],
        last,
    )


def test_servers_that_are_not_that_exact() -> None:
    assert decoded("sse", b'{"a": 1}\n{"a": 2}\n', [])[0] == [{"a": 1}, {"a": 2}]
    assert decoded("sse", b'data: {"a": 1}\ndata: {"a": 2}\ndata: [DONE]\n', []) == ([{"a": 1}, {"a": 2}], True)
    assert decoded("sse", b'data: {"a": 1}', [])[0] == [{"a": 1}]
    assert decoded("sse", b"data:\n\ndata: \n\n: x\n\nretry: 3\n\n", [])[0] == []


@pytest.mark.parametrize(
    ("framing", "data"),
    [("sse", b"data: {\n\n"), ("sse", b"data: 7\n\n"), ("ndjson", b"[1]\n"), ("json", b""), ("json", b"<html>"),
     ("json", b"[" * 100_000), ("sse", b"data: \xff\xfe\n\n")],
)  # fmt: skip
def test_what_is_no_object_is_garbled(framing: Framing, data: bytes) -> None:
    with pytest.raises(Garbled):
        decoded(framing, data, [3])


def test_what_has_no_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinksmith.engines.remote.wire.events.MOST_EVENT", 1000)
    for framing, line in (("sse", b"data: x"), ("ndjson", b"data: x"), ("sse", b"data: xxxxxx\n")):
        decoding = decoder(framing)  # type: ignore[arg-type]
        with pytest.raises(Garbled, match=r"longer than 1,000 bytes"):
            list(chain.from_iterable(decoding.feed(line * 10) for _ in range(100)))


def test_what_a_server_says_is_fit_for_a_line() -> None:
    assert told("a\x1b[31m\nb\u202e sk-1 " + "c" * 999, ("sk-1",)).startswith("a [31m b … ccc")
    assert len(told("c" * 999)) == 200


def headers(**found: str) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in found.items()}


def test_how_long_a_server_asks_to_wait() -> None:
    assert asked_wait(headers(retry_after="7")) == 7
    assert asked_wait(headers(retry_after_ms="250", retry_after="7")) == 0.25
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 25 < (asked_wait(headers(retry_after=soon)) or 0) <= 30
    assert asked_wait(headers(retry_after="Thu, 01 Jan 2015 00:00:00 GMT")) == 0
    assert asked_wait(headers(x_ratelimit_reset_requests="1m30s", x_ratelimit_reset_tokens="6ms")) == 90
    for nonsense in ("soon", "-3", "nan", "1e999", ""):
        assert asked_wait(headers(retry_after=nonsense)) is None


@given(failed=st.integers(1, 9), seed=st.integers(0, 99), waited=st.floats(0, 400))
def test_waits_grow_and_end(failed: int, seed: int, waited: float) -> None:
    retries = Retries()
    wait = retries.wait(failed, None, waited, Random(seed))
    if failed >= retries.attempts:
        assert wait is None
    elif wait is not None:
        assert 0 <= wait <= min(30, 0.5 * 2 ** (failed - 1))
        assert waited + wait <= retries.budget
    assert retries.wait(1, LONGEST_ASKED + 1, 0, Random(seed)) is None
    assert 5 <= (retries.wait(1, 5.0, 0, Random(seed)) or 0) <= 5.5


def test_the_breaker_opens_lets_one_try_and_closes() -> None:
    now = [0.0]
    breaker = Breaker("http://x", lambda: now[0])
    for _ in range(FAILURES - 1):
        breaker.enter()
        breaker.failed("down")
    breaker.enter()
    breaker.succeeded()
    for _ in range(FAILURES):
        breaker.enter()
        breaker.failed("down")
    with pytest.raises(Unreachable, match=r"http://x failed 5 times in a row \(down\): asked again in 2 s") as told:
        breaker.enter()
    assert told.value.after == FIRST_PAUSE  # a retry waits for it, and does not use up its attempts
    now[0] += FIRST_PAUSE
    breaker.enter()
    with pytest.raises(Unreachable) as told:
        breaker.enter()  # one tries
    assert told.value.after is not None
    assert 0 < told.value.after < FIRST_PAUSE
    breaker.failed("down")
    now[0] += FIRST_PAUSE
    with pytest.raises(Unreachable):
        breaker.enter()  # the pause has doubled
    now[0] += FIRST_PAUSE
    breaker.enter()
    breaker.left()  # given up: another may try
    breaker.enter()
    breaker.succeeded()
    breaker.enter()
    breaker.enter()


def test_the_pace_halves_when_it_is_too_much_and_grows_while_it_helps() -> None:
    now = [0.0]
    pace = Pace(start=8, most=64, clock=lambda: now[0])
    pace.too_much()
    pace.too_much()  # those were sent before we knew
    assert pace.window == 4
    for _ in range(10):
        now[0] += 2
        pace.too_much()
    assert pace.window == 1
    for _ in range(2000):
        pace.went_well(1.0, 100)
    assert pace.window == 64
    pace = Pace(start=8)
    for _ in range(40):
        pace.went_well(1.0, 100)
    grown = pace.window
    assert grown > 8
    for _ in range(400):
        pace.went_well(4.0, 100)  # each token takes four times as long
    assert pace.window <= grown + 16


def test_those_who_wait_come_in_their_order_and_may_leave() -> None:
    async def run() -> list[int]:
        pace = Pace(start=2)
        order: list[int] = []

        async def one(number: int) -> None:
            async with pace.turn():
                order.append(number)
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(one(number)) for number in range(12)]
        await asyncio.sleep(0.001)
        assert (order, pace.room) == ([0, 1], 0)
        tasks[4].cancel()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert pace.room == 2
        return order

    assert asyncio.run(run()) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
