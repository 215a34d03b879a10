"""What is taken as the final answer, and that extraction is linear on hostile texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.verify.extract import extract


@pytest.mark.parametrize(
    ("text", "taken", "rule"),
    [
        (r"So \boxed{42}.", "42", "boxed"),
        (r"\boxed{\frac{1}{2}} and so on", r"\frac{1}{2}", "boxed"),
        (r"\boxed{1}. Wait, \boxed{2}.", "2", "boxed"),
        (r"\boxed{3} or \boxed{4}", "3, 4", "boxed"),
        (r"$\boxed{1}$, $\boxed{-2}$ and \(\boxed{5}\)", "1, -2, 5", "boxed"),
        (r"\boxed{7} and again \boxed{7}", "7", "boxed"),
        (r"What goes in \boxed{}? The answer is \boxed{4}; the empty one was \boxed{ }.", "4", "boxed"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        (r"\boxed{\left\{x\right.}", r"\left\{x\right.", "boxed"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}", "boxed"),
        (r"\fbox{A}", "A", "boxed"),
        (r"\boxed 5", "5", "boxed"),
        (r"\boxed5", "5", "boxed"),
        (r"$x=\boxed2$", "2", "boxed"),
        (r"\boxed{4} or \boxed5", "4, 5", "boxed"),
        (r"a } stray brace and { another, \boxed{9}", "9", "boxed"),
        (r"The answer is 3, no: \boxed{4}", "4", "boxed"),
        ("He has 3 left.\n#### 1,080", "1,080", "####"),
        ("#### Step 1\nwe add\nThe answer is 8.", "8", "phrase"),
        ("The answer is 42.", "42", "phrase"),
        ("The answer is 3.5.", "3.5", "phrase"),
        ("So the final answer is: $42$ because of this", "42", "phrase"),
        ("**Answer:** 42 apples\n\nGood luck!", "42 apples", "phrase"),
        ("Answer:\n\n7", "7", "phrase"),
        ("The answer is **42**.", "42", "phrase"),
        ("**Answer: 42**", "42", "phrase"),
        ("The answer is C) **Paris**.", "C) **Paris**", "phrase"),
        ("The answer is **$\\frac{1}{2}$**, as we saw", "\\frac{1}{2}", "phrase"),
        ("The answer is 1. No, the answer is 2.", "2", "phrase"),
        ("The answer is (3 + 5) * 9.", "(3 + 5) * 9", "phrase"),
        ("The final answer is:\n$$\n5\n$$", "5", "phrase"),
        ("The final answer is:\n\n\\[\n\\frac{1}{2}\n\\]\nThat is all.", "\\frac{1}{2}", "phrase"),
        ("The final answer is: \\[ x = 3. \\]", "x = 3", "phrase"),
        ("The answer is \\( \n5 \\), which is odd.", "5", "phrase"),
        ("**Answer:**\n```\n5\n```", "5", "phrase"),
        ("**Answer:**\n\n```text\n1 2\n3 4\n```\nGood luck!", "1 2\n3 4", "phrase"),
        ("Answer: ```5```", "5", "phrase"),
        ("**Answer: $$5$$**", "5", "phrase"),
        ("The answer is:\n$$\n5", "5", "phrase"),
        ("The answer is $$\n5\n$$ or $$\n6\n$$", "$$\n5\n$$ or $$", "phrase"),
        ("The answer is\n\\[4\\]\nor\n\\[5\\]", "\\[4\\]\nor", "phrase"),
        ("The answer is 4\nor 5.", "4\nor 5", "phrase"),
        ("Answer: `$`x", "`$`x", "phrase"),
        ("The answer is therefore $5$", "5", "phrase"),
        ("The answer is, therefore, 5.", "5", "phrase"),
        ("The answer is thus: 5.", "5", "phrase"),
        ("The answer is equal to 5.", "5", "phrase"),
        ("The answer is therefore.", "therefore", "phrase"),
        ("The answer is 5 (five).", "5", "phrase"),
        ("The answer is 21 (twenty-one).", "21", "phrase"),
        ("The answer is 40 (Forty).", "40", "phrase"),
        ("The answer is 5 (six).", "5 (six)", "phrase"),
        ("The answer is 5 (or six).", "5 (or six)", "phrase"),
        ("<answer>5</answer>", "5", "tag"),
        ("<answer> 5 </answer> I hope that this helps; the answer is hidden.", "5", "tag"),
        ("<answer>4</answer> No:\n<answer>\n5\n</answer>", "5", "tag"),
        ("<answer>5</answer> and <answer>", "5", "tag"),
        ("<answer>5</answer> <ANSWER> </ANSWER> </answer>", "5", "tag"),
        ("<answer>6 <answer>5</answer></answer>", "5", "tag"),
        ("<answer>4</answer> or <answer>5</answer>", "4, 5", "tag"),
        ("<answer>We add them. The answer is 5.</answer>", "5", "tag"),
        (r"<answer>It is \boxed{5}</answer>", "5", "boxed"),
        (r"\boxed{4} <answer>5</answer>", "4", "boxed"),
        ("<answer>7</answer>\n#### 5", "5", "####"),
        ("918", "918", "bare"),
        ("x = 7.", "x = 7", "bare"),
        (" **73 remainder 6** ", "73 remainder 6", "bare"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}", "bare"),
    ],
)
def test_rules(text, taken, rule):
    extracted = extract(text)
    assert extracted is not None
    assert (extracted.text, extracted.rule) == (taken, rule)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "I think that it must be about 42 or so",
        "3 apples and 4 pears make 7 fruits in all, as we saw",
        r"\boxed{1} then \boxed{2",
        r"\boxed{}",
        "line one\nline two",
        "The answer is:\n$$",
        "The answer is:\n$$\n$$\nand so on",
        "Answer:\n\\[\n\\]",
        "**Answer:**\n```python\n```\nand so on",
        "So, as all of us can see, the answer is: $$",
        r"\boxed",
        r"\boxedx",
        "<answer></answer>",
        "<answer>5 is what I would say",
        "</answer>5<answer> is no way to say it",
        r"<answer>\boxed{}</answer>",
        "unanswered: 5 is not it, surely not, never",
    ],
)
def test_no_answer(text):
    assert extract(text) is None


def test_the_last_number_is_taken_only_when_asked_for():
    text = "First there were 3 of them, and then in the end there were 1,234 of them left."
    assert extract(text) is None
    assert extract(text, last_number=True).text == "1,234"


@given(st.text(alphabet="ab{}\\boxed 1$,", max_size=80), st.integers(0, 999))
def test_a_closed_box_at_the_end_wins_whatever_balanced_text_came_before(before, number):
    before = re.sub(r"[{}\\]", "", before)
    assert extract(f"{before}. \\boxed{{{number}}}").text == str(number)


UNITS = [
    "\\boxed{",
    "\\boxed",
    "\\boxed{1} or ",
    "{",
    "}",
    "answer is ",
    "Answer: ",
    "answer",
    "####",
    "#### 1\n",
    "$",
    "**",
    "\\",
    "1,234,",
    "\x00",
    "and ",
    "(",
    "Ａ１ ",
    "<answer>",
    "</answer>",
    "<answer>1</answer> or ",
    "answer is $$\n",
    "answer is therefore ",
    "`",
    "\\[",
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_hundred_thousand_repetitions_are_read_once(unit):
    # 100,000 units: any quadratic step would take minutes, and the suite's time would show it.
    extract(unit * 100_000, last_number=True)
    extract(f"The answer is {unit * 100_000}", last_number=True)
