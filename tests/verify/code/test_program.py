"""What is taken as the program, and how outputs are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.verify.code.outputs import same_output
from thinksmith.verify.code.program import MAX_PROGRAM, defines, extract_program


def taken(text, entry="f"):
    found = extract_program(text, entry)
    return found.text if found else None


def test_the_last_block_that_defines_what_is_called():
    text = (
        "First:\n```python\ndef f(): return 1\n```\nBetter:\n```python\ndef f(): return 2\n```\n"
        "Test:\n```python\nprint(f())\n```"
    )
    assert taken(text) == "def f(): return 2\n"
    assert taken(text, "") == "print(f())\n"


def test_blocks_in_other_languages_are_not_preferred():
    assert taken("```python\nx = 1\n```\n```bash\npip install x\n```", "") == "x = 1\n"
    assert taken("```bash\nls\n```", "") == "ls\n"


def test_a_block_that_is_never_closed_goes_to_the_end():
    assert taken("```python\ndef f():\n    return 3") == "def f():\n    return 3"


def test_fences_of_other_lengths_and_a_fence_inside():
    text = "````python\ndef f():\n    '''\n```\n    '''\n````\n"
    assert taken(text) == "def f():\n    '''\n```\n    '''\n"
    assert taken("~~~\ndef f(): pass\n~~~") == "def f(): pass\n"


def test_a_block_inside_a_list_loses_its_indentation():
    assert taken("1. So:\n   ```python\n   def f():\n       return 1\n   ```") == "def f():\n    return 1\n"


@pytest.mark.parametrize("text", ["", "   \n", "I cannot do that.", "The answer is 42.", "```python\n\n```"])
def test_no_program(text):
    assert taken(text) is None


def test_code_without_a_fence():
    assert taken("def f(x):\n    return x") == "def f(x):\n    return x"
    assert taken("    return x\n") == "    return x"  # the body alone
    assert taken("import sys\nprint(1)", "") == "import sys\nprint(1)"


def test_too_long_is_no_program():
    assert taken("def f(): pass\n" + "#" * MAX_PROGRAM) is None
    assert taken("```\n" * MAX_PROGRAM * 2) is None


@pytest.mark.parametrize(
    ("code", "entry", "yes"),
    [
        ("def f(x): pass", "f", True),
        ("async def f(x): pass", "f", True),
        ("f = lambda x: x", "f", True),
        ("f: int = 3", "f", True),
        ("class Solution:\n  def go(self): pass", "Solution.go", True),
        ("def ff(x): pass", "f", False),
        ("  def f(x): pass", "f", False),
        ("f == 3", "f", True),  # a comparison looks like an assignment; the sandbox will tell
        ("print(f)", "f", False),
    ],
)
def test_defines(code, entry, yes):
    assert defines(code, entry) is yes


@given(st.text(max_size=200), st.sampled_from(["", "f"]))
def test_extraction_never_raises(text, entry):
    extract_program(text, entry)
    extract_program(f"```{text}\n{text}```", entry)


@pytest.mark.parametrize(
    ("expected", "wrote"),
    [("1\n2\n", "1\n2"), ("1 2", "1  2 \n\n"), ("1.0", "1"), ("0.50", "0.5"), ("", "\n"), ("-0", "0"), ("1e3", "1000")],
)
def test_same_output(expected, wrote):
    assert same_output(expected, wrote.encode()) is None


@pytest.mark.parametrize(
    ("expected", "wrote"),
    [
        ("1\n2", "1 2"), ("1", ""), ("1", "1\n1"), ("yes", "YES"), ("10", "1_0"), ("3", "٣"), ("1", "nan"),
        ("nan", "NaN"), ("0.3333333", "0.3333334"), ("a b", "ab"), ("1", "1" + "0" * 50), ("1", "sNaN"),
        ("1", "1e999999999"),
    ],
)  # fmt: skip
def test_other_output(expected, wrote):
    assert same_output(expected, wrote.encode()) is not None


def test_a_tolerance_is_absolute_or_relative():
    assert same_output("0.3333333", b"0.3333334", 1e-6) is None
    assert same_output("1000000", b"1000000.5", 1e-6) is None
    assert same_output("1000000", b"1000002", 1e-6) is not None


def test_output_that_is_no_text():
    assert "expected '1'" in same_output("1", b"\xff\xfe\x00")
