"""`thinksmith agent`: runs, what is kept of them, going on, running again, taking back, and mistakes in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_endpoint import Endpoint, calls

from thinksmith.cli.agent import _absolute
from thinksmith.store.store import Store

Cli = Callable[..., Any]
PLAN = ("I plan.", "1. Look\n2. Write")
LOOKS = ("List. 2 + 2 = 5", calls("files_list"))
WRITES = ("I write.", "[x] Look\n[ ] Write\n" + calls("files_write", path="b.md", text="one\ntwo\n"))
EDITS = ("I edit.", calls("files_edit", path="a.md", old="old", new="new"))
DONE = ("Done.", "It is done.")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("old\n")
    return tmp_path / "notes"


def arguments(notes: Path, endpoint: Endpoint, *more: object) -> list[object]:
    return ["agent", "Write b.md", "--tools", f"files:{notes}", "--model", endpoint.model, *more]


def run_id() -> str:
    with Store.open() as store:
        return store.runs()[0].id


def test_a_run_is_shown_kept_and_listed(cli: Cli, notes: Path) -> None:
    with Endpoint(PLAN, LOOKS, WRITES, DONE) as endpoint:
        done = cli(*arguments(notes, endpoint, "--yes", "files", "--report", notes.parent / "page.html"))
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    for line in ("plan: [ ] Look; [ ] Write", "→ files_list", "✓ Look", "→ files_write b.md", "It is done."):
        assert line in done.out
    assert "effects   1\n          1  write b.md: 2 lines, a new file\n" in done.out
    assert (notes / "b.md").read_text() == "one\ntwo\n"
    assert "write b.md: 2 lines" in (notes.parent / "page.html").read_text()
    listed = cli("runs").out.splitlines()[1].split()
    assert listed[:2] == [run_id(), "done"]
    assert listed[3:5] == ["4", "–"]
    table = cli("traces", "last").out.splitlines()
    assert table[0].split() == ["attempt", "step", "part", "tokens", "calls", "said"]
    assert [line.split()[2:5:2] for line in table[1:]] == [
        ["plan", "–"],
        ["act", "files_list"],
        ["act", "files_write"],
        ["act", "–"],
    ]
    whole = cli("traces", "last", "--full").out
    assert "step 2, act" in whole
    assert '→ files_write {"path": "b.md"' in whole
    assert "gold" not in whole


def test_without_a_terminal_writing_is_refused_and_told_how(cli: Cli, notes: Path) -> None:
    with Endpoint(WRITES, DONE) as endpoint:
        done = cli(*arguments(notes, endpoint, "--no-plan"))
    assert done.code == 0
    assert "files_write is refused, since there is no terminal to ask at: --yes files_write would allow it" in done.out
    assert "effects   none" in done.out
    assert not (notes / "b.md").exists()


def test_effects_are_taken_back_the_last_first(cli: Cli, notes: Path) -> None:
    with Endpoint(WRITES, EDITS, DONE) as endpoint:
        assert cli(*arguments(notes, endpoint, "--no-plan", "--yes", "files")).code == 0
    assert (notes / "a.md").read_text() == "new\n"
    done = cli("agent", "--undo", "last")
    assert (done.code, done.out.splitlines()) == (0, ["✓ a.md is as it was before", "✓ b.md is removed again"])
    assert ((notes / "a.md").read_text(), (notes / "b.md").exists()) == ("old\n", False)
    assert "nothing is left to take back" in cli("agent", "--undo", "last").out


def test_what_cannot_be_taken_back_is_said(cli: Cli, notes: Path) -> None:
    with Endpoint(WRITES, EDITS, ("", calls("python", code="print(6 * 7)")), DONE) as endpoint:
        more = ("--tools", "python", "--no-plan", "--yes", "files,python")
        assert cli(*arguments(notes, endpoint, *more)).code == 0
    (notes / "a.md").write_text("mine\n")
    done = cli("agent", "--undo", run_id()[:15])
    assert done.code == 1
    python, edit, write = done.out.splitlines()
    assert python.startswith("✗ run 1 line of Python")
    assert python.endswith("cannot be undone")
    assert "a.md was changed since" in edit
    assert write == "✓ b.md is removed again"
    assert (notes / "a.md").read_text() == "mine\n"


def test_a_finished_run_says_so_and_gives_its_answer(cli: Cli, notes: Path, tmp_path: Path) -> None:
    with Endpoint(LOOKS, DONE) as endpoint:
        assert cli(*arguments(notes, endpoint, "--no-plan")).code == 0
    with Store.open() as store:  # another run is the last one now
        store.start_run("eval", "x", "tiny")
    done = cli("agent", "--resume", "last", "--report", tmp_path / "page.html")
    assert done.code == 0
    assert done.out.splitlines()[0] == "It is done."
    assert "is finished, so nothing is left to do: it answered" in done.err
    assert "It is done." in (tmp_path / "page.html").read_text()


def test_an_engine_that_fails_is_one_line_and_the_run_goes_on(cli: Cli, notes: Path) -> None:
    with Endpoint(WRITES, DONE, refused=1) as endpoint:
        done = cli(*arguments(notes, endpoint, "--no-plan", "--yes", "files"))
        assert done.code == 2
        assert "out of order" in done.err
        assert f"thinksmith agent --resume {run_id()} goes on" in done.err
        assert done.err.count("\n") == 1
        endpoint.refused = 9
        endpoint.replies = (DONE,)
        again = cli("agent", "--resume", "last")
    assert (again.code, again.err) == (0, "")
    assert "1 step is done: going on" in again.out
    assert again.out.count("files_write") == 1  # the list of tools: it was not called again
    assert "1  write b.md: 2 lines, a new file" in again.out
    with Store.open() as store:
        assert [each.attempt.trace.answer for each in store.attempts("last")][-1] == "It is done."


def test_an_endpoint_that_is_gone_is_one_line(cli: Cli, notes: Path) -> None:
    with Endpoint(WRITES) as endpoint:
        model = endpoint.model
    done = cli("agent", "x", "--model", model, "--tools", f"files:{notes}")
    assert done.code == 2
    assert "nothing answers" in done.err
    assert done.err.count("\n") == 1


def program(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "thinksmith", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on_from_another_folder(
    stop: signal.Signals, cli: Cli, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(notes.parent)
    with Endpoint(WRITES, DONE, held=1) as endpoint:
        child = program(
            "agent", "Write b.md", "--tools", "files:notes", "--model", endpoint.model, "--no-plan", "--yes", "files"
        )
        end = time.monotonic() + 60
        while len(endpoint.asked) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(child.pid, stop)
        _, err = child.communicate(timeout=60)
        if stop == signal.SIGINT:
            told = f"thinksmith: interrupted: 1 step kept; thinksmith agent --resume {run_id()} goes on\n"
            assert (child.returncode, err) == (130, told)
        (notes / "b.md").write_text("mine now\n")  # so a second write would show
        endpoint.go.set()
        monkeypatch.chdir("/")
        done = cli("agent", "--resume", run_id(), "--steps", "5")
    assert done.code == 0, done.err
    assert (notes / "b.md").read_text() == "mine now\n"
    assert "1  write b.md: 2 lines, a new file" in done.out


def test_a_replay_asks_again_and_does_nothing(cli: Cli, notes: Path) -> None:
    with Endpoint(LOOKS, WRITES, DONE) as endpoint:
        assert cli(*arguments(notes, endpoint, "--no-plan", "--yes", "files")).code == 0
    source = run_id()
    (notes / "b.md").unlink()
    read = ("Another.", calls("files_read", path="a.md"))
    with Endpoint(LOOKS, WRITES, read, ("End.", "It was done.")) as endpoint:
        done = cli("agent", "--replay", source, "--model", endpoint.model)
        told = str(endpoint.asked[-1]["messages"])
    assert (done.code, done.err) == (0, "")
    assert run_id() != source
    assert "characters, 0.00 s  a.md 4" in done.out
    assert "this is a replay, and no such call was recorded" in done.out
    assert "no such call was recorded" in told
    assert "note      1 call not made in the run that is replayed" in done.out
    assert "effects   none" in done.out
    assert not (notes / "b.md").exists()
    assert "nothing is left to take back" in cli("agent", "--undo", run_id()).out


def test_a_replay_that_was_stopped_goes_on_as_one(cli: Cli, notes: Path) -> None:
    """What tools gave comes in its order, and nothing is written: although --yes stands in the run that is replayed."""
    twice = (WRITES, LOOKS, EDITS, ("", calls("files_write", path="c.md", text="c\n")), LOOKS, DONE)
    with Endpoint(*twice) as endpoint:
        assert cli(*arguments(notes, endpoint, "--no-plan", "--yes", "files")).code == 0
    assert cli("agent", "--undo", "last").code == 0
    with Endpoint(WRITES, LOOKS, LOOKS, DONE, refused=2) as endpoint:
        assert cli("agent", "--replay", "last", "--model", endpoint.model).code == 2
        endpoint.refused, endpoint.replies = 99, (LOOKS,) * 3 + (LOOKS, DONE)
        done = cli("agent", "--resume", "last")
    assert done.code == 0
    assert "3 lines" in done.out  # a.md, b.md, c.md: what the second look gave
    assert [path.name for path in notes.iterdir()] == ["a.md"]


def test_going_on_takes_all_from_the_run_but_its_limits(cli: Cli, notes: Path) -> None:
    with Endpoint(LOOKS, WRITES, DONE, refused=2) as endpoint:
        assert cli(*arguments(notes, endpoint, "--no-plan", "--seed", 3)).code == 2
        for flags, told in {
            ("another task",): "another task",
            ("--model", "tiny"): "another --model",
            ("--seed", "4"): "another --seed",
            ("--tools", "calculator"): "another --tools",
            ("--think", "7"): "another --think",
            ("--steps", "1"): "--steps 1: 2 steps are used already",
            ("--tokens", "128"): "--tokens 128: 120 tokens are used already",
            ("--seconds", "0.0001"): "seconds are used already",
        }.items():
            done = cli("agent", "--resume", "last", *flags)
            assert (done.code, done.err.count("\n")) == (2, 1), done
            assert told in done.err
        endpoint.refused = 9
        assert cli("agent", "Write b.md", "--resume", "last", "--seed", 3, "--steps", 3).code == 0
        seeds = [body["seed"] for body in endpoint.asked]
    assert len(set(seeds[:3])) == 3
    assert seeds[2] == seeds[3]  # the step that failed is asked with the seed that it had


def test_a_model_is_asked_as_it_was_trained(cli: Cli, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    from thinksmith.agent.loop import Manner
    from thinksmith.agent.running import open_run
    from thinksmith.agent.trained import Trained, write_manner

    shutil.copytree(checkpoints["Qwen2"], tmp_path / "model")
    trained = Trained(Manner(planning=False, reflect_every=0, instructed=False, described=False), "ids", 2)
    write_manner(tmp_path / "model", trained)
    command = ("agent", "2 * 3", "--tools", "calculator", "--model", tmp_path / "model", "--max-tokens", 8)
    assert cli(*command).code == 0
    assert cli(*command, "--steps", 1, "--reflect-every", 4).code == 0
    with Store.open() as store:
        (asked, other) = (open_run(store, name) for name in ("last-1", "last"))
        with asked.journal, other.journal:
            order = asked.order
            assert (order.manner, order.history, order.limits.steps) == (trained.manner, "ids", 2)
            assert (other.order.manner.reflect_every, other.order.limits.steps) == (4, 1)


def test_limits_end_it_with_what_is_known(cli: Cli, notes: Path) -> None:
    with Endpoint(LOOKS, ("", calls("files_read", path="a.md")), ("Now.", "Half of it.")) as endpoint:
        done = cli(*arguments(notes, endpoint, "--no-plan", "--steps", 2))
    assert done.code == 0
    assert "■ has to end: the limit of 2 steps is reached" in done.out
    assert "\nHalf of it.\n" in done.out
    assert "ended     the limit of 2 steps is reached" in done.out


NOBODY = "vllm/m@http://127.0.0.1:9"
MISTAKES = {
    ("agent",): "there is no task",
    ("agent", "x", "--tools", "filez:y"): "did you mean 'files'",
    ("agent", "x", "--tools", "files:/nowhere"): "/nowhere",
    ("agent", "x", "--model", "nope/nope/nope"): "nope",
    ("agent", "x", "--model", "tiny", "--tools", "calculator"): "has a context of 1,024 tokens",
    ("agent", "x", "--tools", "calculator", "--yes", "calculater", "--model", NOBODY): "did you mean 'calculator'",
    ("agent", "x", "--steps", "0"): "steps",
    ("agent", "x", "--cost", "1", "--model", "tiny"): "there is no price for tiny",
    ("agent", "x", "--tokens", "5", "--model", NOBODY): "at least 128 tokens",
    ("agent", "x", "--report", "page.md"): "must end in .html",
    ("agent", "--resume", "a", "--undo", "b"): "--resume and --undo: give one of them",
    ("agent", "--resume", "last"): "no agent has run yet",
    ("agent", "--replay", "nope"): "holds no run yet",
    ("agent", "x", "--undo", "nope"): "--undo takes nothing else: leave the task out",
}  # fmt: skip


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line(command: tuple[str, ...], cli: Cli) -> None:
    done = cli(*command)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert MISTAKES[command] in done.err
    with Store.open() as store:
        assert not store.runs()  # nothing was begun


def test_a_run_of_another_kind_is_no_agents(cli: Cli, own_store: Path) -> None:
    with Store.open() as store:
        other = store.start_run("eval", "x", "tiny")
    for flag in ("--resume", "--replay", "--undo"):
        done = cli("agent", flag, other)
        assert (done.code, done.out) == (2, "")
        assert "is no run of an agent but of kind eval" in done.err


def test_files_are_kept_by_their_whole_paths() -> None:
    assert _absolute("files:a") == f"files:{os.getcwd()}/a"
    assert _absolute("sql:~/a.db") == f"sql:{Path.home()}/a.db"
    for same in ("sql:postgresql://db/a", "http:example.org", "calculator", "mcp:server a", "mine:tools"):
        assert _absolute(same) == same


def test_help_of_the_command_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "sqlalchemy", "numpy", "altair", "rich", "httpx", "jinja2", "mcp"}
    code = "import sys; from thinksmith.cli.main import run; run(['agent', '--help']); "
    code += f"print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
