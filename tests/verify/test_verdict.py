"""Statuses: what is truncated, unanswered or broken is never called wrong, and thinking is never looked at."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.records import Problem, Trace, Verdict
from thinksmith.verify import VERIFIERS, Verifier, check_all, check_gold, require, verify, verify_all
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.workers import Exceeded, WorkerFailed

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


@settings(deadline=None)
@given(st.sampled_from(list(VERIFIERS)), st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_verify_never_raises(kind, gold, answer, boxed):
    problem = Problem("p", "?", gold, kind, {"numbers": [1, 2], "target": 3, "tolerance": 0})
    verdict = verify(problem, Trace("", f"\\boxed{{{answer}}}" if boxed else answer, "none"))
    assert (verdict.status == "bad_gold") == (check_gold(problem) is not None)


@settings(deadline=None)
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
        {"numbers": [1], "target": "1e999999999"},
        {"numbers": [], "target": 0},
    ],
)
def test_countdown_problems_without_numbers_are_bad_gold(meta):
    assert "must be numbers" in check_gold(Problem("p", "?", "1", "countdown", meta)) or "not a list" in check_gold(
        Problem("p", "?", "1", "countdown", meta)
    )


class Grader:
    """A verifier made to order: it does what the answer says, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.threads: set[str] = set()

    def __call__(self, problem: Problem, answer: str) -> str | None:
        self.threads.add(threading.current_thread().name)
        self.asked += 1
        faults = {
            "slow": Exceeded("time"),
            "large": Exceeded("memory"),
            "gold": BadGold("the tests cannot be used"),
            "mumble": Unreadable("that is no answer"),
            "missing": UserError("install bubblewrap"),
            "dead": WorkerFailed("a worker died of signal 9"),
            "bug": ZeroDivisionError("of\nours\x1b[31m"),
        }
        if answer == "flaky" and self.asked == 1:
            raise WorkerFailed("once")
        if answer == "wait":
            time.sleep(0.2)
        if answer in faults:
            raise faults[answer]
        return None if answer in ("right", "wait", "flaky") else "not right"


@pytest.fixture
def grader(monkeypatch):
    grader = Grader()
    monkeypatch.setitem(VERIFIERS, "made", Verifier(grader, "as it says", check=lambda problem: None, slow=True))
    return grader


def made(answer: str) -> tuple[Problem, Trace]:
    return Problem("p", "?", "right", "made"), Trace("", f"\\boxed{{{answer}}}", "none")


@pytest.mark.parametrize(
    ("answer", "status", "asked", "reason"),
    [
        ("right", "correct", 1, r"extracted right from \boxed{}"),
        ("other", "wrong", 1, r"extracted other from \boxed{}, expected right: not right"),
        ("mumble", "wrong", 1, r"extracted mumble from \boxed{}: that is no answer"),
        ("slow", "timeout", 1, r"extracted slow from \boxed{}: it took too long to decide"),
        ("large", "timeout", 1, r"extracted large from \boxed{}: it took too much memory to decide"),
        ("gold", "bad_gold", 1, "the tests cannot be used"),
        ("flaky", "correct", 2, r"extracted flaky from \boxed{}"),
        ("missing", "error", 1, "install bubblewrap"),
        ("dead", "error", 2, "the made verifier failed: WorkerFailed: a worker died of signal 9"),
        ("bug", "error", 2, "the made verifier failed: ZeroDivisionError: of ours\ufffd[31m"),
    ],
)
def test_what_becomes_of_a_graders_troubles(grader, answer, status, asked, reason):
    verdict = verify(*made(answer))
    assert (verdict.status, verdict.score, verdict.reason) == (status, float(status == "correct"), reason)
    assert grader.asked == asked


def test_reasons_reach_a_terminal_as_one_line_of_visible_characters():
    hostile = "\x1b]0;owned\x07\x9b31m\u202e\ud800 7\n\u2028x"
    for text in (hostile, f"\\boxed{{{hostile}}}", f"The answer is {hostile}"):
        verdict = verify(PROBLEM, replace(RIGHT, answer=text))
        assert verdict.reason.isprintable()
        assert (verdict.extracted or "").isprintable()
    assert check_gold(replace(PROBLEM, answer=hostile)).isprintable()
    failed = verify(PROBLEM, replace(RIGHT, finish="error", error=hostile))
    assert failed.status == "error"
    assert failed.reason.isprintable()


def test_many_verdicts_keep_their_order_and_the_slow_ones_go_side_by_side(grader):
    pairs = [made("wait"), (PROBLEM, RIGHT), made("other"), *[made("wait")] * 4, (PROBLEM, replace(RIGHT, answer="1"))]
    told: list[Verdict] = []
    started = time.monotonic()
    verdicts = verify_all(iter(pairs), threads=5, on_verdict=told.append)
    assert time.monotonic() - started < 0.8  # one after the other it would be a second
    assert [v.status for v in verdicts] == ["correct", "correct", "wrong", *["correct"] * 4, "wrong"]
    assert told == verdicts
    assert verdicts == [verify(*pair) for pair in pairs]
    assert verify_all([]) == []


def test_quick_kinds_stay_in_the_calling_thread(grader, monkeypatch):
    monkeypatch.setitem(VERIFIERS, "made", Verifier(grader, "as it says"))
    verify_all([made("right")] * 3)
    assert grader.threads == {threading.current_thread().name}


def test_what_cannot_be_verified_here_is_told_before_anything_is(grader, monkeypatch):
    def ready():
        raise UserError("install bubblewrap")

    monkeypatch.setitem(VERIFIERS, "caged", Verifier(grader, "", ready=ready))
    caged = Problem("p", "?", "1", "caged")
    for call in (
        lambda: require("caged"),
        lambda: verify_all([made("right"), (caged, RIGHT)]),
        lambda: check_all([caged]),
    ):
        with pytest.raises(UserError, match="install bubblewrap"):
            call()
    with pytest.raises(UserError, match="did you mean 'number'"):
        verify_all([made("right"), (replace(PROBLEM, kind="nmber"), RIGHT)])
    with pytest.raises(UserError, match="judging model"):
        require("judge")
    assert grader.asked == 0


def test_a_thorough_check_runs_the_reference_solution(grader):
    problem = Problem("p", "?", "other", "made")
    assert check_gold(problem) is None
    assert check_gold(problem, thorough=True) == "gold answer other is not equal to itself: not right"
    faults = check_all([problem, replace(problem, answer="right"), PROBLEM, replace(PROBLEM, kind="judge")])
    assert faults == ["gold answer other is not equal to itself: not right", None, None, None]
    assert check_gold(replace(problem, answer="dead"), thorough=True).startswith("the made verifier failed on it")


@pytest.mark.parametrize(
    ("gold", "answer", "case", "status"),
    [
        ("New York", "new   york", False, "correct"),
        ("New York", "new york", True, "wrong"),
        ("New York", "**New York**.", True, "correct"),
        ("a cat sat on a mat and slept for hours", "A cat sat on a mat and slept for hours.", False, "correct"),
        ("a cat sat on a mat and slept for hours", "a dog sat on a mat and slept for hours", False, "wrong"),
        ("a cat sat on a mat", "I think that a cat sat on a mat and that it slept there all day", False, "no_answer"),
        ("1 2\n3 4", "1 2\n3 4", False, "correct"),
        ("1 2\n3 4", "1 2\n3 4\n5 6", False, "no_answer"),
    ],
)
def test_exact_texts_of_any_length(gold, answer, case, status):
    problem = Problem("p", "?", gold, "exact", {"case": case})
    assert verify(problem, Trace("", answer, "none")).status == status
