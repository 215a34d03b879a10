"""Each reward against a plain formula or examples to check by hand, and the laws that hold for any attempt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_kit import attempt, word_policy

from thinksmith.audit import audit, find_loop
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.records import Attempt, Problem, Request, Sampling, Trace, Verdict
from thinksmith.thinking import TAGS, split
from thinksmith.training.rl.rewards import (
    REWARDS,
    Language,
    Length,
    Loop,
    Repetition,
    SoftOverlong,
    TagCount,
    correctness,
    scorer,
    think_format,
    true_equations,
)

STATUSES = ("correct", "wrong", "no_answer", "truncated", "timeout", "bad_gold", "error")


def thought(thinking: str, answer: str = "4") -> Attempt:
    return Attempt(Problem("p/1", "?", "4"), Trace(thinking, answer), Verdict("correct", 1.0))


def turn(completion: str, opened: str = "") -> Attempt:
    """An attempt from what was written, split as the engines split it."""
    found = split(opened + completion)
    trace = Trace(found.thinking, found.answer, found.status, opened=opened, completion=completion)
    return Attempt(Problem("p/1", "?", "4"), trace, Verdict("wrong"))


def tokens(count: int, *, right: bool = True) -> Attempt:
    return attempt(status="correct" if right else "wrong", token_ids=tuple(range(count)))


# -- the answer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["error", "bad_gold"])
def test_what_is_not_the_models_fault_is_left_out(status: str) -> None:
    assert correctness(attempt(status=status, score=0.0)) is None
    assert Length(max_tokens=9)(attempt(status=status, score=0.0)) is None


@pytest.mark.parametrize("status", ["correct", "wrong", "no_answer", "truncated", "timeout"])
def test_all_else_has_the_verdicts_score(status: str) -> None:
    assert correctness(attempt(status=status, score=0.25)) == 0.25


def test_an_engine_that_failed_is_not_judged() -> None:
    failed = attempt("2 + 2 = 4", status="error", finish="error", error="out of memory", token_ids=(1, 1, 1, 1))
    every = scorer(dict.fromkeys(REWARDS, 1.0), max_tokens=8)
    totals, parts = every([failed])
    assert totals == (None,)
    assert parts == (dict.fromkeys(REWARDS),)
    for part in every.parts:  # each alone says the same, for those who call it themselves
        assert (part.function(failed) if part.each else part.function([failed])[0]) is None


# -- equations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thinking", "share"),
    [
        ("2 + 2 = 4", 1.0),
        ("2 + 2 = 4, 4 * 3 = 13", 0.5),
        ("7 - 9 = -(9 - 7) = -2", 1.0),
        ("It is four.", 0.0),
        ("", 0.0),
    ],
)
def test_equations_are_counted_by_their_truth(thinking: str, share: float) -> None:
    assert true_equations(thought(thinking)) == share


@pytest.mark.parametrize("thinking", ["", " \n", "1 + 1 = 3"])
@pytest.mark.parametrize("answer", ["", "2 + 2 = 4", "2 + 2 = 4, 2 + 3 = 4"])
def test_the_equations_are_those_of_the_audit(thinking: str, answer: str) -> None:
    made = thought(thinking, answer)
    assert true_equations(made) == (audit(made.trace).share_true or 0.0)


# -- tags --------------------------------------------------------------------------------------------------------------


def test_format_under_a_template_that_opens_the_thinking() -> None:
    """The completion never holds the start tag, since the template wrote it; that must not zero the rewards."""
    problem = Problem("say/yes", "say yes", "yes", "exact")
    request = Request(problem.messages, n=64, sampling=Sampling(temperature=1.0, max_tokens=6))
    ((*traces,),) = LocalEngine(word_policy()).sample_all([request])
    attempts = [Attempt(problem, trace, Verdict("wrong")) for trace in traces]
    rewards = [think_format(each) for each in attempts]
    for trace, reward in zip(traces, rewards, strict=True):
        _, closed, answer = trace.completion.partition("</think>")
        assert trace.opened.strip() == "<think>"
        if "<think>" not in trace.completion and "</think>" not in answer:
            assert reward == float(bool(closed) and bool(answer.strip()))
            assert TagCount()(Attempt(problem, trace, Verdict("wrong"))) == (1.0 if closed else 0.5)
    assert 0 < sum(reward or 0.0 for reward in rewards) < 64


FOUR = {"answer": "answer"}


@pytest.mark.parametrize(
    ("written", "options", "share"),
    [
        ("<think>a</think>b", {}, 1.0),
        (" \n<think>\na\n</think>\nb", {}, 1.0),
        ("a</think>b", {}, 0.5),
        ("<think>a", {}, 0.5),
        ("a", {}, 0.0),
        ("", {}, 0.0),
        ("so <think>a</think>b", {}, 0.5),  # the first tag is not at the beginning
        ("<think>a</think>b</think>", {}, 0.5),  # the second one is there twice
        ("<think><think>a</think>b", {}, 0.5),
        ("</think>a<think>", {}, 0.0),  # each once, neither in its place
        ("<think>a</think><answer>b</answer>", FOUR, 1.0),
        ("<think>a</think><answer>b</answer> \n", FOUR, 1.0),
        ("<think>a</think><answer>b</answer> or c", FOUR, 0.75),
        ("<think>a</think><answer>b", FOUR, 0.75),
        ("<think>a</think>b", FOUR, 0.5),
        ("<answer>b</answer><think>a</think>", FOUR, 0.0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", FOUR, 0.5),
        ("[THINK]a[/THINK]b", {}, 1.0),
        ("[THINK]a[/THINK]b", {"tags": "think"}, 0.0),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", {}, 1.0),
        ("<|start|>assistant<|channel|>analysis<|message|>a<|end|>b", {}, 2 / 3),
    ],
)
def test_each_tag_pays_once_and_in_its_place(written: str, options: dict[str, str], share: float) -> None:
    assert TagCount(**options)(turn(written)) == pytest.approx(share)
    for cut in range(len(written)):  # whoever opened it: the template, the prefill, the model
        assert TagCount(**options)(turn(written[cut:], opened=written[:cut])) == pytest.approx(share)


# -- length ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 400), st.booleans(), st.integers(0, 99), st.integers(100, 300))
def test_length_is_half_a_cosine_wave(count: int, right: bool, shortest: int, longest: int) -> None:
    found = Length(max_tokens=longest, shortest=shortest)(tokens(count, right=right))
    low, high = (0.5, 1.0) if right else (-0.5, -1.0)  # at the longest, at the shortest
    inside = min(max(count, shortest), longest)
    angle = math.pi * (inside - shortest) / (longest - shortest)
    assert found == pytest.approx(low + 0.5 * (high - low) * (1 + math.cos(angle)))


@given(st.integers(0, 200), st.integers(0, 200))
def test_shorter_pays_for_right_answers_and_costs_for_wrong_ones(one: int, other: int) -> None:
    reward = Length(max_tokens=100, shortest=10)
    one, other = sorted((one, other))
    assert reward(tokens(one)) >= reward(tokens(other)) >= 0.5
    assert reward(tokens(one, right=False)) <= reward(tokens(other, right=False)) <= -0.5


def test_length_options() -> None:
    made = Length(
        max_tokens=10, min_value_wrong=-3.0, max_value_wrong=-2.0, min_value_correct=4.0, max_value_correct=6.0
    )
    assert [made(tokens(n)) for n in (0, 5, 10, 99)] == pytest.approx([6.0, 5.0, 4.0, 4.0])
    assert [made(tokens(n, right=False)) for n in (0, 5, 10, 99)] == pytest.approx([-3.0, -2.5, -2.0, -2.0])


def test_soft_overlong_as_in_the_paper() -> None:
    """DAPO: 20,480 tokens at most, the last 4,096 are the punished ones."""
    made = SoftOverlong(max_tokens=20480)
    assert [made(tokens(n)) for n in (0, 16384, 16384 + 1024, 18432, 20480, 30000)] == [0, 0, -0.25, -0.5, -1, -1]
    assert [SoftOverlong(max_tokens=100, soft_punish_cache=20)(tokens(n)) for n in (80, 90, 100)] == [0, -0.5, -1]


# -- repetition --------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5), st.floats(-2, 0))
def test_repetition_counts_ngrams_of_token_ids(ids: list[int], size: int, most: float) -> None:
    grams = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
    plain = most * (1 - len(set(grams)) / len(grams)) if grams else 0.0
    found = Repetition(ngram_size=size, max_penalty=most)(attempt(token_ids=tuple(ids)))
    assert found == pytest.approx(plain)


def test_repetition_of_words_where_there_are_no_ids() -> None:
    assert Repetition(ngram_size=1)(turn("no no no no")) == -0.75


@given(
    st.lists(st.sampled_from(("wait", "no", "4", ",")), min_size=1, max_size=9),
    st.integers(1, 30),
    st.text(st.sampled_from("ab 1."), max_size=60),
    st.integers(2, 5),
    st.integers(1, 70),
)
def test_loops_are_those_of_the_audit(unit: list[str], times: int, before: str, repeats: int, least: int) -> None:
    """The quick look that comes first must not miss one."""
    text = before + " " + " ".join(unit * times)
    expected = find_loop(text, repeats, least) is None
    loop = Loop(repeats=repeats, min_words=least)
    assert loop(thought(text)) == float(expected)
    assert loop(thought("", text)) == float(expected)


def test_a_loop_is_found() -> None:
    assert Loop()(thought("so it is four and " * 40)) == 0.0
    assert Loop()(thought(" ".join(f"now {i}" for i in range(99)))) == 1.0


# -- language ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "script", "share"),
    [
        ("two and two", "latin", 1.0),
        ("Größe, naïve", "latin", 1.0),
        ("два", "latin", 0.0),
        ("два и два", "cyrillic", 1.0),
        ("ab дв", "latin", 0.5),
        ("所以 so", "latin", 0.5),
        ("所以 so", "han", 0.5),
        ("だから二", "japanese", 1.0),
        ("だから二", "han", 0.25),
        ("그래서", "korean", 1.0),
        ("2 + 2 = 4 ✓ ℝ 𝑥", "latin", 1.0),
        ("", "thai", 1.0),
        ("ＡＢ", "latin", 1.0),
    ],
)
def test_language_by_the_letters_script(text: str, script: str, share: float) -> None:
    assert Language(script=script)(thought(text, "")) == share
    assert Language(script=script)(thought(text or "1", "Ж" * 9)) == share  # the thinking decides where there is any


# -- all of them -------------------------------------------------------------------------------------------------------

SIGNS = st.one_of(
    st.text(max_size=40),
    st.sampled_from([*sorted(TAGS["channel"].all), "<think>", "</think>", "1/0=", "=" * 30, "2+2=5 " * 9]),
)


@given(
    st.lists(SIGNS, max_size=4).map("".join),
    st.lists(SIGNS, max_size=4).map("".join),
    st.lists(st.integers(0, 5), max_size=70),
    st.sampled_from(STATUSES),
    st.sampled_from(("stop", "length", "budget", "error")),
    st.floats(0, 1),
    st.sampled_from(({}, {"needs_tool": True}, {"needs_tool": False})),
)
def test_no_reward_of_ours_ever_raises(
    opened: str, completion: str, ids: list[int], status: Any, finish: Any, score: float, meta: dict[str, bool]
) -> None:
    found = split(opened + completion)
    trace = Trace(
        found.thinking, found.answer, found.status, tuple(ids), finish=finish, opened=opened, completion=completion
    )
    made = Attempt(Problem("p/1", "?", "4", meta=meta), trace, Verdict(status, score))
    _, (parts,) = scorer(dict.fromkeys(REWARDS, 1.0), max_tokens=64)([made])
    ranges = dict.fromkeys(REWARDS, (0.0, 1.0)) | {
        "length": (-1.0, 1.0), "soft_overlong": (-1.0, 0.0), "repetition": (-1.0, 0.0), "calls": (-1.0, 0.0),
    }  # fmt: skip
    for name, value in parts.items():
        judged = name not in ("correctness", "length", "code_tests") or status not in ("error", "bad_gold")
        judged = judged and (name != "calls" or bool(meta))
        assert (value is not None) == (finish != "error" and judged)
        assert value is None or ranges[name][0] <= value <= ranges[name][1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Length(),
        lambda: Length(max_tokens=5, shortest=5),
        lambda: SoftOverlong(),
        lambda: SoftOverlong(max_tokens=5, soft_punish_cache=6),
        lambda: Repetition(ngram_size=0),
        lambda: Repetition(max_penalty=0.5),
        lambda: Loop(repeats=1),
        lambda: Language(script="klingon"),
        lambda: TagCount(tags="thnk"),
    ],
)
def test_options_that_make_no_sense(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"needs|unknown"):
        make()


def test_weights_sum_and_none_wins() -> None:
    reward = scorer({"correctness": 2.0, "think_format": -0.5})
    good, empty = attempt("4", thinking_status="closed"), attempt(" ", status="no_answer", score=0.0)
    left_out = replace(good, verdict=Verdict("bad_gold"))
    totals, parts = reward([good, left_out, empty])
    assert totals == (1.5, None, 0.0)
    assert parts == (
        {"correctness": 1.0, "think_format": 1.0},
        {"correctness": None, "think_format": 1.0},
        {"correctness": 0.0, "think_format": 0.0},
    )
    assert reward([]) == ((), ())
