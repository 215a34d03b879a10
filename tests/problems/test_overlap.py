"""Evaluations' problems in texts, against the plain definition: sets of 8-tuples of words."""

from __future__ import annotations

import pickle
import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.problems.overlap import Overlap
from thinksmith.problems.wording import Wording, grams
from thinksmith.records import Problem

N = 8
SENTENCE = "the a sum of two Numbers 3 x, y. (is) equal to five what"
WORDS = SENTENCE.split()


def plain(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[at : at + N]) for at in range(len(words) - N + 1)}


def made(chance: Random, count: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(count))


@given(st.integers(0, 10**6), st.integers(8, 30), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_hits_are_shared_grams(seed: int, length: int, rest: int) -> None:
    chance = Random(seed)
    problems = [Problem(f"p{at}", made(chance, length), made(chance, chance.randrange(20))) for at in range(5)]
    piece = problems[0].text.split()
    start = chance.randrange(length)
    question = f"{made(chance, rest)} {' '.join(piece[start : start + chance.randrange(12)])} {made(chance, 5)}"
    said = (
        f"{made(chance, rest)}\n{' '.join(piece[: chance.randrange(length)])}\n{made(chance, 9)} {problems[1].answer}"
    )
    hits = Overlap({"e": problems}).hits(question, [question], Wording.of(said))
    expected = set()
    for problem in problems:
        own, gold = plain(problem.text), plain(problem.answer or "")
        if own & plain(question):
            expected.add((problem.id, "problem", "question"))
        if own and len(own & plain(said)) >= 0.5 * len(own):
            expected.add((problem.id, "problem", "trace"))
        if gold and len(gold & plain(said)) >= 0.5 * len(gold):
            expected.add((problem.id, "gold", "trace"))
    assert {(hit.id, hit.part, hit.where) for hit in hits} == expected
    for hit in hits:
        assert tuple(hit.words.split()) in plain(question if hit.where == "question" else said)


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What is 12 × 7?", True),
        ("  what is  12 × 7 ", True),
        ("What is 12 + 7?", False),
        ("What is 12 × 8?", False),
        ("Tell me: what is 12 × 7?", False),
    ],
)
def test_short_problems_are_found_as_a_whole(question: str, found: bool) -> None:
    hits = Overlap({"e": [Problem("p", "What is 12 × 7?", "84")]}).hits(question, [question], Wording.of("It is 84."))
    assert [hit.part for hit in hits] == (["problem"] if found else [])


def test_a_short_gold_answer_alone_is_no_hit_and_a_worked_one_is() -> None:
    solution = "First we take half of the apples, then we add three, and get eleven apples."
    problem = Problem("p", "How many apples are there at the end of the long day?", "11", meta={"solution": solution})
    overlap = Overlap({"e": [problem]})
    assert not overlap.hits("Something else?", [], Wording.of("It is 11."))
    (hit,) = overlap.hits("Something else?", [], Wording.of("Well. " + solution.upper()))
    assert (hit.part, hit.where, hit.share) == ("gold", "trace", 1.0)


def test_the_frame_of_a_question_does_not_count() -> None:
    """An evaluation that asks all its problems in one frame is not found in every text that has the frame."""
    frame = "Think step by step and put the final answer in a box at the end: "
    problem = Problem(
        "p",
        frame + "how old is the elder of the two brothers now",
        "9",
        meta={"prompt": "how old is the elder of the two brothers now"},
    )
    overlap = Overlap({"e": [problem]})
    assert not overlap.hits(frame + "what is 3 + 4", [], Wording.of(""))
    assert overlap.hits("So how old is the elder of the two brothers now?", [], Wording.of(""))


def test_every_problem_that_has_the_words_is_a_hit() -> None:
    text = "what are the first nine primes beyond one hundred"
    problems = {
        "one": [Problem("p", text, "101"), Problem("q", f"now {text}", "101")],
        "two": [Problem("p", text, "101")],
    }
    hits = Overlap(problems).hits(text, [], Wording.of(""))
    assert [(hit.evaluation, hit.id) for hit in hits] == [("one", "p"), ("one", "q"), ("two", "p")]


def test_it_can_be_sent_to_another_process() -> None:
    text = "what are the first nine primes beyond one hundred"
    overlap = pickle.loads(pickle.dumps(Overlap({"e": [Problem("p", text, "101")]})))
    assert len(overlap) == 1
    assert overlap.hits(text, [], Wording.of(""))
    assert Overlap({}).hits(text, [text], Wording.of(text)) == []


@given(st.lists(st.sampled_from(["a", "b", "cc", "3", "+", "é"]), max_size=30), st.integers(1, 17))
@settings(max_examples=100, deadline=None)
def test_grams_are_equal_where_the_words_are(words: list[str], n: int) -> None:
    found = grams(Wording.of(" ".join(words)).hashes_W, n).tolist()
    tuples = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
    assert len(found) == len(tuples)
    assert all(
        (a == b) == (x == y) for a, x in zip(found, tuples, strict=True) for b, y in zip(found, tuples, strict=True)
    )


def test_words_are_the_same_in_every_process() -> None:
    """What a set is hashed and drawn by must not change with Python's own hashes: known values."""
    assert Wording.of("The answer is 42.").hashes_W.tolist() == Wording.of("the ANSWER is 42 .").hashes_W.tolist()
    assert Wording.of("a+b").whole != Wording.of("a-b").whole
    assert Wording.of("a, b!").whole != 0
    assert Wording.of("?.").whole == 0
