"""Files of problems: every format, every mapping, and one clear line for everything that can be wrong with them."""

from __future__ import annotations

import gzip
import json
import random
from contextlib import suppress
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.problems.load import Finding, load, load_checked
from thinksmith.problems.spec import parse_spec
from thinksmith.records import Problem

ROWS = [{"question": f"What is {n} + {n}?", "gold": 2 * n, "uid": f"q{n}", "level": n % 3} for n in range(40)]


def write(path: Path, rows: list[object]) -> Path:
    """Rows as JSON; bytes are written as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def refusal(spec: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        load(str(spec), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def good(n: int) -> dict[str, str]:
    return {"prompt": f"What is {n}?", "answer": str(n)}


# What is read


def test_every_format_gives_the_same_problems(tmp_path):
    plain = write(tmp_path / "my.jsonl", ROWS)
    packed = write(tmp_path / "my.jsonl.gz", ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "my.parquet", row_group_size=7)
    expected = [Problem(f"my/q{n}", f"What is {n} + {n}?", str(2 * n), "math", {"level": n % 3}) for n in range(40)]
    for path in (plain, packed, tmp_path / "my.parquet"):
        assert load(str(path)) == expected


def test_columns_named_in_the_spec_win_over_guesses(tmp_path):
    rows = [{"prompt": "wrong", "q": "1 + 1?", "answer": "3", "a": "2", "id": 7, "key": "k"}]
    path = write(tmp_path / "odd.jsonl", rows)
    (problem,) = load(f"{path}:prompt=q,answer=a,kind=number,id=key")
    assert (problem.id, problem.prompt, problem.answer, problem.kind) == ("odd/k", "1 + 1?", "2", "number")
    assert problem.meta == {"prompt": "wrong", "answer": "3", "id": 7}


@pytest.mark.parametrize("prompt", ["prompt", "problem", "question", "query"])
@pytest.mark.parametrize("answer", ["answer", "gold", "solution", "target"])
@pytest.mark.parametrize("name", ["id", "unique_id", "uid", "task_id"])
def test_guesses(tmp_path, prompt, answer, name):
    path = write(tmp_path / "g.jsonl", [{"x": 0, answer: 4, name: 9, prompt: "2 + 2?"}])
    assert load(str(path)) == [Problem("g/9", "2 + 2?", "4", "math", {"x": 0})]


def test_chat_messages_stay_messages_in_both_formats(tmp_path):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    path = write(tmp_path / "chat.jsonl", [{"prompt": chat, "answer": "4"}])
    pq.write_table(pa.Table.from_pylist([{"prompt": chat, "answer": "4"}]), tmp_path / "chat.parquet")
    for spec in (str(path), str(tmp_path / "chat.parquet")):
        (problem,) = load(spec)
        assert list(problem.messages) == chat
        assert hash(problem.text) == hash("Be brief.\n\n2 + 2?")


@pytest.mark.parametrize(
    ("written", "kind", "gold"),
    [
        ("so 3 * 4 = 12\n#### 12", "number", "12"),
        ("many\n#### 1,234,567", "math", "1234567"),
        ("pairs\n#### (1, 2)", "math", "(1, 2)"),
        (r"Thus $x = \boxed{\frac{1}{2}}$, done.", "math", r"\frac{1}{2}"),
        ("a\n#### b", "exact", "a\n#### b"),
        ("#### 5 is not last\nso 6", "math", "#### 5 is not last\nso 6"),
        ("  7 ", "math", "7"),
    ],
)
def test_a_worked_solution_is_cut_to_its_final_answer(tmp_path, written, kind, gold):
    path = write(tmp_path / "w.jsonl", [{"prompt": "?", "solution": written}])
    (problem,) = load_checked(f"{path}:kind={kind}").problems
    assert problem.answer == gold
    assert problem.meta == ({} if written.strip() == gold else {"solution": written.strip()})


def test_a_byte_order_mark_blank_lines_and_odd_line_ends_do_not_matter(tmp_path):
    lines = [b"\xef\xbb\xbf" + json.dumps(good(1)).encode() + b"\r", b"", b"  \t", json.dumps(good(2)).encode()]
    lines += ['{"prompt": "a\u2028b", "answer": "3"}'.encode()]
    path = write(tmp_path / "w.jsonl", lines)
    assert [problem.prompt for problem in load(str(path))] == ["What is 1?", "What is 2?", "a\u2028b"]
    path.write_bytes(path.read_bytes() + b"{")
    assert refusal(path).startswith(f"{path}:6: not JSON")


def test_a_split_column_chooses_rows(tmp_path):
    path = write(tmp_path / "s.jsonl", [{**good(n), "split": "dev" if n % 2 else "train"} for n in range(6)])
    assert [p.answer for p in load(f"{path}:split=dev")] == ["1", "3", "5"]
    assert len(load(str(path))) == 6
    assert "it has: dev, train" in refusal(f"{path}:split=tset")
    bare = write(tmp_path / "b.jsonl", [good(1)])
    assert "no column 'split'" in refusal(f"{bare}:split=dev")


def test_what_json_cannot_hold_stays_out_of_meta(tmp_path):
    row = {**good(1), "when": date(2024, 2, 1), "raw": b"\x00", "odd": float("nan"), "deep": {"a": [1, None]}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "d.parquet")
    assert load(str(tmp_path / "d.parquet"))[0].meta == {"deep": {"a": [1, None]}}


def test_problems_without_gold_must_be_asked_for_and_are_findings(tmp_path):
    path = write(tmp_path / "open.jsonl", [{"prompt": "Why?"}, {"prompt": "Who?"}])
    assert "answer=none" in refusal(path)
    loaded = load_checked(f"{path}:answer=none")
    assert [p.answer for p in loaded.problems] == [None, None]
    assert [f.where for f in loaded.findings] == [f"{path}:1", f"{path}:2"]


# Ids


def test_without_ids_the_content_is_the_id_wherever_it_stands(tmp_path):
    rows = [good(n) for n in range(20)]
    first = {p.prompt: p.id for p in load(str(write(tmp_path / "a.jsonl", rows)))}
    random.Random(0).shuffle(rows)
    (tmp_path / "other").mkdir()
    second = {p.prompt: p.id for p in load(str(write(tmp_path / "other" / "a.jsonl.gz", rows)))}
    assert first == second
    assert all(one.startswith("a/") and len(one) == len("a/") + 12 for one in first.values())
    assert len(set(first.values())) == 20


def test_an_id_that_comes_again_names_both_lines(tmp_path):
    rows = [{**good(n), "id": one} for n, one in enumerate(("x", "y", "x", "z", "y"))]
    path = write(tmp_path / "twice.jsonl", rows)
    message = refusal(path)
    assert message.startswith(f"{path}:3: the id 'x' is that of {path}:1 already")
    assert message.endswith("(and 1 more bad row)")
    same = write(tmp_path / "same.jsonl", [good(1), good(2), good(1)])
    assert refusal(same).startswith(f"{same}:3: the same question and answer as {same}:1")


# Malformed rows


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b'{"prompt": "a", "answer": ', "not JSON: Expecting value at column"),
        (b"[1, 2]", "a list, not a JSON object"),
        (b"null", "null, not a JSON object"),
        (b'{"prompt": "a", "answer": ' + b"9" * 5000 + b"}", "JSON that cannot be read"),
        (b'{"prompt": "a", "answer": ' + b"[" * 100_000, "JSON that cannot be read"),
        (b'{"prompt": "\\ud800", "answer": "1"}', "surrogate"),
        (b'{"prompt": "a", "answer": NaN}', "the answer ('answer') is nan"),
        ({"answer": "1"}, "the column 'prompt' is missing"),
        ({"prompt": "a"}, "the column 'answer' is missing"),
        ({"prompt": "", "answer": "1"}, "the prompt ('prompt') is empty"),
        ({"prompt": " \n", "answer": "1"}, "the prompt ('prompt') is empty"),
        ({"prompt": [], "answer": "1"}, "the prompt ('prompt') is empty"),
        ({"prompt": 5, "answer": "1"}, "the prompt ('prompt') is a number, not text"),
        ({"prompt": None, "answer": "1"}, "the prompt ('prompt') is null, not text"),
        ({"prompt": [{"role": "user"}], "answer": "1"}, "a message without text for 'role' and 'content'"),
        ({"prompt": ["hello"], "answer": "1"}, "a message without text for 'role' and 'content'"),
        ({"prompt": "a", "answer": ["1"]}, "the answer ('answer') is a list"),
        ({"prompt": "a", "answer": {"x": 1}}, "the answer ('answer') is an object"),
        ({"prompt": "a", "answer": True}, "the answer ('answer') is true or false"),
    ],
)
def test_a_malformed_row_is_told_with_its_line(tmp_path, row, says):
    path = write(tmp_path / "bad.jsonl", [good(1), b"", good(2), row, good(3)])
    message = refusal(path)
    assert message.startswith(f"{path}:4: ")
    assert says in message
    assert "more bad" not in message
    assert refusal(path, n=1) == message  # also where the draw would not have met it


@pytest.mark.parametrize("value", [None, "", 1.5, True, [1]])
def test_an_id_that_is_none_is_told(tmp_path, value):
    path = write(tmp_path / "bad.jsonl", [{**good(1), "id": 1}, {**good(2), "id": value}])
    assert refusal(path).startswith(f"{path}:2: the id ('id') is ")


def test_of_many_bad_rows_the_first_is_told_and_the_others_are_counted(tmp_path):
    path = write(tmp_path / "bad.jsonl", [good(0), b"{", good(1), b"}", {"prompt": "a"}, b"\xff"])
    assert refusal(path).startswith(f"{path}:2: not JSON")
    assert refusal(path).endswith("(and 3 more bad rows)")


@given(st.lists(st.text(max_size=8), max_size=4), st.integers(0, 5))
def test_a_byte_that_is_no_utf8_is_told_with_its_offset(tmp_path_factory, before, blank):
    path = tmp_path_factory.mktemp("u") / "latin.jsonl"
    rows = [{"prompt": f"{n}{text}", "answer": "1", "note": text} for n, text in enumerate(before)]
    head = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")
    head += b"\n" * blank + b'{"prompt": "caf'
    path.write_bytes(head + b'\xe9", "answer": "1"}\n')
    line = len(before) + blank + 1
    assert refusal(path).startswith(f"{path}:{line}: not UTF-8 (byte {len(head)} of the file, 0xe9)")


def test_parquet_rows_are_told_by_their_number(tmp_path):
    rows = [good(n) for n in range(3000)]
    rows[2500] = {"prompt": "", "answer": "1"}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    assert refusal(tmp_path / "p.parquet").startswith(f"{tmp_path / 'p.parquet'}:2501: the prompt")


# Files that are no use as a whole


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path):
    path = write(tmp_path / "c.jsonl", [{"text": "a", "label": "1"}])
    assert refusal(path) == f"{path}:1: which column is the prompt? Add :prompt=COLUMN; it has: text, label"
    message = refusal(f"{path}:prompt=text")
    assert message == f"{path}:1: which column is the answer? Add :answer=COLUMN or answer=none; it has: text, label"
    message = refusal(f"{path}:prompt=text,answer=lable")
    assert message == f"{path}:1: no column 'lable'; did you mean 'label'?; it has: text, label"
    assert "no column 'no'" in refusal(f"{path}:prompt=text,answer=label,id=no")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file(tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    assert refusal(path) == f"{path} has no problems"


def test_files_that_cannot_be_read(tmp_path):
    assert refusal(tmp_path / "gone.jsonl") == f"{tmp_path / 'gone.jsonl'}: there is no such file"
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    assert refusal(folder).startswith(f"{folder}: is a folder")
    (tmp_path / "x.csv").write_text("a,b")
    assert ".jsonl, .jsonl.gz, .parquet" in refusal(tmp_path / "x.csv")
    (tmp_path / "no.parquet").write_bytes(b"PAR1 this is none PAR1")
    assert "not readable as Parquet" in refusal(tmp_path / "no.parquet")
    (tmp_path / "no.jsonl.gz").write_bytes(b'{"prompt": "plain"}\n')
    assert f"{tmp_path / 'no.jsonl.gz'}:1: the gzip data is damaged" in refusal(tmp_path / "no.jsonl.gz")


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off(tmp_path, keep):
    rows = [{**good(n), "noise": random.Random(n).getrandbits(900)} for n in range(200)]
    packed = write(tmp_path / "cut.jsonl.gz", rows)
    packed.write_bytes(packed.read_bytes()[: int(packed.stat().st_size * keep)])
    assert "damaged or cut off here" in refusal(packed)
    pq.write_table(pa.Table.from_pylist([good(n) for n in range(200)]), tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: int(len(whole) * keep)])
    assert "not readable as Parquet" in refusal(tmp_path / "cut.parquet")


# The draw


def test_a_draw_is_stable_nested_and_does_not_depend_on_the_order_of_the_file(tmp_path):
    path = write(tmp_path / "d.jsonl", ROWS)
    fifteen = load(str(path), 15, seed=3)
    assert len({p.id for p in fifteen}) == 15
    assert load(str(path), 15, seed=3) == fifteen
    assert load(str(path), 7, seed=3) == fifteen[:7]
    assert load(str(path), 15, seed=4) != fifteen
    assert sorted(p.id for p in load(str(path), 40)) == sorted(p.id for p in load(str(path)))
    write(path, ROWS[::-1])
    assert load(str(path), 15, seed=3) == fifteen
    write(path, [row for row in ROWS if f"d/{row['uid']}" in {p.id for p in fifteen}])
    assert load(str(path), 15, seed=3) == fifteen


def test_every_problem_is_as_likely_to_be_drawn(tmp_path):
    path = write(tmp_path / "d.jsonl", ROWS[:10])
    counts = dict.fromkeys((f"d/q{n}" for n in range(10)), 0)
    for seed in range(300):
        for problem in load(str(path), 3, seed=seed):
            counts[problem.id] += 1
    assert sum((count - 90) ** 2 / 90 for count in counts.values()) < 27.9  # chi squared with 9 degrees, p = 0.001


def test_more_than_there_are_is_refused(tmp_path):
    path = write(tmp_path / "d.jsonl", ROWS)
    assert refusal(path, n=41) == f"{path} has only 40 problems; ask for 40 or fewer, not 41"
    assert "at least 1" in refusal(path, n=0)
    assert "at least 1" in refusal("arithmetic", n=-3)


# Gold that cannot be verified


def test_gold_that_cannot_be_verified_is_found_with_its_line(tmp_path):
    rows = [{**good(1), "id": 1}, {"id": 2, "prompt": "a", "answer": "about a dozen or so"}]
    rows += [{"id": 3, "prompt": "b", "answer": None}, {**good(4), "id": 4}, {"id": 5, "prompt": "c", "answer": ""}]
    path = write(tmp_path / "f.jsonl", rows)
    loaded = load_checked(f"{path}:kind=number")
    assert len(loaded.problems) == 5
    assert [(f.id, f.where) for f in loaded.findings] == [(f"f/{n}", f"{path}:{n}") for n in (2, 3, 5)]
    assert loaded.findings[1] == Finding("f/3", f"{path}:3", "has no answer")
    assert "not a number" in loaded.findings[0].reason
    with pytest.warns(UserWarning, match=r"3 of 5 gold answers cannot be verified, the first: .*f\.jsonl:2: "):
        assert load(f"{path}:kind=number") == list(loaded.problems)


# The spec


@given(st.text(max_size=40))
def test_any_text_is_a_spec_or_one_clear_line(text):
    with suppress(UserError):
        assert parse_spec(text).source


def test_specs():
    assert parse_spec(" a/b.jsonl:prompt=x, id = y ").options == {"prompt": "x", "id": "y"}
    assert parse_spec("a:b.jsonl:prompt=x").source == "a:b.jsonl"
    assert parse_spec("gsm8k").options == {}


def test_a_file_whose_name_looks_like_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a:id=b.jsonl"), [good(1)])
    assert load("a:id=b.jsonl")[0].answer == "1"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "name a set of problems"),
        ("arithmetc", "did you mean 'arithmetic'?"),
        ("GSM8K", "did you mean 'gsm8k'?"),
        ("gsm9k", "did you mean 'gsm8k'?"),
        ("zzz", "known are arithmetic, chains"),
        ("gsm8k/tset", "has no split 'tset'; it has: test, train"),
        ("math500/train", "has no split 'train'; it has: test"),
        ("gsm8k/train:split=test", "another time"),
        ("gsm8k:kind=math", "takes no options"),
        ("mixed:digits=2", "mixed takes no options"),
        ("chains/dev", "has no split 'dev'"),
        ("arithmetic:digit=2", "no parameter 'digit'"),
        ("arithmetic:digits=9", "must lie in 1..3"),
        ("arithmetic:digits", "key=value"),
        ("arithmetic:digits=2,digits=3", "gives digits twice"),
        ("arithmetic:", "key=value"),
        ("no.jsonl:kind=numbr", "did you mean 'number'?"),
        ("no.jsonl:prmpt=a", "did you mean 'prompt'?"),
        ("https://example.org/x.jsonl", "download it"),
        ("hub/gsm8k", "hub/OWNER/NAME"),
        ("hub/openai/gsm8k/train", "hub/OWNER/NAME"),
        ("x" * 5000, "no such set"),
        ("a\0b", "no such set"),
    ],
)
def test_what_is_wrong_with_a_spec_is_one_line(spec, says):
    assert says in refusal(spec)
