"""`code_tests` in the real sandbox: the share of the tests that a wrong program passes."""

from __future__ import annotations

from typing import Any

import pytest

from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.sandbox import open_sandbox
from thinksmith.training.rl.rewards import code_tests, correctness, scorer
from thinksmith.training.rl.rewards.answers import single_tests
from thinksmith.verify import verify

CASES = [{"args": [n], "expected": n % 4 == 0} for n in range(8)]  # two of eight are true
CALLED = {"entry": "even", "cases": CASES}
READ = {"cases": [{"input": f"{n}\n", "output": f"{n * n}\n"} for n in range(4)]}
ASSERTED = {"test_list": ["assert add(1, 1) == 2", "assert add(2, 2) == 4", "assert add(3, 0) == 3"]}


@pytest.fixture(scope="module")
def _sandbox() -> None:
    try:
        open_sandbox()
    except UserError as error:
        pytest.skip(str(error))


def tried(meta: dict[str, Any], program: str) -> Attempt:
    problem, trace = Problem("p/1", "Write it.", None, "code", meta), Trace("", f"```python\n{program}\n```")
    return Attempt(problem, trace, verify(problem, trace))


@pytest.mark.usefixtures("_sandbox")
def test_the_share_of_the_tests() -> None:
    attempts = [
        tried(CALLED, "def even(n): return n % 4 == 0"),
        tried(CALLED, "def even(n): return False"),
        tried(CALLED, "def even(n): return n % 2 == 0"),
        tried(CALLED, "def odd(n): return True"),
        tried(READ, "print(0)"),
        tried(ASSERTED, "def add(a, b): return a * 2"),
    ]
    assert [attempt.verdict.correct for attempt in attempts] == [True] + [False] * 5
    assert code_tests(attempts) == [1.0, 6 / 8, 6 / 8, 0.0, 1 / 4, 2 / 3]
    assert code_tests(attempts, most=0) == [correctness(attempt) for attempt in attempts]
    totals, _ = scorer({"code_tests": {"weight": 2.0, "most": 4}})(attempts[:2])
    assert totals == (2.0, 1.0)  # of the cases 0, 2, 4 and 6 the second program passes two


@pytest.mark.usefixtures("_sandbox")
def test_one_that_fails_somewhere_never_has_all() -> None:
    """The only case that it fails is not among those that are run again."""
    attempt = tried(CALLED, "def even(n): return n % 4 == 0 or n == 7")
    assert code_tests([attempt], most=2) == [1 - 1 / 8]


@pytest.mark.parametrize("status", ["no_answer", "truncated", "timeout", "error", "bad_gold"])
def test_what_never_ran_is_not_run_again(status: Any) -> None:
    problem, trace = Problem("p/1", "?", None, "code", CALLED), Trace("", "```python\ndef even(n): return False\n```")
    expected = None if status in ("error", "bad_gold") else 0.0
    assert code_tests([Attempt(problem, trace, Verdict(status))]) == [expected]


@pytest.mark.parametrize(
    "meta",
    [
        {"entry": "add", "tests": "def check(candidate):\n    assert candidate(1, 1) == 2"},
        {"entry": "add", "tests": ["def check(candidate):", "    assert candidate(1, 1) == 2"]},
        {"test_list": ["x = add(1, 1)", "assert x == 2"]},
        {"test_list": ["assert add(1, 1) == 2"]},
        {"test_list": ["assert add(1", ", 1) == 2"]},
        {"cases": 3},
        {},
    ],
)
def test_tests_that_do_not_stand_alone_are_not_torn_apart(meta: dict[str, Any]) -> None:
    assert single_tests(Problem("p/1", "?", None, "code", meta), 10) == []


def test_single_tests_are_spread_over_all() -> None:
    problem = Problem("p/1", "?", None, "code", {"seconds": 3, **CALLED})
    for most, chosen in ((0, []), (1, [0]), (2, [0, 4]), (3, [0, 2, 5]), (8, range(8)), (99, range(8))):
        assert [each.meta for each in single_tests(problem, most)] == [
            {"seconds": 3, "entry": "even", "cases": [CASES[i]]} for i in chosen
        ]
    assert single_tests(Problem("p/1", "?", "1", "number", CALLED), 8) == []
    with pytest.raises(ValueError, match="most"):
        code_tests([], most=-1)
