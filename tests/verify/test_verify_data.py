"""Real data: every gold verifies against itself and its reference solution; 800 recorded verdicts are reproduced."""

from __future__ import annotations

import random

import pytest

from thinksmith.records import Problem, Trace
from thinksmith.verify import check_gold, verify
from thinksmith.verify.math import same_maths


def verdict(gold: str, kind: str, text: str):
    return verify(Problem("p", "?", gold, kind), Trace(thinking="", answer=text, thinking_status="none"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_gsm8k(split, rows):
    wrong = [
        row["answer"][-40:]
        for row in rows(f"gsm8k/{split}.jsonl")
        if verdict(row["answer"].rpartition("####")[2].strip(), "number", row["answer"]).status != "correct"
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", ["number", "math"])
def test_aime24(kind, rows):
    failed = []
    for row in rows("aime24/test.jsonl"):
        assert check_gold(Problem("p", "?", row["answer"], kind)) is None
        status = verdict(row["answer"], kind, row["solution"]).status
        if status != "correct":
            failed.append((row["id"], status))
    assert failed == [(60, "no_answer")]  # the only solution that boxes nothing


def test_math500(rows):
    for row in rows("math500/test.jsonl"):
        assert check_gold(Problem("p", "?", row["answer"], "math")) is None, row["answer"]
        assert verdict(row["answer"], "math", row["solution"]).status == "correct", row["unique_id"]


def test_math500_golds_are_told_apart(rows):
    golds = sorted({row["answer"] for row in rows("math500/test.jsonl") if not row["answer"].isdigit()})
    equal = [(a, b) for i, a in enumerate(golds) for b in golds[i + 1 :] if same_maths(a, b)]
    # Each pair is one answer, written in two ways; 36° and $36 are one because units are not compared.
    assert equal == [
        ("-2,1", "1,-2"),
        ("2 \\sqrt{5}", "2\\sqrt{5}"),
        ("36^\\circ", "\\$36"),
        ("\\frac14", "\\frac{1}{4}"),
    ]


def test_recorded_verdicts(rows):
    differ = []
    for index, row in enumerate(rows("replay/math_cot_100.jsonl")):
        for sample, (text, recorded) in enumerate(zip(row["responses"], row["correct"], strict=True)):
            ours = verdict(row["answer"], "math", text)
            assert ours.status in ("correct", "wrong")
            if ours.correct != recorded:
                differ.append((index, sample, row["answer"], ours.extracted))
    # 799 of 800 agree. The record calls 10000 wrong against the gold answer 10{,}000, which is the same number.
    assert differ == [(72, 7, "10{,}000", "10000")]


def test_math500_golds_are_told_apart_by_algebra_too(rows):
    golds = sorted({row["answer"] for row in rows("math500/test.jsonl") if not row["answer"].isdigit()})
    pairs = [(a, b) for i, a in enumerate(golds) for b in golds[i + 1 :]]
    equal = [
        (a, b)
        for a, b in random.Random(0).sample(pairs, 3_000)
        if not same_maths(a, b) and verdict(a, "math", f"\\boxed{{{b}}}").status not in ("wrong", "no_answer")
    ]
    assert equal == []
