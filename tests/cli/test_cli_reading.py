"""problems, runs, traces, export, audit: what they print of what is there."""

import io
import json
import re
import sys

import pytest

from thinksmith.problems.datasets import DATASETS
from thinksmith.problems.families import FAMILIES
from thinksmith.store.export import read_jsonl
from thinksmith.store.store import Store


def lines(done):
    assert done.code == 0, done
    assert "\x1b" not in done.out
    return done.out.splitlines()


def test_without_a_command_the_help_and_nothing_else_is_printed(cli):
    assert cli().out == cli("--help").out
    assert cli().code == 0


def test_every_family_and_data_set_is_listed_with_its_settings(cli):
    out = cli("problems").out
    for family in FAMILIES.values():
        assert family.about in out
        assert all(parameter in out for parameter in family.parameters)
    assert all(name in out for name in DATASETS)


def test_problems_are_shown_with_their_answers(cli):
    shown = lines(cli("problems", "arithmetic:digits=1,op=add", "--sample", 4, "--seed", 3))
    heads = [line for line in shown if line.startswith("arithmetic/test/")]
    assert len(heads) == 4
    for head in heads:
        question, answer = shown[shown.index(head) + 1 : shown.index(head) + 3]
        a, b = map(int, re.findall(r"\d+", question))
        assert answer == f"→ {a + b}"
    assert shown == lines(cli("problems", "arithmetic:digits=1,op=add", "--sample", 4, "--seed", 3))
    assert shown != lines(cli("problems", "arithmetic:digits=1,op=add", "--sample", 4, "--seed", 4))


def test_the_gold_of_a_set_is_checked(cli, tmp_path):
    good, bad = '{"prompt": "1 + 1", "answer": "2"}\n', '{"prompt": "1 + 1", "answer": "two or so, I think"}\n'
    file = tmp_path / "mine.jsonl"
    file.write_text(good)
    assert lines(cli("problems", file, "--check")) == ["1 problems, 0 without a gold answer to verify by"]
    file.write_text(good + bad.replace("1 + 1", "1 + 2") + good.replace("1 + 1", "2"))
    done = cli("problems", f"{file}:kind=number", "--check")
    assert done.code == 1
    assert done.out == "3 problems, 1 without a gold answer to verify by\n"
    assert f"{file}:2" in done.err


def test_runs_come_latest_first_and_tell_what_they_hold(cli, filled):
    head, asked, sums = lines(cli("runs"))
    assert head.split() == ["run", "status", "model", "attempts", "correct", "name"]
    assert asked.split() == [filled["asked"], "running", "tiny", "1", "–", "27", "*", "34"]
    assert sums.split() == [filled["sums"], "done", "tiny", "30", "66.7%", "arithmetic"]
    assert [line.split()[0] for line in lines(cli("runs", "--kind", "eval"))] == ["run", filled["sums"]]
    assert "1 of 2" in lines(cli("runs", "--limit", 1))[-1]


def test_an_empty_store_is_no_mistake(cli):
    assert "no run" in lines(cli("runs"))[0]


def test_traces_filter_and_order(cli, filled):
    everything = lines(cli("traces", filled["sums"], "--limit", 0))
    assert len(everything) == 31
    wrong = lines(cli("traces", filled["sums"], "--wrong", "--limit", 0))
    assert [line.split()[:3] for line in wrong[1:]] == [[str(i + 1), "wrong", str(i)] for i in range(0, 30, 3)]
    longest = lines(cli("traces", filled["sums"], "--longest", "--limit", 4))
    assert [int(line.split()[2]) for line in longest[1:5]] == [29, 28, 27, 26]
    assert "there are more" in longest[-1]
    assert len(lines(cli("traces", filled["sums"], "--wrong", "--limit", 10))) == 11


def test_full_traces_are_printed_whole(cli, filled):
    out = cli("traces", filled["asked"], "--full").out
    assert "What is 27 * 34?" in out
    assert "7 * 3 = 22, so 27 * 30 = 810 and 27 * 4 = 108.\nCheck: 810 + 108 = 918.\nThe answer is 918." in out


def test_an_export_holds_the_attempts(cli, filled, tmp_path):
    file = tmp_path / "sums.jsonl"
    assert lines(cli("export", filled["sums"], file)) == [f"30 attempts of {filled['sums']} in {file}"]
    with Store.open() as store:
        assert list(read_jsonl(file)) == [stored.attempt for stored in store.attempts(filled["sums"])]
    assert cli("export", "last", tmp_path / "a.parquet").out.startswith("1 attempt of ask-")


def test_an_audit_marks_equations_and_the_first_false_one(cli, filled):
    out = cli("audit", 31).out
    assert "7 * 3 = 22 ✗ first false: 21 is not 22" in out
    assert out.count("✓") == 3
    assert out.count("▸") == 2  # where it stands, and the legend
    assert "4, of which 3 true" in out
    assert re.search(r"^check +Check: 810 \+ 108 = ▸918 ✓\.$", out, re.MULTILINE)


def test_an_audit_as_json_is_what_the_audit_found(cli, filled):
    found = json.loads(cli("audit", 31, "--json").out)
    assert [equation["true"] for equation in found["equations"]] == [False, True, True, True]
    assert found["answer"] == "918"
    assert found["has_check"]


def test_a_text_is_split_at_its_tags_and_a_number_may_be_a_file(cli, tmp_path, monkeypatch):
    text = "<think>\n3 + 4 = 7.\n</think>\n\nThe answer is 8."
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1").write_text(text)
    from_file = cli("audit", "1")
    assert "another value than the answer" in from_file.out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert cli("audit", "-").out == from_file.out
    (tmp_path / "1").write_text("3 + 4 = 7.")
    assert "disagreement" not in cli("audit", "1").out


def test_the_audited_text_loses_no_word(cli, filled, tmp_path):
    text = "Okay, 2 + 2 = 5.\n\nWait, 2 + 2 = 4.\n  So the answer is 4.\n"
    (tmp_path / "t").write_text(text)
    shown = cli("audit", tmp_path / "t").out.split("\n\nequations")[0]
    without_marks = re.sub(r" ✗ first false: \S+ is not \d+| ✓|▸", "", shown)
    without_labels = re.sub(r"^(restate|plan|compute|check|backtrack|conclude)?  +", "", without_marks, flags=re.M)
    assert without_labels.split() == text.split()


@pytest.mark.parametrize("control", ["\x1b[31m", "\x07", "\x9b2J"])
def test_control_characters_of_a_model_do_not_reach_the_terminal(control, cli, tmp_path):
    (tmp_path / "t").write_text(f"1 + 1 = 2 {control} so 2")
    assert control not in cli("audit", tmp_path / "t").out
