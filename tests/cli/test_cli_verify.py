"""`thinksmith verify` for one answer and for files, `problems --check`, and a judge on the command line."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from thinksmith.engines.contract import EngineInfo
from thinksmith.records import Attempt, Problem, Request, Trace, Verdict


def test_a_right_answer(cli):
    done = cli("verify", "--gold", "1/2", "0.5")
    assert done.code == 0
    assert done.out.splitlines() == [
        "status     correct",
        "extracted  0.5",
        "rule       math: the same mathematical object",
        "reason     extracted 0.5 as the whole answer",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--gold", "918", r"It is \boxed{917}."], "wrong", "expected 918: a different number"),
        (["--gold", "918", "I cannot tell which one it is"], "no answer", "no final answer found"),
        (["--gold", "918", "<think>27 * 34 = 918"], "truncated", "the thinking was never finished"),
        (["--gold", "blue", "--kind", "number", "7"], "bad gold", "'blue' is not a number"),
        (["--gold", "A", "--kind", "choice", "A or B"], "wrong", "more than one option"),
        (["--gold", "x", "--kind", "exact", "\x1b[31mred\x07"], "wrong", "a different text"),
    ],
)
def test_an_answer_that_is_not_right_says_why_and_ends_with_1(cli, arguments, status, reason):
    done = cli("verify", *arguments)
    assert done.code == 1
    assert f"status     {status}\n" in done.out
    assert reason in done.out
    assert "\x1b" not in done.out
    assert "\x07" not in done.out


def test_meta_is_json_or_text_and_may_stand_for_the_gold_answer(cli):
    numbers = ("--meta", "numbers=[3, 5, 9]", "--meta", "target=24")
    assert cli("verify", "--kind", "countdown", "--gold", "3 * 5 + 9", *numbers, "9 + 5 * 3 = 24").code == 0
    assert cli("verify", "--kind", "regex", "--meta", "pattern=[0-9]+", "42").code == 0
    schema = ("--kind", "json", "--meta", 'schema={"type": "integer"}')
    assert (cli("verify", *schema, "12").code, cli("verify", *schema, '"12"').code) == (0, 1)


def test_standard_input_and_thinking_tags(cli, monkeypatch):
    text = "<think>\nIs it 1? \\boxed{1}\n</think>\n\nSo it is \\boxed{2}."
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    done = cli("verify", "--gold", "2", "-")
    assert done.code == 0
    assert "extracted  2\n" in done.out


def test_countdown_needs_no_gold_answer(cli, tmp_path):
    numbers = ("--kind", "countdown", "--meta", "target=24", "--meta", "numbers=[8,3]")
    assert (cli("verify", "8*3", *numbers).code, cli("verify", "8+3", *numbers).code) == (0, 1)
    row = {"prompt": "Make 24.", "numbers": [8, 3], "target": 24, "response": "3 * 8"}
    path = written(tmp_path / "c.jsonl", [row])
    done = cli("verify", f"{path}:kind=countdown,answer=none")
    assert done.code == 0
    assert "accuracy  100.0%" in done.out
    done = cli("problems", f"{path}:kind=countdown,answer=none", "--check")
    assert (done.code, done.out) == (0, "1 problems, 0 without a gold answer to verify by\n")
    written(path, [{**row, "numbers": None}])
    assert cli("problems", f"{path}:kind=countdown,answer=none", "--check").code == 1


def test_a_files_name_that_is_judged_as_an_answer_is_told(cli, tmp_path):
    path = written(tmp_path / "r.jsonl", ROWS)
    for target in (path, f"{path}:{SPEC}"):
        done = cli("verify", target, "--gold", "5")
        assert done.code == 1
        assert f"{path} is a file, but its name was judged" in done.err
        assert done.err.count("\n") == 1
    assert cli("verify", "it is :x=5", "--gold", "5").err == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["0.5"], "--gold"),
        ([""], "--gold"),
        (["--gold", "1", "--kind", "nmber", "1"], "did you mean 'number'"),
        (["--gold", "1", "--kind", "judge", "1"], "--judge MODEL"),
        (["--gold", "1", "--meta", "target", "1"], "KEY=VALUE"),
        (["--gold", "1", "--out", "v.jsonl", "1"], "--out"),
        (["missing.jsonl"], "no such file"),
        (["missing.jsonl", "--out", "."], "is a folder"),
        (["missing.jsonl", "--out", "/nowhere/at/all/v.jsonl"], "no folder /nowhere/at/all"),
        (["missing.jsonl", "--out", "~nobody-of-that-name/v.jsonl"], "cannot write"),
        (["missing.jsonl", "--out", "x" * 5_000], "cannot write"),
    ],
)
def test_a_mistake_is_one_line_and_2(cli, arguments, told):
    done = cli("verify", *arguments)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert done.err.count("\n") == 1


ROWS = [
    {"question": "1 + 1?", "gold": "2", "output": r"\boxed{2}"},
    {"question": "1 + 1?", "gold": "2", "output": "<think>Hm.</think>The answer is 3."},
    {"question": "2 + 2?", "gold": "4", "output": "<think>2 + 2 = 4, so 4"},
    {"question": "2 + 3?", "gold": "5", "output": "It is", "finish_reason": "length"},
    {"question": "2 + 5?", "gold": "7", "output": ["\\boxed{7}", "\\boxed{8}"]},
    {"question": "2 + 6?", "gold": "8", "output": [{"role": "assistant", "content": "\\boxed{8}"}]},
    {"question": "2 + 7?", "gold": "9", "output": [[{"role": "assistant", "content": "\\boxed{9}"}]]},
    {"question": "blue?", "gold": "blue", "output": "blue"},
]
SPEC = "prompt=question,answer=gold,response=output,kind=number"


def written(path: Path, rows: list) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_a_file_gives_a_table_and_verdicts(cli, tmp_path):
    path, out = written(tmp_path / "r.jsonl", ROWS), tmp_path / "v.jsonl"
    done = cli("verify", f"{path}:{SPEC}", "--out", out)
    assert done.code == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines[0] == "status responses share the first, and why"
    assert "correct 4 44.4%" in lines
    wrong = r'extracted 3 after "answer", expected 2: a different number'
    assert f"wrong 2 22.2% {path}:2: {wrong}" in lines
    assert f"truncated 2 22.2% {path}:3: the thinking was never finished" in lines
    assert f"bad gold 1 11.1% {path}:8: gold answer 'blue' is not a number" in lines
    assert lines[-2].startswith("accuracy 50.0% [")  # 1/2, 0, 0, 1/2, 1, 1 of 6 problems; the bad gold is left out
    assert "6 problems, 8 attempts" in lines[-2]
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert [verdict["status"] for verdict in verdicts] == [
        *("correct", "wrong", "truncated", "truncated", "correct", "wrong", "correct", "correct", "bad_gold")
    ]
    assert verdicts[0]["id"] == verdicts[1]["id"] != verdicts[2]["id"]
    assert (verdicts[5]["where"], verdicts[5]["sample"]) == (f"{path}:5", 1)


def test_columns_are_guessed_and_ids_may_repeat(cli, tmp_path):
    rows = [{"id": "a", "problem": "?", "answer": "2", "response": text} for text in ("2", "3")]
    done = cli("verify", written(tmp_path / "r.jsonl", rows), "--kind", "number")
    assert done.code == 0
    assert "1 problems, 2 attempts" in done.out


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        (["{", ROWS[0]], SPEC, "r.jsonl:1: not JSON"),
        ([ROWS[0], {**ROWS[0], "output": 3}], SPEC, "r.jsonl:2: the response is a number"),
        ([ROWS[0], {**ROWS[0], "output": []}], SPEC, "r.jsonl:2: the response is an empty list"),
        ([ROWS[0], {"question": "?", "gold": "1"}], SPEC, "r.jsonl:2: there is no column 'output'"),
        ([ROWS[0], {**ROWS[0], "question": " "}], SPEC, "r.jsonl:2: the prompt ('question') is empty"),
        ([ROWS[0]], "prompt=question,answer=gold,response=outputs", "did you mean 'output'"),
        ([{"question": "?", "gold": "1", "text": "1"}], "prompt=question,answer=gold", "which column is the response"),
        ([{"prompt": "?", "response": "1"}], "kind=number", "which column is the answer"),
        ([ROWS[0]], "prompt=question,answer=gold,respnse=output", "no option 'respnse'"),
        ([], SPEC, "has no rows"),
        ([{"problem": {"id": "a"}, "trace": {}}], "kind=number", "r.jsonl:1: not an attempt"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(cli, tmp_path, rows, options, told):
    done = cli("verify", f"{written(tmp_path / 'r.jsonl', rows)}:{options}")
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1


def test_an_exported_run_is_verified_again(cli, tmp_path, own_store):
    from thinksmith.store.store import Store

    with Store.open() as store:
        run = store.start_run("eval", "sums", "tiny")
        problem = Problem("sum/1", "1 + 1?", "2")
        store.add(run, [Attempt(problem, Trace("", text), Verdict("error"), i) for i, text in enumerate("23")])
    assert cli("export", run, tmp_path / "run.jsonl").code == 0
    done = cli("verify", tmp_path / "run.jsonl")
    assert done.code == 0
    assert "50.0%" in done.out
    assert "1 problems, 2 attempts" in done.out


def test_verdicts_that_cannot_be_written_are_told_before_anything_is_verified(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("thinksmith.verify.verify_all", lambda *_, **__: 1 / 0)
    for out in (tmp_path / "no" / "v.jsonl", tmp_path):
        done = cli("verify", f"{written(tmp_path / 'r.jsonl', ROWS)}:{SPEC}", "--out", out)
        assert (done.code, done.out) == (2, "")
        assert "cannot write" in done.err


def test_old_verdicts_stay_until_there_are_new_ones(cli, tmp_path):
    out = tmp_path / "v.jsonl"
    out.write_text("old")
    assert cli("verify", f"{written(tmp_path / 'r.jsonl', ['{'])}:{SPEC}", "--out", out).code == 2
    assert out.read_text() == "old"
    assert cli("verify", f"{written(tmp_path / 'r.jsonl', ROWS)}:{SPEC}", "--out", out).code == 0
    assert len(out.read_text().splitlines()) == 9


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_verdicts_that_may_not_be_written(cli, tmp_path):
    out = tmp_path / "v.jsonl"
    out.write_text("old")
    out.chmod(0o400)
    assert "permission denied" in cli("verify", f"{written(tmp_path / 'r.jsonl', ROWS)}:{SPEC}", "--out", out).err


def test_check_finds_all_that_cannot_be_verified(cli, tmp_path):
    schema = {"type": "integer"}
    rows = [
        {"prompt": "a", "answer": "1", "schema": schema},
        {"prompt": "b", "answer": '"1"', "schema": schema},
        {"prompt": "c", "answer": "{", "schema": schema},
        {"prompt": "d", "answer": "1", "schema": {"type": "intger"}},
    ]
    done = cli("problems", f"{written(tmp_path / 'j.jsonl', rows)}:kind=json", "--check")
    assert done.code == 1
    assert "j.jsonl:3: gold answer is no JSON" in done.err
    assert "j.jsonl:4: the schema is none" in done.err
    assert "is not equal to itself: the value breaks the schema" in done.err
    assert done.out == "4 problems, 3 without a gold answer to verify by\n"
    assert cli("problems", f"{written(tmp_path / 'j.jsonl', rows[:1])}:kind=json", "--check").code == 0


@dataclass
class Talker:
    """Says one thing to everything."""

    name: str
    says: str
    room: int = 4
    closed: int = 0

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(self.name)

    async def sample(self, request: Request) -> list[Trace]:
        return [Trace("", self.says, "none", model=self.name)] * request.n

    def stream(self, request): ...

    def sample_all(self, requests): ...

    async def aclose(self) -> None:
        self.closed += 1


def test_a_judge_is_asked_for_by_name(cli, tmp_path, monkeypatch):
    engines = {"poet": Talker("poet", "Roses are red."), "elder": Talker("elder", "VERDICT: correct")}
    monkeypatch.setattr("thinksmith.engines.open_engine", engines.__getitem__)
    path = written(tmp_path / "e.jsonl", [{"prompt": "Write a line.", "rubric": "it rhymes"}])
    essays = ("eval", f"{path}:kind=judge,answer=none", "-n", 1, "--model", "poet")
    done = cli(*essays)
    assert done.code == 2
    assert "--judge MODEL" in done.err
    done = cli("eval", "arithmetic", "-n", 1, "--model", "poet", "--judge", "elder")
    assert done.code == 2
    assert "leave --judge out" in done.err
    done = cli(*essays, "--judge", "elder")
    assert done.code == 0, done.err
    assert "; judged by elder\n" in done.out
    assert [engine.closed for engine in engines.values()] == [3, 2]
    assert "correct by elder" in cli("traces", "last").out
    assert "1 of 1 judgements of elder" in cli("traces", "last", "--full").out
    engines["poet"].says = engines["elder"].says = "VERDICT: correct"
    assert "judged by poet" in cli(*essays, "--judge", "poet").out  # one engine for both, closed once
    assert engines["poet"].closed == 4
