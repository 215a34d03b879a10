"""Rewards for the answer: what the verifier says of it, whole or test by test."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thinksmith.records import Attempt, Problem
from thinksmith.verify import verify_all

_TESTS = ("tests", "test", "test_list")


def correctness(attempt: Attempt) -> float | None:
    """The verdict's score, 0..1. An error of ours (a grader or an engine that failed) is left out, never a 0.

    A `timeout` is the answer's own doing and scores 0, as the wrong answer that it replaces would: were it left out, to
    write what cannot be decided would be a way out of every bad reward.
    To be gamed only through the verifier: an answer that it takes for right by mistake, or one that is guessed.
    """
    if attempt.verdict.status in ("error", "bad_gold"):
        return None
    return attempt.verdict.score


def code_tests(attempts: Sequence[Attempt], *, most: int = 10) -> list[float | None]:
    """The share (0..1) of the problem's tests that a program passes, each run alone in the sandbox.

    The verifier stops at the first test that fails, so only a program that it found wrong is run again, on at most
    `most` tests spread evenly over all (0: on none, and the reward is `correctness`). One that fails somewhere never
    has 1: its share is at most 1 - 1/tests. A program that ran out of time, was cut off or is none has 0, and so
    has a wrong one whose tests cannot be told apart (`check(candidate)` in the words of HumanEval); problems of another
    kind have the verdict's score. Costs a sandbox for each test, up to 4 at a time; see `verify.batch`.

    Gamed by programs that do the tests and not the task: `return False` passes half of many tests, a table of the
    examples in the prompt passes those. Beside `correctness`, with a smaller weight, it is a ladder and no shelf.
    """
    if most < 0:
        raise ValueError("most must be 0 or more")
    tests = {i: single_tests(each.problem, most) for i, each in enumerate(attempts) if each.verdict.status == "wrong"}
    pairs = [(problem, attempts[i].trace) for i, problems in tests.items() for problem in problems]
    verdicts = iter(verify_all(pairs))
    rewards = [correctness(attempt) for attempt in attempts]
    for i, problems in tests.items():
        found = [next(verdicts) for _ in problems]
        usable = [verdict for verdict in found if verdict.status != "bad_gold"]
        if any(verdict.status == "error" for verdict in usable):
            rewards[i] = None
        elif usable:
            share = sum(verdict.correct for verdict in usable) / len(usable)
            rewards[i] = min(share, 1.0 - 1.0 / len(_tests(attempts[i].problem.meta)[1]))
    return rewards


def single_tests(problem: Problem, most: int) -> list[Problem]:
    """The problem with one of its tests at a time, `most` of them spread evenly; none if they cannot be told apart."""
    key, tests = _tests(problem.meta)
    if problem.kind != "code" or len(tests) < 2:
        return []
    count = min(most, len(tests))
    chosen = [tests[i * len(tests) // count] for i in range(count)]
    return [replace(problem, meta={**problem.meta, key: [test]}) for test in chosen]


def _tests(meta: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """The key in `meta` and the tests that stand each for itself: cases, or a list of assertions."""
    cases = meta.get("cases")
    if isinstance(cases, list | tuple) and cases:
        return "cases", cases
    key = next((key for key in _TESTS if meta.get(key)), "")
    lines = meta.get(key)
    if isinstance(lines, list | tuple) and all(map(_is_assertion, lines)):
        return key, lines
    return "", ()


def _is_assertion(line: Any) -> bool:
    """Whether a line of the data set (never the model's text) is one whole assertion."""
    try:
        body = ast.parse(line).body
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    return len(body) == 1 and isinstance(body[0], ast.Assert)
