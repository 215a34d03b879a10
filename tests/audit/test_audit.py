"""The whole audit: on solutions whose slips are known, on hand-made traces, and on hostile texts."""

from __future__ import annotations

import json
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.audit import audit
from thinksmith.problems.families import FAMILIES, sample, write_solution
from thinksmith.problems.writer import Style
from thinksmith.records import Problem, Trace

TINY = (
    "27 * 34 = 27 * 30 + 27 * 4. 7 * 3 = 21, 2 * 3 + 2 = 8, so 81, 27 * 30 = 810.\n"
    "7 * 4 = 28, 2 * 4 + 2 = 10, so 108.\n810 + 108: 0 + 8 = 8, 1 + 0 = 1, 8 + 1 = 9, so 918.\n"
    "Check the last digit: 7 * 4 = 28."
)


def test_a_tiny_trace():
    found = audit(Trace(TINY, "The answer is 918.", thinking_tokens=len(TINY)))
    assert (found.part, found.answer, found.share_true, found.first_false) == ("thinking", "918", 1.0, None)
    assert found.answer_first_at == TINY.index("918")
    assert found.tokens_after_answer == len(TINY) - TINY.index("918") - 3
    assert (found.has_check, found.has_backtrack, found.loop, found.disagreement) == (True, False, None, False)


def test_the_first_false_equation_is_the_first():
    found = audit(Trace("2 + 2 = 4. 3 + 3 = 7. 4 + 4 = 9.", "9"))
    assert found.first_false.text == "3 + 3 = 7"
    assert found.share_true == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("thinking", "answer", "expected"),
    [
        ("3 + 4 = 7, so 7.", "The answer is 7.", False),
        ("3 + 4 = 7, so 7.", "The answer is 8.", True),
        ("Therefore \\boxed{1/2}", "\\boxed{0.5}", False),
        ("Therefore \\boxed{1/2}", "\\boxed{0.25}", True),
        ("3 + 4 = 7.", "8", True),
        ("3 + 4 = 7.\nCheck: 7 - 4 = 3.", "7", False),
        ("Check: 7 - 4 = 2. Wait, 7 - 4 = 3.", "7", None),
        ("I wonder.", "7", None),
        ("3 + 4 = 7, so 7.", "", None),
        ("947 - 4 = 943, so 943.", "The answer is -943.", None),
        ("The answer is 73 remainder 6.", "73 remainder 5", True),
        ("The answer is 73 r 6.", "73 remainder 6", False),
        ("The answer is red.", "blue", None),
    ],
)
def test_disagreement(thinking, answer, expected):
    assert audit(Trace(thinking, answer)).disagreement is expected


@pytest.mark.parametrize(
    ("thinking", "answer", "before"),
    [
        ("We need 24 / 4 of them. 24 - 18 = 6, so 6.", "6", "We need 24 / 4 of them. 24 - 18 = "),
        ("6 * 2 = 12 and -6 + 12 = 6", "6", "6 * 2 = 12 and -6 + 12 = "),
        ("2 - 8 = -6", "-6", "2 - 8 = "),
        ("5 = 10/2, and 10 / 4 = 5/2", "2.5", "5 = 10/2, and 10 / 4 = "),
        ("517 = 7 * 73 + 6.", "73 remainder 6", "517 = 7 * "),
        ("It is east of here.", "\\boxed{east}", "It is "),
        ("1000 + 234 = 1,234", "1234", "1000 + 234 = "),
    ],
)
def test_where_the_answer_first_stood(thinking, answer, before):
    assert audit(Trace(thinking, answer)).answer_first_at == len(before)


def test_an_answer_that_never_came_up_is_nowhere():
    assert audit(Trace("18 + 1 = 19, 180, 8.1, x8", "8")).answer_first_at is None


def test_a_plain_text_and_an_answer_without_thinking():
    plain = audit("3 + 4 = 7. The answer is 7.")
    assert (plain.part, plain.answer, plain.disagreement) == ("thinking", "7", None)
    answered = audit(Trace("", "3 + 4 = 8. The answer is 8.", "none", answer_tokens=20))
    assert (answered.part, answered.disagreement, answered.share_true) == ("answer", None, 0.0)
    gold = audit(Trace("3 + 4 = 7, and then", "", "truncated"), Problem("p", "?", "7"))
    assert gold.answer_first_at == 8


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_solutions_without_slips_have_no_false_equation_and_agree_with_their_answers(family):
    rng = Random(5)
    for problem in sample(family, {}, 60, split="train", seed=9):
        solution = write_solution(problem, rng, Style(slip=0.0, check=0.5))
        found = audit(Trace(solution.thinking, solution.answer, thinking_tokens=100), problem)
        assert found.share_true == 1.0, solution.thinking
        assert not found.disagreement, solution
        assert found.loop is None
        assert "".join(segment.text for segment in found.segments) == solution.thinking
        assert found.has_check == ("Check" in solution.thinking)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_slips_are_found(family):
    rng = Random(6)
    slipped = found_in = 0
    for problem in sample(family, {}, 60, split="train", seed=9):
        solution = write_solution(problem, rng, Style(slip=0.2, notice=0.0, check=0.0))
        if solution.slipped:
            slipped += 1
            found_in += audit(Trace(solution.thinking, solution.answer)).first_false is not None
    assert slipped >= 10
    assert found_in == slipped


HOSTILE = [
    "12 + 7 = 20 and so ",
    "\n",
    "(",
    ")",
    "=",
    "9^400*",
    "a",
    "\\boxed{",
    "$",
    "Wait, ",
    "answer is ",
    "\\",
    ". ",
    "9",
    "\\text{",
    "\\frac{",
    "*",
    "1=\n",
    "1,111,",
    "-",
    " \n",
    "x 3 ",
    "&",
    "\x00",
    "é",
    "= 5 and ",
    "[",
    "1/",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_texts_are_audited_in_time_that_grows_with_their_length(unit):
    text = (unit * 20_000)[:20_000]
    assert "".join(segment.text for segment in audit(text).segments) == text
    # Twice the text: twice the processor time if linear, four times if quadratic. Best of three, as clocks are rough.
    ratios = (cpu_seconds(text) / max(cpu_seconds(text[:10_000]), 0.02) for _ in range(3))
    assert any(ratio < 3 for ratio in ratios)


def cpu_seconds(text: str) -> float:
    begun = time.process_time()
    audit(Trace(text, "7", thinking_tokens=10))
    return time.process_time() - begun


@given(st.text(max_size=150), st.text(max_size=40), st.one_of(st.none(), st.text(max_size=10)))
@settings(deadline=None)
def test_never_raises_and_its_record_is_json(thinking, answer, gold):
    for trace in (thinking, Trace(thinking, answer, thinking_tokens=7)):
        found = audit(trace, Problem("p", "?", gold))
        record = json.loads(json.dumps(found.to_dict()))
        assert len(record["segments"]) == len(found.segments)
        assert found.answer_first_at is None or 0 <= found.answer_first_at < found.characters
        assert found.tokens_after_answer is None or 0 <= found.tokens_after_answer <= 7


def test_the_record_keeps_exact_values():
    record = audit("1/3 + 1/3 = 2/3, and 1/3 + 1/3 = 1.").to_dict()
    assert json.loads(json.dumps(record))["equations"][0]["left"] == "2/3"
    assert record["first_false"]["right"] == "1"
