"""ask and its replay, over a small random model in true architecture."""

import io
import json
import re
import shutil
import sys

import pytest

from thinksmith.cli.screen import clean
from thinksmith.store.store import Store

QUESTION = "What is 27 * 34?"


@pytest.fixture
def model(checkpoints, monkeypatch):
    monkeypatch.setenv("THINKSMITH_MODEL", str(checkpoints["Qwen2"]))
    return str(checkpoints["Qwen2"])


def asked(cli, *arguments):
    """The one JSON object that `--show json` prints."""
    done = cli("ask", *arguments, "--show", "json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_the_same_seed_gives_the_same_tokens_and_all_of_the_trace_is_told(cli, model):
    options = [QUESTION, "--think", 12, "--max-tokens", 40, "--temperature", 0.9]
    one, again, other = (asked(cli, *options, "--seed", seed) for seed in (1, 1, 2))
    assert one["trace"]["token_ids"] == again["trace"]["token_ids"] != other["trace"]["token_ids"]
    trace = one["trace"]
    assert one["problem"]["prompt"] == QUESTION
    assert (trace["model"], trace["sampling"]["temperature"], trace["sampling"]["seed"]) == (model, 0.9, 1)
    assert len(trace["token_ids"]) == len(trace["logprobs"]) <= 40
    assert trace["thinking_status"] == "closed"
    assert one["id"] < again["id"]


def test_what_the_models_makers_advise_is_the_default(cli, model, tmp_path, monkeypatch):
    folder = tmp_path / "advised"
    shutil.copytree(model, folder)
    config = json.loads((folder / "generation_config.json").read_text())
    advice = {"do_sample": True, "temperature": 0.75, "top_p": 0.95, "top_k": 20}
    (folder / "generation_config.json").write_text(json.dumps(config | advice))
    monkeypatch.setenv("THINKSMITH_MODEL", str(folder))
    sampling = asked(cli, QUESTION, "--max-tokens", 8)["trace"]["sampling"]
    assert (sampling["temperature"], sampling["top_p"], sampling["top_k"]) == (0.75, 0.95, 20)
    sampling = asked(cli, QUESTION, "--max-tokens", 8, "--temperature", 0.2)["trace"]["sampling"]
    assert (sampling["temperature"], sampling["top_p"]) == (0.2, 0.95)
    monkeypatch.setenv("THINKSMITH_MODEL", model)
    sampling = asked(cli, QUESTION, "--max-tokens", 8)["trace"]["sampling"]
    assert (sampling["temperature"], sampling["top_p"], sampling["top_k"]) == (0.6, 1.0, 0)


def test_what_is_shown_is_what_was_sampled_and_every_attempt_is_kept(cli, model):
    done = cli("ask", QUESTION, "--think", 12, "--max-tokens", 40)
    with Store.open() as store:
        (run,) = store.runs()
        (stored,) = store.attempts(run.id)
    trace = stored.attempt.trace
    assert (run.kind, run.name, run.status, run.model) == ("ask", QUESTION, "done", model)
    assert run.weights_hash
    assert trace.thinking
    assert trace.answer
    assert done.out == clean(f"<think>\n{trace.thinking}\n</think>\n\n{trace.answer}\n")
    answer_only = cli("ask", QUESTION, "--think", 12, "--max-tokens", 40, "--show", "answer").out
    assert answer_only == clean(f"{trace.answer}\n")


def test_standard_input_is_a_question_like_any_other(cli, model, monkeypatch):
    said = asked(cli, QUESTION, "--max-tokens", 8)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"\ufeff{QUESTION}\r\n".encode())))
    piped = asked(cli, "-", "--max-tokens", 8)
    assert piped["problem"] == said["problem"]
    assert piped["trace"]["token_ids"] == said["trace"]["token_ids"]


def test_a_prefill_begins_the_turn(cli, model):
    trace = asked(cli, QUESTION, "--max-tokens", 8, "--prefill", "Seven times three")["trace"]
    assert trace["thinking"].startswith("Seven times three")
    assert trace["opened"].endswith("Seven times three")


def test_unfinished_thinking_is_said_not_passed_over(cli, model):
    done = cli("ask", QUESTION, "--max-tokens", 8, "--show", "answer")
    assert done.out == ""
    assert done.err == (
        "thinksmith: nothing was answered: the thinking was cut off at 8 tokens; allow more with --max-tokens\n"
    )


def test_a_prompt_that_does_not_fit_is_a_mistake(cli, model):
    done = cli("ask", "1 + " * 2000 + "1")
    assert done.code == 2
    assert "context" in done.err
    assert done.err.count("\n") == 1


def test_a_greedy_answer_is_replayed_token_for_token(cli, model):
    before = asked(cli, QUESTION, "--think", 12, "--max-tokens", 60, "--temperature", 0)
    replays = cli("ask", "--replay", "last", "-n", 2, "--show", "json")
    thought = before["trace"]["thinking_tokens"]
    for line in replays.out.splitlines():
        again = json.loads(line)
        assert again["strategy"] == "replay"
        assert again["trace"]["prompt_ids"] == before["trace"]["prompt_ids"] + before["trace"]["token_ids"][:thought]
        expected = before["trace"]["token_ids"][thought:]
        assert again["trace"]["token_ids"][: len(expected)] == expected
        assert again["trace"]["thinking"] == before["trace"]["thinking"]
    assert len(replays.out.splitlines()) == 2


def test_a_replay_samples_different_answers_to_the_same_thinking_and_counts_them(cli, model):
    asked(cli, QUESTION, "--think", 12, "--max-tokens", 30, "--temperature", 1.2)
    done = cli("ask", "--replay", "last", "-n", 4, "--show", "answer")
    assert done.code == 0
    *answers, tally = done.out.splitlines()
    assert len(answers) == 4
    assert len(set(answers)) > 1
    assert sum(map(int, re.findall(r" ×(\d+)(?=, |$)", tally))) == 4
    with Store.open() as store:
        assert [run.kind for run in store.runs()] == ["replay", "ask"]
        assert store.runs()[0].attempts == 4
    # `last` is what was asked last, not the replay of it.
    assert cli("ask", "--replay", "last", "-n", 4, "--show", "answer").out == done.out


def test_answers_to_a_verifiable_problem_are_judged(cli, model):
    assert cli("eval", "arithmetic", "-n", 1, "--think", 12, "--max-tokens", 60).code == 0
    with Store.open() as store:
        (stored,) = store.attempts("last")
    done = cli("ask", "--replay", stored.id, "-n", 3, "--max-tokens", 20, "--show", "answer")
    assert done.code == 0, done.err
    *answers, _ = done.out.splitlines()
    assert all(answer.endswith(("correct", "wrong", "no answer", "truncated")) for answer in answers)


def test_thinking_is_replayed_under_its_own_weights_only(cli, model, checkpoints):
    asked(cli, QUESTION, "--think", 12, "--max-tokens", 30)
    done = cli("ask", "--replay", "last", "--model", checkpoints["Llama"])
    assert done.code == 2
    assert "other weights" in done.err


def test_unfinished_thinking_cannot_be_replayed(cli, model):
    asked(cli, QUESTION, "--max-tokens", 5)
    done = cli("ask", "--replay", "last")
    assert done.code == 2
    assert "cut off" in done.err


def test_an_evaluation_prints_its_figures_with_their_sizes_and_writes_a_page(cli, model, tmp_path):
    page = tmp_path / "report.html"
    done = cli("eval", "mixed", "-n", 12, "--samples", 2, "--max-tokens", 20, "--think", 5, "--report", page)
    assert done.code == 0, done.err
    assert "12 problems, 24 attempts" in done.out
    assert "truncated" in done.out
    assert "no answer" in done.out
    assert all(family in done.out for family in ("arithmetic", "countdown", "words"))
    assert "\x1b" not in done.out + done.err
    assert "<html" in page.read_text()
    assert str(page) in done.out
    assert cli("eval", "mixed", "-n", 2, "--report", tmp_path).code == 2


def test_gold_that_cannot_be_verified_is_told_and_left_out(cli, model, tmp_path):
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"prompt": "1 + 1", "answer": "2"}\n{"prompt": "1 + 2", "answer": "some, I think"}\n')
    done = cli("eval", f"{mine}:kind=number", "-n", 2, "--max-tokens", 5)
    assert done.code == 0
    assert "1 of 2 gold answers cannot be verified" in done.err
    assert "(95 %, 1 problems)" in done.out
