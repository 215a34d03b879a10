"""`thinksmith scale` as a user types it: charts, reports, mistakes in one line."""

import json
import os
import signal
import subprocess
import time

import pytest

OFF = [[(at + k) % 3 // 2 for k in range(4)] for at in range(12)]  # a third of the answers is off by one
ROWS = [
    {
        "problem": f"What is {at} + 1?",
        "answer": str(at + 1),
        "responses": [f"The answer is {at + 1 + off}." for off in OFF[at]],
        "reward_model_scores": [1.0 - off for off in OFF[at]],
    }
    for at in range(12)
]


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "said.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return f"{path}:kind=number"


def test_recorded_attempts_make_a_chart_and_a_report(cli, recorded, tmp_path):
    report = tmp_path / "page.json"
    done = cli("scale", "--recorded", recorded, "--strategies", "single,vote,best_of:by=recorded,pass",
               "--reach", "0.9", "--report", report)  # fmt: skip
    assert done.code == 0, done.err
    assert "accuracy over sampled tokens a problem" in done.out
    assert "the cheapest way to 90%: best_of@2:by=recorded" in done.out
    assert "characters over 4" in done.out
    told = json.loads(report.read_text(encoding="utf-8"))
    best = {each["strategy"]: each["accuracy"]["mean"] for each in told["points"] if each["size"] == 4}
    assert best["best_of:by=recorded"] == pytest.approx(1)
    assert best["pass"] == pytest.approx(1)


def test_a_grid_is_made_once_and_drawn_again_from_the_store(cli):
    grid = ["scale", "arithmetic:digits=1", "--models", "tiny", "--budgets", "0,none", "--samples", "2", "-n", "4",
            "--max-tokens", "80", "--strategies", "single,vote"]  # fmt: skip
    first = cli(*grid)
    assert first.code == 0, first.err
    runs = json_runs(first.out)
    assert len(runs) == 2
    again = cli(*grid, "--x", "flops")
    assert again.code == 0, again.err
    assert json_runs(again.out) == runs
    assert "FLOPs are 2 × parameters" in again.out
    from_store = cli("scale", "--runs", ",".join(runs), "--strategies", "single,vote")
    assert from_store.code == 0, from_store.err
    assert "at once" in from_store.out
    assert json_runs(from_store.out) == runs


def json_runs(text):
    return sorted({word for line in text.splitlines() for word in line.split() if word.startswith("eval-")})


MISTAKES = {
    "nothing named": ([], "name one thing to draw"),
    "two things named": (["chains", "--runs", "last"], "name one thing to draw"),
    "unknown strategy": (["chains", "--strategies", "votes"], "did you mean 'vote'"),
    "a strategy of its own": (["chains", "--strategies", "refine"], "thinksmith eval --strategy refine"),
    "k larger than samples": (
        ["chains", "--samples", "4", "--strategies", "vote@8"],
        "k = 8 is larger than --samples 4",
    ),
    "sizes larger than samples": (["chains", "--samples", "4", "--sizes", "2,8"], "k = 8 is larger than --samples 4"),
    "no size": (["chains", "--sizes", "none"], "--sizes takes numbers"),
    "no budget": (["chains", "--budgets", "lots"], "'lots' is no number of thinking tokens"),
    "no accuracy": (["chains", "--reach", "90"], "such as 0.9 or 90%"),
    "a report of no kind": (["chains", "--report", "page.pdf"], "must end in .html"),
    "unknown model": (["chains", "--models", "tyny"], "did you mean tiny"),
    "no run": (["--runs", "last"], "no run yet"),
    "no file": (["--recorded", "nowhere.jsonl"], "nowhere.jsonl"),
    "unknown axis": (["chains", "--x", "euros"], "'euros' is not one of"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(mistake, cli):
    arguments, told = MISTAKES[mistake]
    done = cli("scale", *arguments)
    assert done.code == 2, done
    assert done.err.count("\n") == 1
    assert told.lower() in done.err.lower()


def test_runs_that_are_no_pool_are_told(cli, recorded, filled):
    mixed = cli("scale", "--runs", filled["asked"])
    assert mixed.code == 2
    assert "no problem with a usable gold answer" in mixed.err
    scores = cli("scale", "--recorded", recorded, "--strategies", "best_of")
    assert "write best_of:by=recorded" in scores.err
    many = cli("scale", "--recorded", recorded, "--strategies", "vote@5")
    assert "k = 5 is larger than the 4 samples" in many.err


def test_ctrl_c_keeps_what_is_finished(program, own_store):
    command = [program, "scale", "mixed", "--models", "tiny", "--samples", "8", "-n", "60", "--strategies", "single"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    from thinksmith.store.store import Store

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.2)
        if own_store.exists():
            with Store.open(own_store) as store:
                if any(run.attempts for run in store.runs()):
                    break
    started.send_signal(signal.SIGINT)
    _, told = started.communicate(timeout=120)
    assert started.returncode == 130, told
    assert "of 480 attempts are kept, and the same command goes on with them" in told
