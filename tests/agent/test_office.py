"""The office: its worlds, and the checks of the state in which they are left."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.agent.contract import ToolFault
from thinksmith.agent.office.checking import FOLDER, judge
from thinksmith.agent.office.world import open_world as build
from thinksmith.agent.office.world import snapshot
from thinksmith.agent.office.worlds import open_world
from thinksmith.errors import UserError
from thinksmith.problems.office import office
from thinksmith.problems.office.task import lines, table
from thinksmith.records import Problem, Verdict

FILES = {"in.txt": "as it is\n", "sub/other.txt": "left alone\n"}


def task(wanted: dict[str, Any] | None = None, answer: dict[str, Any] | None = None) -> Problem:
    meta = {"world": "office", "files": FILES, "database": "", "tables": {}, "wanted": wanted or {}, "answer": answer}
    return Problem("agent/office/test/x", "Do it.", None, "task", meta)


def left(problem: Problem, changed: dict[str, str | bytes | None], answer: str = "") -> Verdict:
    """The verdict on the task's folder after these changes; None removes a file."""
    before = {FOLDER + path: text.encode() for path, text in FILES.items()}
    after = dict(before)
    for path, text in changed.items():
        if text is None:
            del after[FOLDER + path]
        else:
            after[FOLDER + path] = text.encode() if isinstance(text, str) else text
    return judge(problem, before, after, answer)


# --- checks: what may vary, and what may not

TABLE = table(("a", "b"), [("x", "1.50"), ("y", "007")])
VALUE = {"n": 2, "list": [True, None, "s"], "f": 1.5}
PRINTS = {"prints": "3\n", "probe": "print(given.double(21))", "tells": "42\n"}
PROGRAM = "def double(x):\n    return 2 * x\n\n\nprint(3)\n"
CASES: list[tuple[dict[str, Any], list[str | bytes], list[str | bytes]]] = [
    (
        {"text": "one\n\n  two\n"},
        ["one\n\n  two\n", "one\n\n  two", "one \r\n\r\n  two\r\n\r\n", "\ufeffone\n\n  two\n"],
        ["", "one\n  two\n", "one\n\ntwo\n", "one\n\n  two\nthree\n", "One\n\n  two\n", b"\xff\xfe"],
    ),
    (lines(["b", "a"]), ["a\nb\n", "b\na", "\n b \n\na\n"], ["a\n", "a\nb\nc\n", "a\nb\nb\n", "ab\n", "- a\n- b\n"]),
    (lines(["b", "a"], ordered=True), ["b\na\n", "b\r\na"], ["a\nb\n", "b\n", "b\na\nb\n"]),
    (
        {"number": "1234.50"},
        ["1234.50\n", "1234.5", "1,234.50\n", "  1234.500  \n"],
        ["1234.51\n", "-1234.50\n", "1234.50\n1235.50\n", "1234.50 or 1235.50\n", "the sum\n", "", "1234.50\n" * 5],
    ),
    (
        TABLE,
        ["a,b\nx,1.50\ny,007\n", "a,b\ny,007\nx,1.5\n", 'A, B\n"x", 1.500\r\ny,007\r\n'],
        [
            "a,b\nx,1.50\n",
            "b,a\n1.50,x\n007,y\n",
            "x,1.50\ny,007\n",
            "a,b\nx,1.50\ny,7\n",
            "a,b\nx,1.50\ny,007\nz,1\n",
            "",
        ],
    ),
    (
        TABLE | {"ordered": True},
        ["a,b\nx,1.5\ny,007\n"],
        ["a,b\ny,007\nx,1.50\n"],
    ),
    (
        {"json": VALUE},
        [json.dumps(VALUE), json.dumps(VALUE, indent=4), '{"f": 1.50, "list": [true, null, "s"], "n": 2.0}\n'],
        [
            json.dumps(VALUE | {"n": "2"}),
            json.dumps(VALUE | {"n": True}),
            json.dumps(VALUE | {"more": 1}),
            json.dumps(VALUE | {"list": [1, None, "s"]}),
            json.dumps(VALUE | {"list": [None, True, "s"]}),
            "[" * 100_000,
            f"```json\n{json.dumps(VALUE)}\n```",
            "",
        ],
    ),
    (
        {"runs": PRINTS},
        [PROGRAM, "double = lambda x: x + x\nprint(3)", PROGRAM + "raise SystemExit(0)\n"],
        [
            "print(3)\n",
            "def double(x):\n    return 42\n\n\nprint(4)\n",
            "def double(x):\n    return x\n\n\nprint(3)\n",
            "def double(x:\n",
            "print(3)\nprint(42)\n",
            "import sys\nprint(3)\nsys.exit(1)\n",
        ],
    ),
]


@pytest.mark.parametrize(
    ("check", "good", "bad"), CASES, ids=[next(iter(case[0])) + str(at) for at, case in enumerate(CASES)]
)
def test_harmless_variation_is_accepted_and_nothing_else(check, good, bad):
    problem = task({"out.txt": check})
    for text in good:
        assert left(problem, {"out.txt": text}).correct, text
    for text in bad:
        found = left(problem, {"out.txt": text})
        assert (found.status, found.score) == ("wrong", 0.0), text
        assert found.reason.startswith("out.txt "), found.reason
    assert left(problem, {}).reason == "out.txt is not there"


def test_a_program_cannot_forge_what_it_is_asked():
    """It is asked from outside, by a program that it does not see, and what it prints itself does not count."""
    forged = "print(3)\nimport atexit\natexit.register(lambda: print(42))\n\n\ndef double(x):\n    print(42)\n"
    assert left(task({"p.py": {"runs": PRINTS}}), {"p.py": forged}).status == "wrong"


@given(st.text(max_size=200), st.sampled_from([case[0] for case in CASES if "runs" not in case[0]]))
def test_no_file_breaks_a_check(text, check):
    found = left(task({"out.txt": check}), {"out.txt": text.encode("utf-8", "replace")})
    assert found.status in ("correct", "wrong")
    assert found.reason.isprintable()
    assert len(found.reason) <= 200


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"in.txt": "as it is"}, "in.txt was changed"),
        ({"sub/other.txt": None}, "sub/other.txt was removed"),
        ({"new.txt": ""}, "new.txt was made"),
        ({"in.txt": "as it is\n\n"}, "in.txt was changed"),
    ],
)
def test_everything_else_must_be_as_it_was(changed, said):
    problem = task({"out.txt": {"text": "done\n"}})
    assert left(problem, {"out.txt": "done\n"}).correct
    found = left(problem, {"out.txt": "done\n", **changed})
    assert found.status == "wrong"
    assert said in found.reason


# --- answers


@pytest.mark.parametrize(
    ("asked", "good", "bad", "silent"),
    [
        (
            {"number": "42"},
            ["Answer: 42", "I counted.\n\nAnswer: 42.", "**Answer:** 42", "42", "The answer is 42."],
            ["Answer: 41", "Answer: 42 or 43", "Answer: 41\nAnswer: 43"],
            ["", "It is between 40 and 42, I believe, but then again who knows for sure."],
        ),
        (
            {"text": "web-3"},
            ["Answer: web-3", "Answer: `web-3`", "Answer: Web-3.", "web-3"],
            ["Answer: web-2", "Answer: web-3, web-2", "Answer: web-1 web-2 web-3", "Answer: not web-3"],
            ["", "There are web-1, web-2 and web-3, and each of them has errors."],
        ),
        (
            {"names": ["Ada", "Ben"]},
            ["Answer: Ben and Ada", "Answer: Ada, Ben"],
            ["Answer: Ada", "Answer: Ada, Ben, Cy"],
            [""],
        ),
    ],
)
def test_answers(asked, good, bad, silent):
    problem = task(answer=asked)
    for text in good:
        assert left(problem, {}, text).correct, text
    for text in bad:
        assert left(problem, {}, text).status == "wrong", text
    for text in silent:
        assert left(problem, {}, text).status == "no_answer", text


def test_an_answer_does_not_stand_for_a_file():
    problem = task({"out.txt": {"number": "42"}}, {"number": "42"})
    assert left(problem, {}, "Answer: 42").status == "wrong"
    assert left(problem, {"out.txt": "42\n"}, "").status == "no_answer"
    assert left(problem, {"out.txt": "42\n"}, "Answer: 42").correct


# --- worlds


def test_a_world_is_private_and_goes():
    (problem,) = office({"task": "lost_revenue"})

    async def look() -> None:
        one, other = await build(problem), await build(problem)
        assert one._place != other._place
        assert oct(os.stat(one._place).st_mode & 0o777) == "0o700"
        tools = {tool.name: tool for tool in one.tools}
        assert {"files_list", "files_write", "sql_query", "python", "calculator"} <= set(tools)
        with pytest.raises(ToolFault):
            await tools["files_read"].call({"path": f"../{problem.meta['database']}"}, None)
        listed = (await tools["files_list"].call({"path": ".", "depth": 5}, None)).text
        assert problem.meta["database"] not in listed
        rows = (await tools["sql_query"].call({"sql": "SELECT COUNT(*) AS n FROM sales"}, None)).text
        assert rows.startswith(f"n\n{len(problem.meta['tables']['sales']['rows'])}\n")
        with pytest.raises(ToolFault):
            await tools["sql_query"].call({"sql": "DELETE FROM sales"}, None)
        # What one does, the other does not see.
        write = tools["files_write"]
        assert write.intend
        asked = {"path": "losses.csv", "text": "x"}
        await write.call(asked, await write.intend(asked))
        assert f"{FOLDER}losses.csv" in snapshot(one._place)
        assert f"{FOLDER}losses.csv" not in snapshot(other._place)
        await one.aclose()
        await other.aclose()
        assert not one._place.exists()
        assert not other._place.exists()

    asyncio.run(look())


def test_a_changed_database_is_seen():
    (problem,) = office({"task": "org_chart"})

    async def look() -> Verdict:
        world = await build(problem)
        with (world._place / problem.meta["database"]).open("ab") as file:
            file.write(b"\0")
        try:
            return await world.judge(problem.meta["said"])
        finally:
            await world.aclose()

    assert "people.db was changed" in asyncio.run(look()).reason


def test_links_and_odd_things_are_seen(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    before = snapshot(tmp_path)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folders").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert set(snapshot(tmp_path)) - set(before) == {"link", "folders", "pipe"}


def test_a_world_that_is_none_is_told():
    with pytest.raises(UserError, match="of no world that is known here"):
        asyncio.run(open_world(Problem("x", "x", None, "task", {"world": "moon"})))
