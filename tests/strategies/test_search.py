"""Search over steps: it is the plain sample where there is nothing to choose, it ends, and every token is counted."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from math import exp
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines import open_engine
from thinksmith.engines.contract import EngineInfo
from thinksmith.engines.replay import ReplayEngine
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.beam import beam
from thinksmith.strategies.dvts import dvts
from thinksmith.strategies.ledger import Ledger
from thinksmith.strategies.names import strategy
from thinksmith.strategies.single import single
from thinksmith.strategies.step_scores import audited, by_audit, by_confidence
from thinksmith.strategies.steps import Path
from thinksmith.thinking import THINK, split

WARM = Sampling(temperature=1.0, max_tokens=120, seed=4)


@pytest.fixture(scope="module")
def engine():
    engine = open_engine("tiny-base")
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(scope="module")
def problems():
    return load("mixed", 8, seed=6)


def at_once(made, problems, engine):
    async def run():
        return await asyncio.gather(*(made(problem, engine) for problem in problems))

    return asyncio.run(run())


@pytest.mark.parametrize("step", ["line", "paragraph", "sentence"])
@pytest.mark.parametrize("bounds", [{}, {"max_tokens": 23}, {"max_thinking_tokens": 12}, {"min_thinking_tokens": 40}])
def test_with_one_path_at_temperature_0_it_is_single(engine, problems, step, bounds):
    sampling = replace(WARM, temperature=0.0, **bounds)
    plain = at_once(single(sampling), problems, engine)
    searched = at_once(beam(sampling, width=1, expand=1, stop=step), problems, engine)
    for one, other in zip(plain, searched, strict=True):
        mine, its = other.chosen, one.chosen
        assert mine.token_ids == its.token_ids
        assert (mine.thinking, mine.answer, mine.thinking_status) == (its.thinking, its.answer, its.thinking_status)
        assert (mine.thinking_tokens, mine.answer_tokens) == (its.thinking_tokens, its.answer_tokens)
        assert (mine.completion, mine.opened, mine.prompt_ids) == (its.completion, its.opened, its.prompt_ids)
        assert mine.forced == its.forced
        assert mine.logprobs == pytest.approx(its.logprobs, abs=1e-4)
        assert mine.sampling.max_tokens == sampling.max_tokens
        assert mine.sampling.stop == ()
        assert other.tokens <= its.tokens + 8  # a forced end of thinking that a step's end cut is asked for once more


def test_with_one_path_it_is_one_sample_that_goes_on(engine, problems):
    """Each piece stands behind all before it, is what its own request gives, and none is thrown away."""
    for outcome in at_once(beam(WARM, width=1, expand=1), problems, engine):
        ids = outcome.traces[0].prompt_ids
        for piece in outcome.traces:
            assert piece.prompt_ids == ids
            again = engine.sample_all([Request(token_ids=ids, sampling=piece.sampling)])[0][0]
            assert again.token_ids == piece.token_ids
            ids += piece.token_ids
        assert outcome.chosen.prompt_ids + outcome.chosen.token_ids == ids
        assert outcome.tokens == outcome.chosen.tokens


@pytest.mark.parametrize(
    "spec",
    [
        "beam:width=2,expand=3",
        "beam:by=confidence,width=2,expand=2",
        "dvts@2:expand=3",
        "beam:by=self,width=1,expand=2",
    ],
)
def test_all_is_counted_and_neighbours_change_nothing(engine, problems, spec):
    made = strategy(spec).make(WARM, 1, lambda name: engine)
    ledgers = [Ledger(engine) for _ in problems]

    async def run():
        return await asyncio.gather(*(made(p, ledger) for p, ledger in zip(problems, ledgers, strict=True)))

    together = asyncio.run(run())
    for problem, one, ledger in zip(problems, together, ledgers, strict=True):
        assert one.tokens == sum(len(trace.token_ids) for trace in ledger.traces)
        assert Counter(trace.token_ids for trace in one.traces) == Counter(trace.token_ids for trace in ledger.traces)
        assert one.chosen.tokens <= one.tokens
        if "self" not in spec:
            assert len({trace.sampling.seed for trace in one.traces}) == len(one.traces)
        alone = asyncio.run(made(problem, engine))
        assert [trace.token_ids for trace in alone.traces] == [trace.token_ids for trace in one.traces]
        assert (alone.answer, alone.notes, alone.why) == (one.answer, one.notes, one.why)


def test_the_first_steps_are_the_beginnings_of_singles_draws(engine, problems):
    outcomes = at_once(beam(WARM, width=2, expand=2, sample=1), problems, engine)
    for number in range(4):
        for outcome, plain in zip(outcomes, at_once(single(WARM, sample=4 + number), problems, engine), strict=True):
            first = outcome.traces[number].token_ids
            assert first == plain.chosen.token_ids[: len(first)]


def test_one_tree_is_a_beam(engine, problems):
    one = at_once(dvts(WARM, n=1, width=2, expand=2, take="best"), problems[:4], engine)
    other = at_once(beam(WARM, width=2, expand=2), problems[:4], engine)
    assert [(each.tokens, each.answer, each.notes) for each in one] == [
        (each.tokens, each.answer, each.notes) for each in other
    ]


@settings(deadline=None, max_examples=12)
@given(
    most=st.integers(1, 40),
    width=st.integers(1, 3),
    expand=st.integers(1, 3),
    depth=st.integers(1, 6),
    step=st.sampled_from(["line", "sentence"]),
    budget=st.none() | st.integers(0, 20),
    closing=st.sampled_from(["", "\nI stop.\nHere.\n"]),
)
def test_no_path_is_longer_than_it_may_be(engine, problems, most, width, expand, depth, step, budget, closing):
    sampling = replace(WARM, max_tokens=most, max_thinking_tokens=budget, closing=closing)
    made = beam(sampling, width=width, expand=expand, depth=depth, stop=step)
    for outcome in at_once(made, problems[:2], engine):
        assert 1 <= outcome.chosen.tokens <= most
        assert len(outcome.traces) <= width * expand * depth + width
        if outcome.chosen.thinking_status == "truncated":
            assert outcome.chosen.finish != "stop"


# A toy model: what it writes is a function of the turn so far and the seed, and the same whether it is continued by
# tokens (one for each character, 0 ends the turn) or behind a text.

RIGHT, WRONG = "1 + 1 = 2", "1 + 1 = 3"


@dataclass
class Toy:
    """Writes lines of arithmetic, ends its thinking with chance `ends` after each, and says how many were right."""

    by_token: bool = True
    ends: float = 0.2
    silent_after: int = 1000  # lines, behind which it ends its turn inside its thinking
    lines: tuple[str, ...] = (RIGHT, WRONG)
    requests: list[Request] = field(default_factory=list)

    room = 100
    tags = THINK

    @property
    def info(self):
        return EngineInfo("toy", prefill=not self.by_token, token_ids=self.by_token)

    def decode(self, ids):
        return "".join("<eos>" if number == 0 else chr(number) for number in ids)

    def rest(self, so_far: str, seed: int) -> str:
        """What comes behind `so_far`, up to the end of the turn."""
        rng, text = Random(f"{seed} {so_far}"), so_far
        while "</think>" not in text and text.count("\n") <= self.silent_after and len(text) < len(so_far) + 400:
            text += f"{rng.choice(self.lines)}\n" if rng.random() >= self.ends else "</think>\n"
        if "The answer" not in text and text.count("\n") <= self.silent_after:
            text += f"The answer is {text.count(RIGHT)}."
        return text.removeprefix(so_far)

    async def sample(self, request: Request) -> list[Trace]:
        self.requests.append(request)
        await asyncio.sleep(0)
        sampling = request.sampling
        so_far = (
            self.decode(request.token_ids).removeprefix("Q") if request.token_ids else request.prefill or "<think>\n"
        )
        rest = self.rest(so_far, sampling.seed)
        ends = sorted((rest.find(stop), stop) for stop in sampling.stop if stop in rest)
        text, ids = rest, (*map(ord, rest), 0)
        if ends:
            at, stop = ends[0]
            text, ids = rest[:at], tuple(map(ord, rest[:at] + stop))
        cut = len(ids) > sampling.max_tokens
        ids = ids[: sampling.max_tokens]
        text = text[: len(ids)] if cut else text
        parts = split(so_far + text)
        trace = Trace(
            parts.thinking, parts.answer, parts.status, finish="length" if cut else "stop", sampling=sampling,
            opened=so_far, completion=text, prompt_ids=request.token_ids or tuple(map(ord, "Q<think>\n")),
        )  # fmt: skip
        open_thinking = parts.status == "truncated"
        if self.by_token:
            thinking = len(ids) if open_thinking else max(0, len(rest.partition("</think>")[0]) + 8)
            return [replace(trace, token_ids=ids, thinking_tokens=thinking, answer_tokens=len(ids) - thinking)]
        return [replace(trace, thinking_tokens=len(text), prompt_ids=())]


PROBLEM = Problem("toy", "How many?", "3")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.integers(2, 12))
def test_behind_a_text_it_finds_what_it_finds_token_by_token(seed, width, expand, depth):
    made = beam(Sampling(max_tokens=2000, seed=seed), width=width, expand=expand, depth=depth)
    one, other = (asyncio.run(made(PROBLEM, Toy(by_token))) for by_token in (True, False))
    assert one.chosen.text == other.chosen.text
    assert (one.chosen.thinking, one.chosen.answer) == (other.chosen.thinking, other.chosen.answer)
    assert (one.answer, one.notes) == (other.answer, other.notes)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4))
def test_the_best_are_kept_at_every_level(seed, width, expand):
    """The search once more, over the toy's pieces as they were asked for: which of them were gone on with?"""
    toy = Toy(ends=0.0)
    asyncio.run(beam(Sampling(max_tokens=2000, seed=seed), width=width, expand=expand, depth=4)(PROBLEM, toy))
    levels: dict[int, list[str]] = {}
    for request in toy.requests:
        so_far = toy.decode(request.token_ids).removeprefix("Q") if request.token_ids else "<think>\n"
        levels.setdefault(so_far.count("\n") - 1, []).append(so_far)
    assert len(levels[0]) == width * expand
    for level in (1, 2, 3):
        before = [request for request in toy.requests if request.sampling.stop]
        made = {
            so_far + toy.rest(so_far, request.sampling.seed).partition("\n")[0] + "\n"
            for request in before
            for so_far in [toy.decode(request.token_ids).removeprefix("Q") if request.token_ids else "<think>\n"]
            if so_far.count("\n") - 1 == level - 1
        }
        best = sorted((audited(text) for text in made), reverse=True)[:width]
        parents = dict.fromkeys(levels[level])
        assert [audited(text) for text in parents] == best
        assert len(levels[level]) == len(parents) * expand


def test_those_that_say_the_same_count_once():
    toy = Toy(lines=(RIGHT,), ends=0.0)
    asyncio.run(beam(Sampling(max_tokens=2000), width=4, expand=4, depth=5)(PROBLEM, toy))
    assert len(toy.requests) == 16 + 4 * 4  # after the first level there is one path, in four ways


def test_of_equal_scores_what_most_say_is_kept():
    toy = Toy(lines=("2 + 2 = 4", RIGHT, RIGHT, RIGHT), ends=0.0)
    asyncio.run(beam(Sampling(max_tokens=2000, seed=3), width=1, expand=12, depth=2)(PROBLEM, toy))
    begun = [toy.rest("<think>\n", request.sampling.seed).partition("\n")[0] for request in toy.requests[:12]]
    assert begun[0] != RIGHT, "choose another seed: the rarer one must come first"
    assert begun.count(RIGHT) > 6
    assert all(toy.decode(request.token_ids) == f"Q<think>\n{RIGHT}\n" for request in toy.requests[12:])


@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize("lines", [("",), ("", RIGHT), (" ",)])
def test_a_model_that_writes_empty_lines_for_ever_ends(by_token, lines):
    toy = Toy(by_token, ends=0.0, lines=lines)
    made = beam(Sampling(max_tokens=50), width=2, expand=2, depth=30)
    outcome = asyncio.run(made(PROBLEM, toy))
    assert outcome.chosen.thinking_status == "truncated"
    assert len(toy.requests) <= 2 * 2 * 30 + 2


@pytest.mark.parametrize("by_token", [True, False])
def test_a_model_that_ends_its_turn_inside_its_thinking_is_not_asked_for_ever(by_token):
    """A server does not say that it was the model who ended: it is asked twice more, and says nothing."""
    toy = Toy(by_token, ends=0.0, silent_after=3)
    outcome = asyncio.run(beam(Sampling(max_tokens=500), width=1, expand=1, depth=30)(PROBLEM, toy))
    assert len(toy.requests) == (4 if by_token else 5)
    assert (outcome.chosen.thinking_status, outcome.chosen.thinking.count("=")) == ("truncated", 3)


def test_a_stop_text_of_the_users_own_ends_a_path():
    sampling = Sampling(max_tokens=500, stop=("= 3",))
    for seed in range(10):
        toy = Toy(ends=0.1)
        outcome = asyncio.run(beam(replace(sampling, seed=seed), width=1, expand=1, depth=30)(PROBLEM, toy))
        lines = outcome.chosen.thinking.count(RIGHT)
        stopped = outcome.chosen.thinking.endswith("1 + 1 ") or outcome.chosen.thinking.endswith("1 + 1")
        assert stopped == (outcome.chosen.thinking_status == "truncated")
        assert not stopped or len(toy.requests) == lines + 1
    with pytest.raises(UserError, match="stop"):
        asyncio.run(beam(sampling)(PROBLEM, Toy(by_token=False)))


def test_the_first_finished_path_with_an_answer_is_taken_before_better_ones_without():
    cut = Sampling(max_tokens=60, seed=1)
    outcomes = [asyncio.run(beam(replace(cut, seed=seed), depth=12)(PROBLEM, Toy(ends=0.3))) for seed in range(20)]
    for outcome in outcomes:
        if outcome.notes["votes"]:
            assert outcome.answer.startswith("The answer is")


@dataclass
class Failing(Toy):
    """Fails at the first step (`at` 0) or behind it."""

    at: int = 0

    async def sample(self, request: Request) -> list[Trace]:
        if bool(request.token_ids) >= bool(self.at):
            return [Trace("", "", "none", finish="error", error="no more", sampling=request.sampling)]
        return await super().sample(request)


@pytest.mark.parametrize("at", [0, 1])
def test_a_model_that_fails_gives_a_trace_with_the_error(at):
    outcome = asyncio.run(beam(Sampling(max_tokens=100))(PROBLEM, Failing(at=at)))
    assert (outcome.chosen.finish, outcome.chosen.error) == ("error", "no more")


def test_scores_of_steps():
    def path(thinking, logprobs=None, start=0, forced=()):
        return Path(Trace(thinking, "", "truncated", (0,) * 4, logprobs, forced=forced), start)

    texts = ["no sums", RIGHT, WRONG, f"{RIGHT}\n{WRONG}\n{RIGHT}", "so 1 + 1 = 2. " * 60]
    scores = asyncio.run(by_audit(PROBLEM, [path(text) for text in texts]))
    assert scores == pytest.approx([0.5, 1.0, 0.0, 2 / 3, 0.0])
    known = path("", (-9.0, -1.0, -2.0, -7.0), start=1, forced=(3,))
    assert asyncio.run(by_confidence(PROBLEM, [known])) == pytest.approx([exp(-1.5)])
    with pytest.raises(UserError, match="log-probabilities"):
        asyncio.run(by_confidence(PROBLEM, [path("x")]))


def test_a_scorer_of_ones_own_and_a_path_by_its_least_or_mean_score(tmp_path, monkeypatch):
    (tmp_path / "own_step_scorer.py").write_text(
        "async def shortest(problem, traces):\n    return [-len(trace.thinking) for trace in traces]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for over in ("last", "mean", "least"):
        made = strategy(f"beam:by=own_step_scorer:shortest,over={over},width=2").make(Sampling(max_tokens=900), 0, None)
        outcome = asyncio.run(made(PROBLEM, Toy(ends=0.5)))
        assert outcome.chosen.thinking == ""  # one of 8 first steps ends the thinking at once


def test_an_engine_that_cannot_go_on_is_named():
    mute = ReplayEngine([(PROBLEM, Trace("a", "b"))], "replay/x.jsonl")
    for made in (beam(Sampling()), dvts(Sampling())):
        with pytest.raises(UserError, match=r"replay/x\.jsonl cannot go on") as caught:
            asyncio.run(made(PROBLEM, mute))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        "beam:width=0", "beam:expand=0", "beam:depth=0", "beam:stop=word", "beam:by=verifier",
        "beam:by=judge,model=tiny",
        "beam:by=audit,model=tiny", "beam:by=adit", "beam:by=reward", "beam:over=most", "dvts@0", "dvts:width=0",
        "beam:take=worst", "dvts:by=recorded,file=x.jsonl", "beam@3",
    ],
)  # fmt: skip
def test_options_that_cannot_be(spec):
    with pytest.raises(UserError) as caught:
        strategy(spec)
    assert "\n" not in str(caught.value)
