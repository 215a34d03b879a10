r"""Kind `regex`: the pattern of the problem matches the whole answer.

The pattern is the gold answer, or `meta["pattern"]`, in the syntax of Python's `re`, flags inside (`(?i)yes|no`). It
has to match all of the final answer; one that may match anywhere says so itself (`(?s).*word.*`). The final answer is
found as for other kinds, and where nothing is marked as one it is the whole text, as it always is with
`meta["whole"]`: true.

Patterns are the data set's and answers are anybody's, so a pattern such as `(a+)+b` meets the answer that makes it run
for ever. Patterns are therefore read and matched in a worker, which ends at the deadline.
"""

from __future__ import annotations

import re
from functools import lru_cache

from thinksmith.records import Problem
from thinksmith.verify import workers
from thinksmith.verify.extract import Extracted, extract
from thinksmith.verify.judgement import BadGold

MAX_TEXT = 100_000
"""Characters of an answer; more is wrong."""
MAX_PATTERN = 10_000


def taken(problem: Problem, text: str) -> Extracted | None:
    """The final answer in `text`, or all of it."""
    found = None if problem.meta.get("whole") is True else extract(text)
    return found or (Extracted(text.strip(), "whole") if text.strip() else None)


def check(problem: Problem) -> str | None:
    """Why the pattern cannot be used, or None. Raises what a worker raises."""
    pattern = problem.meta.get("pattern", problem.answer)
    if not isinstance(pattern, str):
        return "there is no pattern, neither as the gold answer nor as text in meta"
    return _fault(pattern)


def judge(problem: Problem, answer: str) -> str | None:
    """None if the pattern matches all of `answer`, else that it does not. Raises BadGold and what a worker raises."""
    if fault := check(problem):
        raise BadGold(fault)
    if len(answer) > MAX_TEXT:
        return "too long for a final answer"
    pattern = str(problem.meta.get("pattern", problem.answer))
    if workers.call("thinksmith.verify.regex:matches", pattern, answer.strip()):
        return None
    return f"the pattern {pattern!r} does not match it"


def matches(pattern: str, text: str) -> bool:
    """A worker's task: whether `pattern` matches all of `text`."""
    return re.fullmatch(pattern, text) is not None


@lru_cache(256)
def _fault(pattern: str) -> str | None:
    if not pattern or len(pattern) > MAX_PATTERN:
        return f"the pattern is longer than {MAX_PATTERN:,} characters" if pattern else "the pattern is empty"
    found = workers.call("thinksmith.verify.regex:fault", pattern)
    return None if found is None else str(found)


def fault(pattern: str) -> str | None:
    """A worker's task: why `pattern` cannot be read, or None."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        return f"the pattern {pattern[:100]!r} cannot be read: {error}"
    return None
