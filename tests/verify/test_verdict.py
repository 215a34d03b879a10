"""Statuses: what is truncated, unanswered or broken is never called wrong, and thinking is never looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.records import Problem, Trace
from thinksmith.verify import VERIFIERS, check_gold, verify

PROBLEM = Problem("p", "What is 27 * 34?", "918")
RIGHT = Trace(thinking="27 * 34 = 918", answer="The answer is 918.")


def test_right_and_wrong_say_what_was_extracted_and_from_where():
    assert verify(PROBLEM, RIGHT).reason == 'extracted 918 after "answer"'
    wrong = verify(PROBLEM, replace(RIGHT, answer=r"It is \boxed{917}."))
    assert (wrong.status, wrong.score, wrong.extracted) == ("wrong", 0.0, "917")
    assert wrong.reason == r"extracted 917 from \boxed{}, expected 918: a different number"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "correct"),
        ({"finish": "length"}, "truncated"),
        ({"finish": "budget"}, "correct"),
        ({"thinking_status": "truncated"}, "truncated"),
        ({"thinking_status": "truncated", "answer": "", "finish": "length"}, "truncated"),
        ({"thinking_status": "none", "thinking": ""}, "correct"),
        ({"finish": "error", "error": "connection\nrefused"}, "error"),
        ({"answer": ""}, "no_answer"),
        ({"answer": "I cannot say which one of them it is."}, "no_answer"),
        ({"answer": "no idea"}, "no_answer"),
        ({"answer": "The answer is no idea."}, "wrong"),
    ],
)
def test_statuses(change, status):
    verdict = verify(PROBLEM, replace(RIGHT, **change))
    assert verdict.status == status
    assert verdict.score == (status == "correct")
    assert "\n" not in verdict.reason


def test_bad_gold_wins_over_everything():
    for answer, kind in (
        (None, "number"),
        ("blue", "number"),
        ("73 plus 6", "remainder"),
        ("", "math"),
        ("3 + 5", "countdown"),
    ):
        problem = replace(PROBLEM, answer=answer, kind=kind)
        assert verify(problem, replace(RIGHT, finish="error")).status == "bad_gold"
        assert check_gold(problem)
    assert check_gold(replace(PROBLEM, answer=None)) == "has no answer"
    assert check_gold(PROBLEM) is None


def test_unknown_kind_names_the_nearest():
    for check in (lambda p: verify(p, RIGHT), check_gold):
        with pytest.raises(UserError, match="did you mean 'countdown'"):
            check(replace(PROBLEM, kind="countdwn"))
        with pytest.raises(UserError, match="known are number, remainder"):
            check(replace(PROBLEM, kind="zzz"))


def test_last_number_is_off_unless_asked_for():
    trace = replace(RIGHT, answer="After adding all of it up one gets a total of 918")
    assert verify(PROBLEM, trace).status == "no_answer"
    assert verify(PROBLEM, trace, last_number=True).status == "correct"


@given(st.text(max_size=200), st.sampled_from(["closed", "truncated", "none"]))
def test_the_thinking_never_changes_a_verdict(thinking, status):
    base = verify(PROBLEM, Trace(thinking="", answer="918", thinking_status=status))
    boxed = verify(
        PROBLEM, Trace(thinking=thinking + r" \boxed{918} the answer is 918", answer="918", thinking_status=status)
    )
    assert base == boxed
    assert verify(PROBLEM, Trace(thinking=thinking + r"\boxed{918}", answer="", thinking_status=status)).score == 0


@given(st.sampled_from(list(VERIFIERS)), st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_verify_never_raises(kind, gold, answer, boxed):
    problem = Problem("p", "?", gold, kind, {"numbers": [1, 2], "target": 3, "tolerance": 0})
    verdict = verify(problem, Trace("", f"\\boxed{{{answer}}}" if boxed else answer, "none"))
    assert (verdict.status == "bad_gold") == (check_gold(problem) is not None)


@given(
    st.sampled_from(["number", "math", "exact", "remainder"]),
    st.text(alphabet="0123456789.,/%$ -=()[]{}\\fracxpi±", min_size=1, max_size=20),
)
def test_a_gold_that_passes_the_check_is_right_when_it_is_boxed(kind, gold):
    problem = Problem("p", "?", gold, kind)
    balanced = gold.count("{") == gold.count("}") == 0 and "\\" not in gold
    if check_gold(problem) is None and balanced:
        assert verify(problem, Trace("", f"\\boxed{{{gold}}}", "none")).status == "correct"


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"numbers": 3, "target": 3},
        {"numbers": "35", "target": 3},
        {"numbers": [1, None], "target": 3},
        {"numbers": [1], "target": "1/0"},
        {"numbers": [], "target": 0},
    ],
)
def test_countdown_problems_without_numbers_are_bad_gold(meta):
    assert "must be numbers" in check_gold(Problem("p", "?", "1", "countdown", meta)) or "not a list" in check_gold(
        Problem("p", "?", "1", "countdown", meta)
    )
