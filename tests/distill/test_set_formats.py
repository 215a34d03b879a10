"""Samples through files: whatever they hold comes back, in each form and file; what is no sample is told of."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples_kit import sample, samples

from thinksmith.distill.formats import parts, read_set, write_samples
from thinksmith.distill.formats import samples as stream
from thinksmith.distill.formats.turn import is_exact, join, take_apart
from thinksmith.distill.formats.write import FORMS, digest
from thinksmith.distill.sample import Sample
from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.export import export
from thinksmith.store.store import Store

patient = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
every_file = pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
every_form = pytest.mark.parametrize("form", FORMS)


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@every_file
@every_form
@given(found=st.lists(samples, min_size=1, max_size=4))
@patient
def test_round_trips_lose_nothing(found: list[Sample], form, suffix, tmp_path: Path) -> None:
    path = tmp_path / f"set{suffix}"
    assert write_samples(found, path, form) == len(found)
    assert read_set(path) == found
    assert digest(read_set(path)) == digest(found)


@given(sample_=samples)
@patient
def test_what_the_tags_alone_give_back_is_what_is_exact(sample_: Sample) -> None:
    parts_ = take_apart(join(sample_.thinking, sample_.answer))
    same = (parts_.thinking, parts_.answer) == (sample_.thinking, sample_.answer)
    assert is_exact(sample_.thinking, sample_.answer) is same


def test_a_plain_sample_needs_no_more_than_its_tags(tmp_path: Path) -> None:
    write_samples([sample(3)], tmp_path / "set.jsonl")
    (row,) = map(json.loads, (tmp_path / "set.jsonl").read_text().splitlines())
    assert row["messages"] == [
        {"role": "user", "content": "What is 3 + 1?"},
        {
            "role": "assistant",
            "content": "<think>\nI add one to 3. So 3 + 1 = 4.\n</think>\n\nThe answer is 4.",
        },
    ]
    assert "exact" not in row


def test_the_columns_of_openr1(tmp_path: Path) -> None:
    """Those of open-r1/OpenR1-Math-220k, with their types; samples of one problem share a row."""
    wrong = sample(1, answer="It is 7.", status="wrong", finish="length")
    write_samples([wrong, sample(1), sample(2)], tmp_path / "set.parquet", "openr1")
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "set.parquet")
    types = {
        "problem": "string", "solution": "string", "answer": "string", "problem_type": "string",
        "question_type": "string", "source": "string", "uuid": "string", "is_reasoning_complete": "list<element: bool>",
        "generations": "list<element: string>", "correctness_math_verify": "list<element: bool>",
        "correctness_llama": "list<element: bool>", "finish_reasons": "list<element: string>",
        "correctness_count": "int64",
    }  # fmt: skip
    assert {name: str(table.schema.field(name).type) for name in types} == types
    first, second = table.to_pylist()
    assert (first["problem"], first["answer"], first["correctness_math_verify"]) == (
        "What is 1 + 1?",
        "2",
        [False, True],
    )
    assert (first["is_reasoning_complete"], first["correctness_count"]) == ([False, True], 1)
    assert first["messages"][-1]["content"] == first["generations"][1]
    assert second["uuid"] == "sum/2"


def test_openr1_as_it_is_published(tmp_path: Path) -> None:
    row = {
        "problem": "What is $1+1$?", "solution": "It is 2.", "answer": "2", "problem_type": "Algebra",
        "question_type": "math-word-problem", "source": "olympiads", "uuid": "u-1",
        "is_reasoning_complete": [True, False], "correctness_math_verify": [True, False], "correctness_llama": None,
        "finish_reasons": None, "correctness_count": 1,
        "generations": ["<think>\nOne and one.\n</think>\n\n\\boxed{2}", "<think>\nHm"],
        "messages": [{"role": "user", "content": "What is $1+1$?"},
                     {"role": "assistant", "content": "<think>\nOne and one.\n</think>\n\n\\boxed{2}"}],
    }  # fmt: skip
    one, two = read_set(write_lines(tmp_path / "r1.jsonl", [row]))
    assert (one.id, one.thinking, one.answer, one.gold, one.status) == (
        "u-1",
        "One and one.",
        "\\boxed{2}",
        "2",
        "correct",
    )
    assert (two.thinking, two.answer, two.status, two.finish) == ("Hm", "", "wrong", "length")
    assert one.meta == {
        "solution": "It is 2.",
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "olympiads",
    }


def test_open_thoughts_of_both_kinds_and_sharegpt(tmp_path: Path) -> None:
    marked = (
        "<|begin_of_thought|>\n\nOne. Two.\n\n<|end_of_thought|>\n\n"
        "<|begin_of_solution|>\n\nIt is 2.\n\n<|end_of_solution|>"
    )
    tagged = "<think>One. Two.</think>It is 2."
    rows = [
        {
            "system": "Think.",
            "conversations": [{"from": "user", "value": "1+1?"}, {"from": "assistant", "value": marked}],
        },
        {
            "conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": tagged}],
            "difficulty": 3,
        },
    ]
    one, two = read_set(write_lines(tmp_path / "ot.jsonl", rows))
    assert (one.thinking, one.answer) == (two.thinking, two.answer) == ("One. Two.", "It is 2.")
    assert [message["role"] for message in one.messages] == ["system", "user"]
    assert two.meta == {"difficulty": 3}
    assert (two.gold, two.status) == (None, "")
    assert one.id != two.id


def test_alpaca_with_a_chain_of_thought(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add.", "input": "1 and 1", "output": "<think>One and one.</think>2", "answer": 2},
        {"instruction": "Add 1 and 1.", "input": "", "output": "2", "cot": "One and one."},
    ]
    one, two = read_set(write_lines(tmp_path / "a.jsonl", rows))
    assert one.question == "Add.\n\n1 and 1"
    assert (one.thinking, one.answer, one.gold) == ("One and one.", "2", "2")
    assert (two.question, two.thinking, two.answer) == ("Add 1 and 1.", "One and one.", "2")


def test_messages_of_others(tmp_path: Path) -> None:
    prompt = {"role": "user", "content": "1+1?"}
    rows = [
        {"messages": [prompt, {"role": "assistant", "content": "2", "reasoning_content": "One."}], "level": "easy",
         "correct": True, "finish_reason": "stop"},
        {"messages": [prompt, {"role": "assistant", "content": "One.</think>2"}], "model": "r1"},
    ]  # fmt: skip
    one, two = read_set(write_lines(tmp_path / "m.jsonl", rows))
    assert (one.thinking, one.answer, one.status, one.meta) == ("One.", "2", "correct", {"level": "easy"})
    assert (two.thinking, two.answer, two.model, two.id) == ("One.", "2", "r1", one.id)


def stored_run(store: Store) -> list[Sample]:
    attempts = []
    for n in range(7):
        problem = Problem(f"p/{n % 3}", f"What is {n % 3}?", str(n % 3), "number", {"level": n % 3})
        trace = Trace(f"Hm {n}.", f"It is {n % 3}.", token_ids=tuple(range(n + 1)), model="tiny")
        attempts.append(Attempt(problem, trace, Verdict("correct" if n % 2 else "wrong"), n // 3))
    run = store.start_run("collect", "sums", "tiny")
    store.add(run, attempts)
    return sorted(map(Sample.of, attempts), key=lambda each: each.id)


def test_runs_by_id_and_by_name_and_as_exported(own_store: Path, tmp_path: Path) -> None:
    with Store.open() as store:
        expected = stored_run(store)
        run = store.runs()[0].id
        for name in ("run.jsonl", "run.parquet"):
            export(store, run, tmp_path / name)
    assert read_set("sums") == read_set(run) == read_set("last") == expected
    for name in ("run.jsonl", "run.parquet"):
        assert sorted(read_set(tmp_path / name), key=lambda each: each.id) == expected
    with pytest.raises(UserError, match="no run 'nothing'"):
        read_set("nothing")


def test_a_format_that_is_not_known_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_lines(Path("x.jsonl"), [{"text": "a", "label": 1}])
    with pytest.raises(
        UserError, match=r"\Ax.jsonl:1: no known format has the columns 'text', 'label'; known are [^\n]*\Z"
    ):
        read_set(path)


def test_bad_rows_are_told_and_the_others_still_come(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    write_samples([sample(n) for n in range(5)], path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"{not json\n"
    lines[3] = b'{"messages": []}\n'
    lines.insert(2, b"\n")
    path.write_bytes(b"".join(lines) + b"\xff\n")
    found: list[Sample] = []
    with pytest.raises(UserError, match=r"set.jsonl:2: not JSON.*\(and 2 more bad rows\)"):
        found.extend(stream(path))
    assert found == [sample(n) for n in (0, 2, 4)]
    faults = [entry.where for part in parts.open_source(str(path)).parts for entry in parts.read(part) if entry.fault]
    assert [int(where.rpartition(":")[2]) for where in faults] == [2, 5, 7]


@pytest.mark.parametrize("size", [1, 50, 700, 10**9])
def test_parts_are_the_whole_whatever_their_size(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [sample(n, thinking="So.\n" * (n % 7)) for n in range(60)]
    path = tmp_path / "set.jsonl"
    write_samples(found, path)
    monkeypatch.setattr(parts, "PART_BYTES", size)
    monkeypatch.setattr(parts, "_BLOCK", 512)
    cut = parts.open_source(str(path)).parts
    entries = [entry for part in cut for entry in parts.read(part)]
    assert [entry.sample for entry in entries] == found
    assert [entry.where for entry in entries] == [f"{path}:{n + 1}" for n in range(60)]
    assert (len(cut) == 1) == (size == 10**9)


def test_gzipped_lines_and_sets_and_damage(tmp_path: Path) -> None:
    found = [sample(n) for n in range(20)]
    write_samples(found, tmp_path / "data.jsonl")
    packed = gzip.compress((tmp_path / "data.jsonl").read_bytes())
    (tmp_path / "set.jsonl.gz").write_bytes(packed)
    assert read_set(tmp_path / "set.jsonl.gz") == read_set(tmp_path) == found
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-40])
    with pytest.raises(UserError, match="damaged or cut off"):
        read_set(tmp_path / "cut.jsonl.gz")
    (tmp_path / "not.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(UserError, match="not readable as Parquet"):
        read_set(tmp_path / "not.parquet")
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    with pytest.raises(UserError, match="has no rows"):
        read_set(tmp_path / "empty.jsonl")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.jsonl"
    write_samples([sample(1)], path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        write_samples([sample(2)], path)
    assert read_set(path) == [sample(1)]
    assert list(tmp_path.iterdir()) == [path]
