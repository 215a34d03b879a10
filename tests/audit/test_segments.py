"""Segments cover the text; the habits of reasoning models get their names."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.audit import find_segments

PIECES = [
    "Wait, ",
    "Check: ",
    "So ",
    "12 + 7 = 19",
    ". ",
    "\n",
    "\n\n",
    "Let me verify",
    "the answer is 5",
    "  ",
    "1. ",
    "é",
    "?!",
    '."',
    "No.",
    "x",
]


@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)))
def test_segments_are_the_whole_text_without_gaps(text):
    segments = find_segments(text)
    assert "".join(segment.text for segment in segments) == text
    assert [segment.start for segment in segments] == [0, *(segment.end for segment in segments)][: len(segments)]
    assert all(segment.text == text[segment.start : segment.end] != "" for segment in segments)
    assert all(a.kind != b.kind for a, b in pairwise(segments))


def kinds(text: str) -> list[str]:
    return [segment.kind for segment in find_segments(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("27 * 34 = 27 * 30 + 27 * 4. 7 * 3 = 21, so 81.\nCheck: 918 / 27 = 34.", ["compute", "check"]),
        ("8 + 1 = 10, so 1018. Wait, that is wrong. 8 + 1 = 9, so 918.", ["compute", "backtrack", "compute"]),
        (
            "Use 9: 24 - 9 = 15. No.\nUse 5: 24 - 5 = 19. Wait, that does not work. Go back.\n",
            ["compute", "backtrack"] * 2,
        ),
        (
            "Okay, so I need to find the area. Let me think about the sides first. The area is 3 * 4 = 12. "
            "Hmm, that doesn't fit. Let me double-check: 3 * 5 = 15. So the answer is 15.",
            ["restate", "plan", "compute", "backtrack", "check", "conclude"],
        ),
        (
            "We are given two numbers.\nFirst, add them.\n3 + 4 = 7\nThus, \\boxed{7}",
            ["restate", "plan", "compute", "conclude"],
        ),
        ("Let me verify this:\n3 + 4 = 7\nThat makes sense.\nTherefore it is 7.", ["check", "conclude"]),
        ("So we add. 3 + 4 = 7. And 7 + 1 = 8. Then 9 + 1 = 10. Therefore ten.", ["restate", "compute", "conclude"]),
        ("", []),
    ],
)
def test_kinds(text, expected):
    assert kinds(text) == expected


def test_nothing_turns_back_in_a_text_that_waits_for_a_bus():
    assert "backtrack" not in kinds(
        "They wait for 3 buses. The waiting takes 3 * 5 = 15 minutes. There is no other way."
    )
