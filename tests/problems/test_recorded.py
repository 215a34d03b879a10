"""What models wrote elsewhere: which text of a row is the response, and which verifier it goes to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thinksmith.errors import UserError
from thinksmith.problems.recorded import read_recorded
from thinksmith.verify import verify


def rows(folder: Path, *values: dict) -> Path:
    path = folder / "r.jsonl"
    path.write_text("".join(json.dumps({"prompt": "?", "answer": "5"} | value) + "\n" for value in values))
    return path


def message(role: str, content: object) -> dict:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("response", "status"),
    [
        ([message("assistant", r"\boxed{4}"), message("user", r"is it \boxed{5}?")], "wrong"),
        ([message("user", r"is it \boxed{4}?"), message("assistant", r"\boxed{5}")], "correct"),
        ([message("assistant", r"\boxed{4}"), message("assistant", r"\boxed{5}")], "correct"),
        ([message("assistant", [{"type": "text", "text": r"\boxed{5}"}])], "correct"),
        ([message("assistant", [{"type": "text", "text": r"\boxed{"}, {"type": "text", "text": "5}"}])], "correct"),
        ([message("assistant", [{"type": "thinking", "text": "5"}, {"type": "text", "text": r"\boxed{4}"}])], "wrong"),
        ([[message("assistant", "5")]], "correct"),
    ],
)
def test_what_the_assistant_says_last_is_the_response(tmp_path, response, status):
    (recorded,) = read_recorded(str(rows(tmp_path, {"response": response})))
    assert verify(recorded.problem, recorded.trace).status == status


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ([], "the response is an empty list"),
        ([[]], "the response is a list"),
        ([message("user", "5")], "none of the role 'assistant'"),
        ([{"content": "5"}], "none of the role 'assistant'"),
        ([message("assistant", None)], "the content of the assistant's message is null"),
        ([message("assistant", [])], "no text among its parts"),
        ([message("assistant", [{"type": "image_url"}])], "no text among its parts"),
        ([message("assistant", "5"), "5"], "the response is an object"),
    ],
)
def test_a_row_that_says_nothing_is_named(tmp_path, response, told):
    path = rows(tmp_path, {"response": "5"}, {"response": response})
    with pytest.raises(UserError, match=rf"r.jsonl:2: .*{told}"):
        read_recorded(str(path))


def test_a_rows_kind_counts_unless_one_is_named_for_all(tmp_path):
    path = rows(
        tmp_path,
        {"response": "B", "answer": "B", "kind": "choice"},
        {"response": "5", "kind": "number"},
        {"response": "x", "answer": "x"},
        {"response": "x", "answer": "x", "kind": None},
        {"response": "x", "answer": "Cut it: \\boxed{x}", "kind": "exact"},
        {"response": "x", "answer": "Cut it: \\boxed{x}", "kind": "math"},
    )
    recorded = read_recorded(str(path))
    assert [each.where for each in recorded] == [f"{path}:{number}" for number in range(1, 7)]
    assert [each.problem.kind for each in recorded] == ["choice", "number", "math", "math", "exact", "math"]
    assert [each.problem.answer for each in recorded][-2:] == ["Cut it: \\boxed{x}", "x"]
    assert {each.problem.kind for each in read_recorded(f"{path}:kind=exact")} == {"exact"}
    assert {each.problem.kind for each in read_recorded(str(path), "exact")} == {"exact"}
    assert {each.problem.kind for each in read_recorded(f"{path}:kind=exact", "math")} == {"exact"}


def test_a_kind_that_is_none_is_told_with_its_row(tmp_path):
    path = rows(tmp_path, {"response": "5", "kind": "number"}, {"response": "5", "kind": "algebra"})
    with pytest.raises(UserError, match=r"r.jsonl:2: no verifier for answers of kind 'algebra'; name one for all"):
        read_recorded(str(path))
    assert len(read_recorded(f"{path}:kind=number")) == 2
    with pytest.raises(UserError, match=r"r.jsonl:1: no verifier .*'nmber'; did you mean 'number'"):
        read_recorded(str(rows(tmp_path, {"response": "5", "kind": "nmber"})))
    with pytest.raises(UserError, match=r"r.jsonl:1: no verifier for answers of kind '7'"):
        read_recorded(str(rows(tmp_path, {"response": "5", "kind": 7})))
    with pytest.raises(UserError, match=r"r.jsonl:1: no verifier for answers of kind .* \(and 1 more bad row\)"):
        read_recorded(str(rows(tmp_path, {"response": "5", "kind": ["x"]}, {"response": []})))


def test_kinds_and_splits(tmp_path):
    path = rows(
        tmp_path,
        {"response": "5", "kind": "number", "split": "train"},
        {"response": "5", "kind": "exact", "split": "test"},
    )
    assert [each.where for each in read_recorded(f"{path}:split=test")] == [f"{path}:2"]
    with pytest.raises(UserError, match="no problems of split 'dev'; it has: test, train"):
        read_recorded(f"{path}:split=dev")
