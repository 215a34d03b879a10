"""Kind `regex`: the whole answer, in a worker, with an end."""

from __future__ import annotations

import time

import pytest

from thinksmith.records import Problem, Trace
from thinksmith.verify import check_gold, verify, workers


def verdict(gold: str | None, text: str, **meta: object):
    return verify(Problem("p", "?", gold, "regex", meta), Trace("", text, "none"))


@pytest.mark.parametrize(
    ("pattern", "text", "status"),
    [
        (r"[0-9]+", "42", "correct"),
        (r"[0-9]+", r"\boxed{42}", "correct"),
        (r"[0-9]+", "The answer is 42.", "correct"),
        (r"[0-9]+", "I counted 42 of them in the garden", "wrong"),
        (r"[0-9]+", "42 or so", "wrong"),
        (r"(?s).*42.*", "I counted 42 of them\nin the garden", "correct"),
        (r"(?i)yes|no", "YES", "correct"),
        (r"a|ab", "ab", "correct"),
        (r"yes", "", "no_answer"),
        (r"(?s)Dear .*Yours", "Dear Ann,\nthe answer is 7.\nYours", "wrong"),
    ],
)
def test_the_pattern_matches_all_of_the_final_answer(pattern, text, status):
    assert verdict(pattern, text).status == status


def test_with_whole_nothing_is_extracted():
    assert verdict(r"(?s)Dear .*Yours", "Dear Ann,\nthe answer is 7.\nYours", whole=True).status == "correct"
    assert verdict(r"[0-9]+", r"\boxed{42}", whole=True).status == "wrong"


def test_the_pattern_may_stand_in_meta():
    assert verdict(None, "42", pattern="[0-9]+").status == "correct"
    assert check_gold(Problem("p", "?", None, "regex", {"pattern": "a+"})) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "cannot be read"),
        ("", "empty"),
        ("a{99999999999}", "cannot be read"),
        ("(" * 5_000 + ")" * 5_000, "cannot be read"),
        ("a" * 10_001, "longer"),
        (None, "no pattern"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_bad_gold(pattern, why):
    found = verdict(pattern, "x")
    assert found.status == "bad_gold"
    assert why in found.reason


def test_a_pattern_that_runs_for_ever_ends_at_the_deadline():
    before = workers.counts().get("killed", 0)
    started = time.monotonic()
    found = verdict(r"(a+)+b", "a" * 64)
    assert found.status == "timeout"
    assert found.score == 0
    assert found.reason.endswith("as the whole answer: it took too long to decide")
    assert time.monotonic() - started < workers.DEADLINE + 5
    assert workers.counts()["killed"] == before + 1
    assert verdict(r"(a+)+b", "aaab").status == "correct"  # the next one finds a worker


def test_an_answer_without_measure_is_wrong_at_once():
    assert verdict(r"a*", "a" * 100_001).status == "wrong"
    assert verdict(r"a*", "a" * 99_999).status == "correct"
