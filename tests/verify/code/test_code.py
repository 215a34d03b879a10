"""Programs against their tests, in the real sandbox."""

import threading
from textwrap import dedent

import pytest
from forgeries import FORGERIES

from thinksmith.errors import UserError
from thinksmith.records import Problem, Trace
from thinksmith.sandbox import open_sandbox
from thinksmith.verify import check_gold, verify
from thinksmith.verify.code import check_tests, judge
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.workers import Exceeded


@pytest.fixture(scope="module", autouse=True)
def _sandbox():
    try:
        open_sandbox()
    except UserError as error:
        pytest.skip(str(error))


CHECK = """
def check(candidate):
    assert candidate(2, 3) == 5
    assert candidate([1], [2]) == [1, 2], "lists"
    for n in range(20):
        assert candidate(n, n) == 2 * n
"""
HEADER = 'import math\n\n\ndef half(x):\n    return x / 2\n\n\ndef add(a, b):\n    """Add."""\n'


def problem(**meta):
    return Problem("p", "Write add.", None, "code", meta)


ADD = problem(entry="add", tests=CHECK)
RIGHT = "def add(a, b):\n    return a + b\n"


def test_right_and_wrong():
    assert judge(ADD, RIGHT) is None
    reason = judge(ADD, "def add(a, b):\n    return a - b\n")
    assert reason == "assert candidate(2, 3) == 5 fails"
    assert judge(ADD, "def add(a, b):\n    return a + b if a != [1] else [3]\n").endswith("fails (lists)")


def test_the_verdict_says_what_was_taken_and_which_test_fails():
    verdict = verify(ADD, Trace("", "Here it is:\n```python\ndef add(a, b):\n    return a * b\n```"))
    assert verdict.status == "wrong"
    assert "assert candidate(2, 3) == 5 fails" in verdict.reason
    assert verify(ADD, Trace("", f"```python\n{RIGHT}```")).correct
    assert verify(ADD, Trace("", "I do not know.")).status == "no_answer"
    assert verify(ADD, Trace("", f"```python\n{RIGHT}```", finish="length")).status == "truncated"


def test_an_answer_may_continue_the_header_or_repeat_the_function():
    asked = problem(entry="add", tests=CHECK, prompt=HEADER)
    assert judge(asked, "    return a + b\n") is None
    assert judge(asked, "def add(a, b):\n    assert half(2) == math.sqrt(1)\n    return a + b\n") is None


def test_helpers_of_the_header_are_there_for_the_tests():
    tests = "def check(candidate):\n    assert candidate(1, 2) == half(6)\n"
    assert judge(problem(entry="add", tests=tests, prompt=HEADER), RIGHT) is None
    # what the program says a helper is does not count
    forged = RIGHT.replace("a + b", "99") + "def half(x):\n    return 99\n"
    assert judge(problem(entry="add", tests=tests, prompt=HEADER), forged) is not None


def test_asserts_by_themselves_with_classes_and_modules_of_the_solution():
    asked = problem(
        test_list=["assert total([Pair(1, 2), Pair(3, 4)]) == 10", "assert math.isclose(total([Pair(0.5, 1)]), 1.5)"]
    )
    program = (
        "class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n"
        "def total(pairs):\n    return sum(p.a + p.b for p in pairs)\n"
    )
    assert judge(asked, program) is None
    # isclose is the module's, whatever the program calls so
    lying = "class math:\n    isclose = lambda *a: True\n"
    assert judge(asked, lying + program.replace("p.a + p.b", "p.a + p.b + 1 if p.a == 0.5 else p.a + p.b")) is not None


def test_functions_may_be_passed_generators_returned_and_exceptions_expected():
    tests = [
        "assert twice(lambda x: x * 10, 3) == 300",
        "assert list(count(3)) == [0, 1, 2]",
        "try:\n    fail()\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False",
    ]
    program = dedent("""
        def twice(f, x):
            return f(f(x))
        def count(n):
            yield from range(n)
        def fail():
            raise ValueError('no')
        """)
    assert judge(problem(tests=tests), program) is None
    assert judge(problem(tests=tests), program.replace("ValueError", "KeyError")) is not None


@pytest.mark.parametrize(
    "value",
    ["None", "True", "2**100", "-2**70", "1.5", "float('inf')", "'é\\ud800\\n'", "b'\\x00\\xff'", "(1, [2, (3,)])",
     "{1, 2}", "frozenset({(1, 2)})", "{1: 'a', (2, 3): [4], None: {}}", "1 + 2j", "{'i': '0x1'}", "[]", "{'r': 0}"],
)  # fmt: skip
def test_values_come_back_as_they_are(value):
    tests = f"expected = {value}\nassert f() == expected and type(f()) is type(expected)\nassert g(expected) is True"
    assert judge(problem(tests=tests), f"def f():\n    return {value}\ndef g(x):\n    return x == {value}\n") is None


def test_more_plain_values():
    tests = """
from fractions import Fraction
from decimal import Decimal
assert f() == [Fraction(1, 2), Decimal('1.50')]
assert g() != g()
"""
    program = """
from fractions import Fraction
from decimal import Decimal
def f():
    return [Fraction(1, 2), Decimal('1.50')]
def g():
    return float('nan')
"""
    assert judge(problem(tests=tests), program) is None


def test_calls_with_arguments():
    cases = [
        {"args": [[2, 7, 11], 9], "expected": [0, 1]},
        {"args": [[3, 3]], "kwargs": {"target": 6}, "expected": [0, 1]},
    ]
    asked = problem(entry="Solution.two", cases=cases, prelude="from typing import *")
    program = dedent("""
        class Solution:
            def two(self, nums: List[int], target: int):
                seen = {}
                for i, n in enumerate(nums):
                    if target - n in seen:
                        return (seen[target - n], i)
                    seen[n] = i
        """)
    assert judge(asked, program) is None
    assert judge(asked, program.replace(", i)", ", i + 1)")) == "case 1: [[2, 7, 11], 9] gives (0, 2), expected [0, 1]"
    floats = problem(entry="f", cases=[{"args": [], "expected": 0.1}])
    assert judge(floats, "def f():\n    return 0.10000000001\n") is None
    assert judge(floats, "def f():\n    return 0.1001\n") is not None
    true = problem(entry="f", cases=[{"args": [], "expected": True}])
    assert judge(true, "def f():\n    return True\n") is None
    assert judge(true, "def f():\n    return 1\n") is not None


def test_programs_that_read_and_write():
    asked = problem(cases=[{"input": "2\n1 2\n", "output": "3\n"}, {"input": "3\n1 2 3\n", "output": "6"}])
    assert judge(asked, "n = int(input())\nprint(sum(map(int, input().split())))") is None
    assert judge(asked, "import sys\nprint(3)").startswith("case 2: line 1 of the output is '3', expected '6'")
    assert judge(asked, "print(1 / 0)") == "case 1: ZeroDivisionError: division by zero"
    assert judge(asked, "if __name__ == '__main__':\n    input(); print(sum(map(int, input().split())))") is None
    assert judge(asked, "import sys\nprint(6 if '6' in open('expected').read() else 3)").startswith(
        "case 1: FileNotFound"
    )


def test_numbers_of_an_output_may_be_near_only_if_that_is_said():
    cases = [{"input": "1 3\n", "output": "0.333333\n"}]
    third = "a, b = map(int, input().split())\nprint(a / b)"
    assert judge(problem(cases=cases, tolerance=1e-5), third) is None
    assert judge(problem(cases=cases), third) is not None


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_does_not_pass(name):
    assert judge(ADD, FORGERIES[name]) is not None


@pytest.mark.parametrize("name", [name for name in FORGERIES if "exit" in name or "closes" in name])
def test_a_dead_program_is_not_taken_for_the_exception_that_a_test_expects(name):
    tests = "try:\n    add(1, 2)\nexcept Exception:\n    pass\n"
    reason = judge(problem(tests=tests), FORGERIES[name])
    assert (reason is None) is (name == "sys.exit when called")  # that one is an exception like any other


LIAR = "class A:\n    def __{name}__(self, *x):\n        {does}\ndef f(x):\n    return A()\n"


@pytest.mark.parametrize(
    ("tests", "program"),
    [
        ("assert f(1) == 2, f(1)", LIAR.format(name="str", does="raise ValueError")),
        ("d = {1: 2}\nassert d[f(3)] == 2", LIAR.format(name="repr", does="raise ValueError")),
        ("r = f(3)\nif r != 4: raise Exception(r)", "import os\n" + LIAR.format(name="str", does="os._exit(0)")),
        ("r = f(3)\nif r != 4: raise Exception(r)", LIAR.format(name="str", does="raise SystemExit")),
    ],
)
def test_an_object_that_fails_when_it_is_shown_is_wrong_and_no_way_out(tests, program):
    trace = Trace("", f"```python\n{program}```", "none")
    assert verify(problem(tests=tests), trace).status == "wrong"


@pytest.mark.parametrize(
    ("tests", "program"),
    [
        ("r = f(3)\nassert 41 in r", LIAR.format(name="contains", does="return True")),
        ("assert f(3).startswith('abc')", "class A:\n    startswith = lambda s, x: True\ndef f(x): return A()"),
        ("assert f(3).issubset({1})", "class A:\n    issubset = lambda s, x: True\ndef f(x): return A()"),
        (
            "assert 'abc' in f(1)\nassert f(2) == 'abc'",
            "class A:\n    def __contains__(s, x):\n        global seen\n        seen = x\n        return True\n"
            "def f(x): return A() if x == 1 else seen",
        ),
    ],
)
def test_what_is_asked_of_data_is_not_asked_of_an_object(tests, program):
    assert judge(problem(tests=tests), program) is not None


def test_an_instance_that_the_tests_make_has_all_its_methods():
    tests = "u = Union(3)\nu.join(0, 1)\nassert u.find(0) == u.find(1) != u.find(2)\nassert len(u) == 3 and 2 in u"
    program = dedent("""
        class Union:
            def __init__(self, n): self.up = list(range(n))
            def find(self, x): return x if self.up[x] == x else self.find(self.up[x])
            def join(self, a, b): self.up[self.find(a)] = self.find(b)
            def __len__(self): return len(self.up)
            def __iter__(self): return iter(range(len(self.up)))
        """)
    assert judge(problem(tests=tests), program) is None


@pytest.mark.parametrize(
    "meta",
    [
        {"tests": "def check(candidate):\n    assert candidate(1) == 2"},  # nobody calls it
        {"entry": "f", "tests": "def check_it(candidate):\n    assert candidate(1) == 2"},
        {"tests": "assert 1 + 1 == 2"},
        {"entry": "f", "tests": "def check(candidate):\n    candidate('x' * 2 ** 25)"},  # more than can be told
    ],
)
def test_tests_that_do_not_test_the_program_are_bad_gold(meta):
    with pytest.raises(BadGold):
        judge(problem(**meta), "def f(x):\n    return x\n")


def test_a_solution_may_have_the_name_of_a_builtin_or_of_a_module():
    reference = Problem("p", "?", "def sum(a, b):\n    return a - b\n", "code", {"tests": "assert sum(10, 15) == -5"})
    assert judge(reference, reference.answer) is None
    assert judge(reference, "def sum(a, b):\n    return a + b\n") is not None
    named = problem(entry="bisect", tests="def check(candidate):\n    assert candidate(4) == 2\nassert bisect(6) == 3")
    assert judge(named, "def bisect(x):\n    return x // 2\n") is None
    # what the tests mean by a built-in is not the program's to say
    assert judge(problem(tests="assert sum(f(1)) == 3"), "def sum(x): return 3\ndef f(x): return [7]\n") is not None


def test_a_stub_that_is_shown_does_not_stand_for_the_solution():
    asked = problem(tests="assert add(1, 2) == 3", prompt="def add(a, b):\n    return 3\n")
    assert judge(asked, RIGHT) is None
    assert judge(asked, "def add(a, b):\n    return 4\n") is not None


def test_large_values_and_many_calls():
    tests = "assert len(f(10**6)) == 10**6\nassert g(list(range(10**6))) == 10**6\n"  # eight megabytes each
    tests += "assert all(list(h(n)) == [n] for n in range(2000))"
    program = "def f(n): return list(range(n))\ndef g(x): return len(x)\ndef h(n): yield n\n"
    assert judge(problem(tests=tests, seconds=60), program) is None


def test_seconds_are_for_each_case():
    cases = [{"args": [], "expected": 1}] * 5
    slow = "import time\ndef f():\n    time.sleep({})\n    return 1\n"
    assert judge(problem(entry="f", cases=cases, seconds=1), slow.format(0.3)) is None
    with pytest.raises(Exceeded):
        judge(problem(entry="f", cases=cases, seconds=0.5), slow.format(30))


def test_time_and_memory_are_bounded():
    slow = problem(entry="add", tests=CHECK, seconds=1)
    with pytest.raises(Exceeded):
        judge(slow, "def add(a, b):\n    while True: pass")
    with pytest.raises(Exceeded):
        judge(slow, "while True: pass")
    with pytest.raises(Exceeded):
        judge(problem(cases=[{"input": "", "output": "1"}], seconds=1), "import time\ntime.sleep(60)")
    assert verify(slow, Trace("", "```python\ndef add(a, b):\n    while True: pass\n```")).status == "timeout"
    hungry = problem(entry="add", tests=CHECK, memory_mb=128)
    assert "MemoryError" in judge(hungry, "def add(a, b):\n    return len([0] * 10**9)")


def test_a_flood_of_output_ends():
    asked = problem(cases=[{"input": "", "output": "1"}], seconds=5)
    assert "too much" in judge(asked, "while True: print('x' * 10**6)")
    assert judge(ADD, "print('x' * 10**7)\n" + RIGHT) is None  # what a function prints is nobody's business


def test_nothing_is_left_running_and_threads_may_judge_at_once():
    found = []
    threads = [threading.Thread(target=lambda: found.append(judge(ADD, RIGHT))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [None] * 6


@pytest.mark.parametrize(
    ("meta", "why"),
    [
        ({}, "either"),
        ({"tests": "assert 1", "cases": [{"input": "", "output": ""}]}, "either"),
        ({"cases": [{"args": [1]}]}, "a case has"),
        ({"cases": [{"args": [1], "expected": 1}]}, "entry"),
        ({"cases": [{"input": "", "output": ""}, {"args": [], "expected": 1}], "entry": "f"}, "one sort"),
        ({"tests": 3}, "not text"),
        ({"tests": ["a", 3]}, "not text"),
        ({"tests": "assert 1", "entry": "f()"}, "no name"),
        ({"tests": "assert 1", "seconds": 0}, "seconds"),
        ({"tests": "assert 1", "seconds": True}, "seconds"),
        ({"tests": "assert 1", "memory_mb": 1}, "memory_mb"),
        ({"cases": "abc"}, "list"),
    ],
)
def test_tests_that_cannot_be_used_are_bad_gold(meta, why):
    assert why in check_tests(problem(**meta))
    assert why in check_gold(problem(**meta))
    assert verify(problem(**meta), Trace("", f"```python\n{RIGHT}```")).status == "bad_gold"


def test_tests_that_do_not_run_are_bad_gold_not_a_wrong_answer():
    with pytest.raises(BadGold):
        judge(problem(entry="add", tests="def check(candidate:\n"), RIGHT)
    with pytest.raises(BadGold):
        judge(problem(entry="add", tests=CHECK, setup="import no_such_module"), RIGHT)


def test_an_empty_program_is_unreadable():
    with pytest.raises(Unreadable):
        judge(ADD, " \n")
