"""The journal: what it knows after a kill, at any byte."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from agent_scripts import Scripted, calls, tool, yes

from thinksmith.agent.contract import Intent, Result, Tool
from thinksmith.agent.journal import Journal
from thinksmith.agent.loop import Manner
from thinksmith.agent.meter import Limits
from thinksmith.agent.replaying import Recorded
from thinksmith.agent.running import Order, begin, carry_out, open_run, undo
from thinksmith.errors import UserError
from thinksmith.records import Sampling
from thinksmith.store.store import Store

TURNS = (
    "1. put\n2. look",
    calls("put", "First.", text="one"),
    calls("look", n=1),
    calls("put", "Then.", text="two"),
    calls("put", text="three"),
    "All is there.",
)


class Cupboard:
    """A thing with effects that can be counted, asked about, and taken back."""

    def __init__(self) -> None:
        self.things: list[str] = []

    @property
    def tools(self) -> tuple[Tool, ...]:
        async def intend(arguments: Any) -> Intent:
            text = arguments["text"]
            return Intent(f"put {text}", record={"text": text}, kept={"before": "\n".join(self.things).encode()})

        async def put(arguments: Any, intent: Intent | None) -> Result:
            self.things.append(arguments["text"])
            return Result("put")

        async def settled(record: Any) -> Result | None:
            return Result("put") if record["text"] in self.things else None

        async def take_back(record: Any, kept: Any) -> str:
            self.things[:] = kept("before").decode().split("\n") if kept("before") else []
            return f"took {record['text']} out again"

        put_tool = Tool("put", "put", {"type": "object"}, put, "write", intend=intend, settled=settled, undo=take_back)
        return put_tool, tool("look", lambda n: f"{n}: " + ",".join(self.things))


ORDER = Order("Fill it.", "scripted", ("mine",), Sampling(max_tokens=400), Limits(), Manner(), ("put",))


def carried(store: Store, run: Any, engine: Any, tools: Any) -> Any:
    return asyncio.run(carry_out(run, store, engine, tools, yes))


def rest_of(journal: Journal) -> Scripted:
    """The model, going on after the thoughts that the journal knows."""
    return Scripted(*TURNS[len(journal.thoughts) :] or ("unasked",))


def test_a_run_is_steps_in_the_store(tmp_path: Path) -> None:
    cupboard = Cupboard()
    with Store.open(tmp_path / "store.db") as store:
        run = begin(store, ORDER, Scripted("x"), cupboard.tools)
        found = carried(store, run, Scripted(*TURNS), cupboard.tools)
        run.journal.close()
        attempts = [each.attempt for each in store.attempts(run.id)]
        assert [each.sample for each in attempts] == list(range(6))
        assert store.run(run.id).status == "done"
        assert attempts[1].notes["part"] == "act"
        assert attempts[1].trace.thinking == "First."
        assert attempts[1].notes["calls"][0]["call"]["arguments"] == {"text": "one"}
        assert attempts[1].notes["calls"][0]["effect"] == "put one"
        assert found.effects == ("put one", "put two", "put three")
        with pytest.raises(UserError, match="no run of an agent"):
            open_run(store, store.start_run("eval", "x", "m"))


def test_after_a_kill_at_any_byte_nothing_is_done_twice_and_nothing_is_lost(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        whole = Cupboard()
        run = begin(store, ORDER, Scripted("x"), whole.tools)
        expected = carried(store, run, Scripted(*TURNS), whole.tools)
        run.journal.close()
        data = (run.journal.folder / "journal.jsonl").read_bytes()
        lines = data.splitlines(keepends=True)
        head = len(lines[0])
        ends = [sum(map(len, lines[: n + 1])) for n in range(len(lines))]
        for at in sorted({*ends, *(end - 1 for end in ends), *(end + 7 for end in ends)}):
            if not head <= at < len(data):
                continue
            again = begin(store, ORDER, Scripted("x"), whole.tools)
            again.journal.close()
            path = again.journal.folder / "journal.jsonl"
            path.write_bytes(data[:at])
            for kept in (run.journal.folder / "kept").iterdir():
                (again.journal.folder / "kept" / kept.name).write_bytes(kept.read_bytes())
            for done in (False, True):  # an effect that was begun, and was had or not before the kill
                path.write_bytes(data[:at])
                resumed = open_run(store, again.id)
                cupboard = Cupboard()
                begun = [resumed.journal.begun[place].record["text"] for place in sorted(resumed.journal.begun)]
                known = [
                    resumed.journal.begun[place].record["text"]
                    for place in sorted(resumed.journal.results)
                    if place in resumed.journal.begun
                ]
                cupboard.things += begun if done else known
                found = carried(store, resumed, rest_of(resumed.journal), cupboard.tools)
                resumed.journal.close()
                assert cupboard.things == ["one", "two", "three"]
                assert found.answer == expected.answer
                assert found.effects == expected.effects
                assert [step.part for step in found.steps] == [step.part for step in expected.steps]


def test_what_nobody_knows_is_not_done_again(tmp_path: Path) -> None:
    sent: list[str] = []
    post = tool("post", lambda text: sent.append(text) or "sent", "send")
    with Store.open(tmp_path / "store.db") as store:
        run = begin(store, ORDER, Scripted("x"), [post])
        run.journal.close()
        turns = ("plan", calls("post", text="a"), "Sent.")
        with open_run(store, run.id).journal as journal:
            from agent_scripts import trace_of

            from thinksmith.agent.journal import Thought
            from thinksmith.records import Request

            for n, text in enumerate(turns[:2]):
                thought = Thought("plan" if n == 0 else "act", "", trace_of(text, Request(token_ids=(1,))), 0.1)
                journal.thought(n, thought)
            journal.begin((1, 0), {"name": "post", "arguments": {"text": "a"}, "id": "call_1_0"}, "", None)
        again = open_run(store, run.id)
        engine = Scripted("Nobody knows.")
        found = carried(store, again, engine, [post])
        again.journal.close()
        assert sent == []
        assert "nobody knows whether it was done" in " ".join(found.observations[0].text.split())
        assert not found.effects


def test_undo_takes_back_in_reverse(tmp_path: Path) -> None:
    cupboard = Cupboard()
    with Store.open(tmp_path / "store.db") as store:
        run = begin(store, ORDER, Scripted("x"), cupboard.tools)
        carried(store, run, Scripted(*TURNS), cupboard.tools)
        run.journal.close()
        with open_run(store, run.id).journal as journal:
            undone = asyncio.run(undo(journal, cupboard.tools))
            assert [each.line for each in undone] == [f"took {x} out again" for x in ("three", "two", "one")]
            assert cupboard.things == []
            assert asyncio.run(undo(journal, cupboard.tools)) == ()
        with open_run(store, run.id).journal as journal:  # it is remembered
            assert asyncio.run(undo(journal, cupboard.tools)) == ()


def test_a_replay_asks_the_model_again_and_does_nothing(tmp_path: Path) -> None:
    cupboard = Cupboard()
    with Store.open(tmp_path / "store.db") as store:
        run = begin(store, ORDER, Scripted("x"), cupboard.tools)
        carried(store, run, Scripted(*TURNS), cupboard.tools)
        run.journal.close()
        with open_run(store, run.id).journal as journal:
            tools = Recorded(journal).tools()
        again = begin(store, ORDER, Scripted("x"), tools)
        engine = Scripted(*TURNS[:3], calls("look", n=99), "All is there.")
        found = carried(store, again, engine, tools)
        again.journal.close()
        assert cupboard.things == ["one", "two", "three"]
        assert not found.effects
        assert "1: one" in found.steps[2].observations[0].text
        assert "no such call was recorded" in found.steps[3].observations[0].text


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "run", {"run": "x"}), pytest.raises(UserError, match="at work in another process"):
        Journal.open(tmp_path / "run")
    Journal.open(tmp_path / "run").close()


def test_a_journal_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        Journal.open(tmp_path / "no")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.jsonl").write_text("nonsense\n")
    with pytest.raises(UserError, match="no journal"):
        Journal.open(tmp_path / "run")


def test_a_handle_names_no_path(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with Journal.create(tmp_path / "run", {"run": "x"}) as journal:
        for handle in ("../../secret", "/etc/passwd", "..", "", "0-0/../../../secret"):
            assert journal.whole(handle) is None


def test_what_was_kept_is_checked(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "run", {"run": "x"}) as journal:
        intent = Intent("put", record={}, kept={"before": b"old"})
        journal.begin((0, 0), {"name": "put", "arguments": {}}, "", intent)
        assert journal.kept((0, 0), "before") == b"old"
        (path,) = (tmp_path / "run" / "kept").iterdir()
        path.write_bytes(b"new")
        with pytest.raises(UserError, match="was changed"):
            journal.kept((0, 0), "before")
