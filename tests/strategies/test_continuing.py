"""Going on with a trace: pieces joined are the trace that one request makes, in every field."""

import asyncio
from dataclasses import replace

import pytest

from thinksmith.engines import open_engine
from thinksmith.engines.replay import ReplayEngine
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.continuing import cut, extend, has_ended, stopped_by_text

GREEDY = Sampling(temperature=0.0, max_tokens=160)


@pytest.fixture(scope="module")
def engine():
    engine = open_engine("tiny")
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(scope="module")
def problems():
    return load("mixed", 6, split="test", seed=3)


def in_pieces(engine, problem, sampling, size):
    """Sampled `size` tokens at a time, up to sampling.max_tokens."""

    async def run():
        request = Request(
            messages=problem.messages, sampling=replace(sampling, max_tokens=min(size, sampling.max_tokens))
        )
        (trace,) = await engine.sample(request)
        for number in range(1000):
            left = sampling.max_tokens - trace.tokens
            if has_ended(engine, trace) or left <= 0:
                return trace
            trace = await extend(engine, trace, replace(sampling, max_tokens=min(size, left)), seed=number)
        raise AssertionError("it never ended")

    return asyncio.run(run())


def whole(engine, problem, sampling):
    return engine.sample_all([Request(messages=problem.messages, sampling=sampling)])[0][0]


def told(trace: Trace) -> Trace:
    """All but the clock, the log-probabilities' last digits and how many tokens the last request was allowed."""
    sampling = replace(trace.sampling, max_tokens=0)
    finish = "length" if trace.finish == "budget" else trace.finish
    return replace(trace, seconds=0.0, logprobs=None, top_logprobs=None, sampling=sampling, finish=finish)


@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"max_thinking_tokens": 20},
        {"max_thinking_tokens": 9, "closing": "\nSo I stop thinking here."},
        {"min_thinking_tokens": 60, "wait": "Wait, let me check that again"},
        {"min_thinking_tokens": 50, "wait": "", "max_thinking_tokens": 70},
    ],
    ids=["free", "most", "closing", "wait", "least and most"],
)
def test_greedy_pieces_are_the_whole(engine, problems, size, bounds):
    """At temperature 0 nothing depends on seeds, so the joined trace must be the one of a single request."""
    for problem in problems[: 1 if size == 1 else 4]:
        sampling = replace(GREEDY, **bounds)
        one, pieces = whole(engine, problem, sampling), in_pieces(engine, problem, sampling, size)
        assert told(pieces) == told(one)
        assert pieces.logprobs == pytest.approx(one.logprobs, abs=1e-4)
        assert pieces.thinking_tokens + pieces.answer_tokens == len(pieces.token_ids) == len(pieces.logprobs)


def test_top_logprobs_and_forced_positions_are_joined(engine, problems):
    sampling = replace(GREEDY, top_logprobs=3, max_thinking_tokens=12)
    one, pieces = whole(engine, problems[0], sampling), in_pieces(engine, problems[0], sampling, 5)
    assert [[token for token, _ in each] for each in pieces.top_logprobs] == [
        [token for token, _ in each] for each in one.top_logprobs
    ]
    assert pieces.forced == one.forced != ()


def test_it_goes_on_behind_a_stop_text(engine, problems):
    """Steps of the thinking, a line each: joined they are the whole, and no stop text is lost."""
    for problem in problems:
        one = whole(engine, problem, GREEDY)
        steps = replace(GREEDY, stop=("\n",))

        async def run(problem=problem, steps=steps):
            (trace,) = await engine.sample(Request(messages=problem.messages, sampling=steps))
            count = 1
            while not has_ended(engine, trace) and trace.tokens < 160:
                assert stopped_by_text(engine, trace)
                trace = await extend(engine, trace, replace(steps, max_tokens=160 - trace.tokens), seed=count)
                count += 1
            return trace, count

        trace, count = asyncio.run(run())
        assert count > 3
        plain = replace(told(trace), sampling=told(one).sampling)
        assert plain == told(one)


def test_pieces_draw_what_one_request_may_draw(engine, problems):
    """With seeds of their own the pieces differ from each other, and the same seeds give the same again."""
    sampling = replace(GREEDY, temperature=1.0, max_tokens=60)
    first, again = (in_pieces(engine, problems[1], sampling, 10) for _ in range(2))
    assert told(first) == told(again)


def test_what_has_ended_comes_back_as_it_is(engine, problems):
    trace = whole(engine, problems[0], GREEDY)
    assert trace.finish == "stop"
    assert has_ended(engine, trace)
    assert asyncio.run(extend(engine, trace, GREEDY, seed=1)) is trace


def test_the_end_of_the_context_is_an_end(engine, problems):
    trace = whole(engine, problems[0], replace(GREEDY, temperature=1.0, min_thinking_tokens=10_000, max_tokens=10_000))
    assert len(trace.prompt_ids) + trace.tokens == engine.info.context_length
    assert trace.finish == "length"
    assert has_ended(engine, trace)
    assert asyncio.run(extend(engine, trace, GREEDY, seed=1)) is trace


def test_a_cut_trace_is_the_one_with_fewer_tokens(engine, problems):
    sampling = replace(GREEDY, temperature=0.8, seed=4)
    one = whole(engine, problems[2], sampling)
    for tokens in range(1, one.tokens, 5):
        short = whole(engine, problems[2], replace(sampling, max_tokens=tokens))
        assert told(cut(engine, one, tokens)) == told(short)


def test_an_engine_that_takes_no_ids_is_refused_in_one_line():
    trace = Trace("a", "b", token_ids=(1, 2), finish="length")
    engine = ReplayEngine([(Problem("p", "q"), trace)], "replay/x.jsonl")
    with pytest.raises(UserError, match="cannot: name a model that runs in this process") as told_error:
        asyncio.run(extend(engine, trace, GREEDY, seed=0))
    assert "\n" not in str(told_error.value)
