"""`thinksmith collect`: over the embedded model and over endpoints on loopback; mistakes; Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thinksmith.store.store import Store

FEW = ("arithmetic:digits=1", "-n", 6, "--max-tokens", 64, "--teacher", "tiny")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    from _teacher import teacher

    with teacher(0.01) as base:
        yield f"endpoint/m@{base}"


@pytest.fixture
def sums(tmp_path: Path) -> str:
    path = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{a} + {a + 2}", "answer": str(2 * a + 2)} for a in range(30)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_traces_of_the_embedded_model(cli: Callable[..., object], own_store: Path) -> None:
    done = cli("collect", *FEW, "-k", 2)
    assert done.code == 0, done.err
    assert re.search(r"collected 12 attempts at 6 problems, \d+ correct", done.out)
    assert re.search(r"^tiny +12 +\d+\.\d% +\[", done.out, flags=re.MULTILINE)
    with Store.open() as store:
        run = store.run("last")
        assert (run.kind, run.status, run.attempts, run.model) == ("collect", "done", 12, "tiny")
        assert run.id in done.out
        assert all(each.attempt.problem.id.startswith("arithmetic/train/") for each in store.attempts(run.id))
    again = cli("collect", *FEW, "-k", 2)
    assert again.code == 0
    assert run.id in again.out


def test_strategies_that_stop(cli: Callable[..., object], own_store: Path) -> None:
    done = cli("collect", *FEW, "--strategy", "correct", "-k", 2, "--most", 5)
    assert done.code == 0, done.err
    assert "have what correct@2:most=5 wants" in done.out
    assert "pass rates are over the first 2 draws" in done.out
    first = cli("collect", *FEW, "--strategy", "first", "-k", 3)
    assert "the first draw of each problem" in first.out


def test_several_endpoints_of_which_one_is_dead(
    cli: Callable[..., object], own_store: Path, endpoint: str, sums: str
) -> None:
    done = cli("collect", sums, "--teacher", f"{endpoint}*8", "--teacher", "vllm/m@http://127.0.0.1:9*4", "-k", 3)
    assert done.code == 0, done.err
    assert "collected 90 attempts at 30 problems" in done.out
    assert "vllm/m@http://127.0.0.1:9 is set aside after 3 failures in a row" in done.err
    assert re.search(r"^vllm/m@http://127.0.0.1:9 +0 .* [1-9]\d*$", done.out, flags=re.MULTILINE)
    assert re.search(r"^endpoint/m@http://127.0.0.1:\d+ +90 +\d+\.\d% +\[.*\$0 +0$", done.out, flags=re.MULTILINE)


def test_the_estimate_the_budget_and_how_it_goes_on(
    cli: Callable[..., object], own_store: Path, endpoint: str, sums: str
) -> None:
    command = ("collect", sums, "--teacher", endpoint, "-k", 3, "--max-tokens", 100)
    told = cli(*command, "--estimate")
    assert told.code == 0, told.err
    assert "estimate  about 90 attempts, 1,800 tokens, $0.00; told from the first 16 attempts" in told.out
    assert "without --estimate goes on" in told.out
    stopped = cli(*command, "--budget", "1k tokens")
    assert stopped.code == 0, stopped.err
    assert "going on with 16 attempts that are kept" in stopped.err
    assert re.search(r"stopped   at the budget: 9\d\d tokens|1,000 tokens of 1,000 tokens are spent", stopped.out)
    whole = cli(*command, "--budget", "1M tokens")
    assert whole.code == 0
    assert "collected 90 attempts" in whole.out
    assert "stopped" not in whole.out
    with Store.open() as store:
        assert len(store.runs()) == 1
    given = cli(*command, "--seed", 1, "--expect-tokens", 500, "--estimate")
    assert given.out == ""
    assert "about 90 attempts, 45.0k tokens" in given.err


def test_money(
    cli: Callable[..., object],
    own_store: Path,
    endpoint: str,
    sums: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "prices.toml").write_text('["endpoint/m"]\nprompt = 100.0\noutput = 5000.0\n')
    (tmp_path / "config.toml").write_text(f'prices = "{tmp_path / "prices.toml"}"\n')
    monkeypatch.setenv("THINKSMITH_CONFIG", str(tmp_path / "config.toml"))
    command = ("collect", sums, "--teacher", endpoint, "-k", 3, "--max-tokens", 100)
    stopped = cli(*command, "--budget", "3usd")
    assert stopped.code == 0, stopped.err
    spent = re.search(r"at the budget: \$(\d\.\d\d) of \$3\.00 are spent", stopped.out)
    assert spent
    assert 2.4 < float(spent[1]) <= 3
    whole = cli(*command)
    assert "$9.081" in whole.out  # 90 x (20 x 0.005 + 9 x 0.0001)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-k", 0), "k must be 1 or more"),
        (("--strategy", "fisrt"), "did you mean 'first'"),
        (("--strategy", "correct", "-k", 4, "--most", 3), "larger most"),
        (("--most", 3), "most is for the strategy correct"),
        (("--budget", "5"), "5usd or 2Mtokens"),
        (("--budget", "10 tokens"), "does not do for one attempt"),
        (("--budget", "5usd"), "cost nothing"),
        (("--temperature", 0), "temperature 0"),
        (("--teacher", "tiny*2"), "named 2 times"),
        (("--teacher", "tiny-base*0"), "1 to 4096"),
        (("--teacher", "tyny"), "did you mean tiny"),
        (("--into", "last"), "no run yet"),
    ],
)
def test_mistakes(cli: Callable[..., object], own_store: Path, arguments: tuple[object, ...], said: str) -> None:
    done = cli("collect", *FEW, *arguments)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert said in done.err


def test_an_empty_file_and_problems_without_gold(cli: Callable[..., object], own_store: Path, tmp_path: Path) -> None:
    empty, bare = tmp_path / "empty.jsonl", tmp_path / "bare.jsonl"
    empty.write_text("")
    bare.write_text('{"prompt": "What is 1 + 1?"}\n')
    done = cli("collect", empty, "--teacher", "tiny")
    assert (done.code, done.err.count("\n")) == (2, 1)
    done = cli("collect", f"{bare}:answer=none", "--teacher", "tiny", "--strategy", "first")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no gold answer" in done.err


def test_nothing_answers(cli: Callable[..., object], own_store: Path, sums: str) -> None:
    done = cli("collect", sums, "--teacher", "vllm/m@http://127.0.0.1:9")
    assert done.code == 2
    assert "is the server running?" in done.err.splitlines()[-1]


def test_ctrl_c_tells_what_is_kept_and_the_same_command_goes_on(own_store: Path, endpoint: str, sums: str) -> None:
    command = [sys.executable, "-m", "thinksmith", "collect", sums, "--teacher", f"{endpoint}*1", "-k", "8"]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    with Store.open() as store:
        deadline = time.monotonic() + 120
        while (not (runs := store.runs()) or runs[0].attempts < 5) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        count = len(store.done("last"))
        assert child.returncode == 130
        assert out == ""
        assert err.splitlines()[-1] == (
            f"thinksmith: interrupted: {count} attempts are kept, and the same command goes on with them"
        )
        assert 5 <= count < 240
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert f"going on with {count} attempts that are kept" in done.stderr
        assert store.run("last").attempts == 240
        assert len(store.runs()) == 1


def test_on_a_terminal_the_teachers_are_shown_while_they_work(
    program: Path, own_store: Path, endpoint: str, sums: str
) -> None:
    from test_cli_program import on_terminal

    seen = on_terminal(program, "collect", sums, "--teacher", f"{endpoint}*2", "-k", "4", COLUMNS="160")
    for shown in ("under way", "of 120 attempts", "estimate: about 120 attempts", "collected 120 attempts"):
        assert shown in seen, seen
