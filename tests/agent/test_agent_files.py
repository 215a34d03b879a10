"""The tools `files`: what is shown, what a write does, and that it can be taken back to the byte."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tool_calling import as_journal, call, intend, tool

from thinksmith.agent.contract import Intent, ToolFault, Toolset
from thinksmith.agent.tools import editing, files
from thinksmith.agent.tools.differences import counts, diff
from thinksmith.errors import UserError


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Toolset]:
    toolset = asyncio.run(files.open_toolset(str(tmp_path)))
    yield toolset
    asyncio.run(toolset.aclose())


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file below, and every folder (None)."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_the_tools_have_their_kinds(opened: Toolset) -> None:
    kinds = {each.name: each.kind for each in opened.tools}
    assert kinds == {
        "files_list": "read",
        "files_read": "read",
        "files_search": "read",
        "files_write": "write",
        "files_edit": "write",
    }
    assert {each.group for each in opened.tools} == {"files"}
    assert all(each.intend and each.settled and each.undo for each in opened.tools if each.kind == "write")


def test_without_a_folder_there_are_no_tools(tmp_path: Path) -> None:
    for rest in ("", "  ", str(tmp_path / "none")):
        with pytest.raises(UserError):
            asyncio.run(files.open_toolset(rest))


# --- reading


def test_a_text_is_read_whole_or_by_lines(opened: Toolset, tmp_path: Path) -> None:
    lines = [f"line {at}" for at in range(1, 101)]
    (tmp_path / "text").write_text("\n".join(lines) + "\n")
    read = tool(opened, "files_read")
    assert call(read, path="text").text == "\n".join(lines) + "\n"
    assert call(read, path="text", start=99).text == "line 99\nline 100\n(lines 99 to 100; the end)"
    assert call(read, path="text", start=3, lines=2).text == "line 3\nline 4\n(lines 3 to 4; start=5 goes on)"
    with pytest.raises(ToolFault, match="has 100 lines"):
        call(read, path="text", start=101)
    with pytest.raises(ToolFault, match="count from 1"):
        call(read, path="text", start=0)


def test_a_long_file_is_read_piece_by_piece(opened: Toolset, tmp_path: Path) -> None:
    """Each answer tells where the next begins; together they are the file."""
    text = "".join(f"{at} {'x' * (at % 97)}\n" for at in range(60_000)) + "the end without a break"
    assert len(text) > 3 * files.MAX_SHOWN / 2
    (tmp_path / "long").write_text(text)
    read, start, pieces = tool(opened, "files_read"), 1, []
    while start:
        shown = call(read, path="long", start=start).text
        assert len(shown) <= files.MAX_SHOWN + 100
        body, _, note = shown.rpartition("\n")
        pieces.append(body)
        start = int(note.removesuffix(" goes on)").rpartition("=")[2]) if "goes on" in note else 0
    assert "\n".join(pieces) == text


def test_what_is_no_text_is_said_to_be(opened: Toolset, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\1\2")
    (tmp_path / "latin").write_bytes("Käse".encode("latin-1"))
    (tmp_path / "empty").write_bytes(b"")
    read = tool(opened, "files_read")
    with pytest.raises(ToolFault, match="binary: 7 bytes that begin with 7f 45 4c 46 00"):
        call(read, path="binary")
    assert call(read, path="latin").text == "K\ufffdse"
    assert call(read, path="empty").text == ""
    with pytest.raises(ToolFault, match="is not there"):
        call(read, path="none")
    with pytest.raises(ToolFault, match="is a folder"):
        call(read, path=".")


def test_a_huge_file_is_refused_at_once(opened: Toolset, tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(10**12)  # a hole: nothing on the disk
    began = time.monotonic()
    for name, arguments in {
        "files_read": {},
        "files_write": {"text": "x"},
        "files_edit": {"old": "x", "new": "y"},
    }.items():
        with pytest.raises(ToolFault, match=r"larger than|more than"):
            call(tool(opened, name), path="huge", **arguments)
    assert "left out: 1 files" in call(tool(opened, "files_search"), text="x").text
    assert time.monotonic() - began < 10


def test_folders_are_listed_to_a_depth(opened: Toolset, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep.csv").write_text("12345")
    (tmp_path / "top.txt").write_text("x")
    (tmp_path / "link").symlink_to("/etc")
    listing = tool(opened, "files_list")
    assert call(listing).text == "a/\nlink  (a link: not followed)\ntop.txt  1"
    assert call(listing, depth=9).text.endswith("a/b/\na/b/deep.csv  5")
    assert call(listing, depth=9, files="*.csv").text == "a/\na/b/\na/b/deep.csv  5"
    assert call(listing, path="a/b").text == "a/b/deep.csv  5"
    with pytest.raises(ToolFault, match="link"):
        call(listing, path="link")
    with pytest.raises(ToolFault, match="is no folder"):
        call(listing, path="top.txt")


def test_a_list_is_bounded(opened: Toolset, tmp_path: Path) -> None:
    for at in range(files.MAX_LISTED + 5):
        (tmp_path / f"{at:05}").touch()
    lines = call(tool(opened, "files_list")).text.split("\n")
    assert len(lines) == files.MAX_LISTED + 1
    assert lines[-1] == "(there is more)"


def test_a_name_that_is_no_text_is_listed_and_never_breaks_a_line(opened: Toolset, tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/bad\xff\nname", os.O_CREAT | os.O_WRONLY))
    assert call(tool(opened, "files_list")).text == "bad??name  0"
    assert "left out: 1 files" in call(tool(opened, "files_search"), text="x").text


def test_a_search_finds_lines(opened: Toolset, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.md").write_text("Alpha\nbeta 12\n")
    (tmp_path / "two.txt").write_bytes(b"beta\r\nALPHA (x)\r\n")
    (tmp_path / "binary").write_bytes(b"alpha\0beta")
    os.link(tmp_path / "two.txt", tmp_path / "twin.txt")
    os.unlink(tmp_path / "twin.txt")
    search = tool(opened, "files_search")
    left = "(left out: 1 files that are no text, too large, or not to be opened)"
    assert call(search, text="beta").text == f"two.txt:1: beta\na/one.md:2: beta 12\n{left}"
    assert call(search, text="alpha").text == f"(not found in 2 files)\n{left}"
    assert call(search, text="alpha", ignore_case=True, files="*.md").text == "a/one.md:1: Alpha"
    assert call(search, text=r"beta \d+$", regex=True, files="*.md").text == "a/one.md:2: beta 12"
    assert call(search, text="ALPHA (", path="two.txt").text == "two.txt:2: ALPHA (x)"
    with pytest.raises(ToolFault, match="cannot be read"):
        call(search, text="ALPHA (", regex=True)
    with pytest.raises(ToolFault, match="binary"):
        call(search, text="x", path="binary")
    with pytest.raises(ToolFault, match="empty"):
        call(search, text="")


def test_a_pattern_that_would_run_for_ever_is_stopped(
    opened: Toolset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("a" * 5000)
    search = tool(opened, "files_search")
    call(search, text="b", regex=True)  # the worker is there
    monkeypatch.setattr(files, "SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(ToolFault, match="took too long"):
        call(search, text="(a+)+b", regex=True)
    assert time.monotonic() - began < 10


def test_what_a_search_shows_is_bounded(opened: Toolset, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(("x" * 10_000 + "\n") * 300)
    lines = call(tool(opened, "files_search"), text="x").text.split("\n")
    assert len(lines) == files.MAX_FOUND + 1
    assert max(map(len, lines)) < files.MAX_LINE + 20


@settings(max_examples=50)
@given(
    st.lists(st.text(alphabet="abc\r\u00e9\u2028 ", max_size=6), max_size=30),
    st.text(alphabet="abc\u00e9 ", min_size=1, max_size=3),
)
def test_a_search_is_that_of_python(lines: list[str], wanted: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "text").write_bytes("\n".join(lines).encode())
        opened = asyncio.run(files.open_toolset(folder))
        found = call(tool(opened, "files_search"), text=wanted).text.split("\n")
        asyncio.run(opened.aclose())
    numbers = [int(line.split(":")[1]) for line in found if line.startswith("text:")]
    assert numbers == [at for at, line in enumerate(lines, 1) if wanted in line]


# --- writing


def test_a_write_says_what_it_will_do_and_does_that(opened: Toolset, tmp_path: Path) -> None:
    write = tool(opened, "files_write")
    (tmp_path / "notes.md").write_text("one\ntwo\nthree\n")
    intent = intend(write, path="notes.md", text="one\n2\n3\nthree\n")
    assert intent.summary == "write notes.md: 4 lines, 2 of them new, 1 gone"
    assert "-two\n+2\n+3" in intent.details
    assert intent.kept == {"before": b"one\ntwo\nthree\n"}
    assert intent.record["before"] == sha256(b"one\ntwo\nthree\n").hexdigest()
    assert (tmp_path / "notes.md").read_text() == "one\ntwo\nthree\n", "an intent changes nothing"
    assert asyncio.run(write.call({"path": "notes.md", "text": "one\n2\n3\nthree\n"}, intent)).ok
    assert (tmp_path / "notes.md").read_text() == "one\n2\n3\nthree\n"
    assert intend(write, path="./a//new.md", text="x").summary == "write a/new.md: 1 line, a new file"


@pytest.mark.parametrize("change", [b"other", b"", None])
def test_a_call_is_refused_where_the_file_is_not_as_it_was_approved(
    opened: Toolset, tmp_path: Path, change: bytes | None
) -> None:
    path = tmp_path / "file"
    for name, arguments in {"files_write": {"text": "new"}, "files_edit": {"old": "old", "new": "new"}}.items():
        path.write_bytes(b"an old text")
        intent = intend(tool(opened, name), path="file", **arguments)
        path.unlink() if change is None else path.write_bytes(change)
        with pytest.raises(ToolFault):
            asyncio.run(tool(opened, name).call({"path": "file", **arguments}, intent))
        assert (path.read_bytes() if path.exists() else None) == change


@settings(max_examples=60)
@given(
    before=st.one_of(st.none(), st.binary(max_size=60), st.text(max_size=40).map(str.encode)),
    text=st.text(max_size=40),
    path=st.sampled_from(["file", "a/file", "new/deep/file"]),
)
def test_a_write_can_be_taken_back(before: bytes | None, text: str, path: str) -> None:
    """Law: undo after a write is as if nothing had been, folders and permissions included; and twice is as once."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        target = Path(folder, path)
        if before is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(before)
            target.chmod(0o640)
        was = everything(Path(folder))
        opened = asyncio.run(files.open_toolset(folder))
        write = tool(opened, "files_write")
        intent = intend(write, path=path, text=text)
        asyncio.run(write.call({"path": path, "text": text}, intent))
        assert target.read_bytes().replace(b"\r\n", b"\n") == text.encode().replace(b"\r\n", b"\n")
        assert write.undo
        for _ in range(2):
            asyncio.run(write.undo(*as_journal(intent)))
            assert everything(Path(folder)) == was
        assert before is None or target.stat().st_mode & 0o777 == 0o640
        asyncio.run(opened.aclose())


def test_undo_spoils_nothing_that_came_later(opened: Toolset, tmp_path: Path) -> None:
    write = tool(opened, "files_write")
    intent = intend(write, path="a/b/file", text="ours")
    asyncio.run(write.call({"path": "a/b/file", "text": "ours"}, intent))
    (tmp_path / "a" / "b" / "other").write_text("theirs")
    assert write.undo
    (tmp_path / "a/b/file").write_text("changed by hand")
    with pytest.raises(ToolFault, match="changed since"):
        asyncio.run(write.undo(*as_journal(intent)))
    (tmp_path / "a/b/file").write_text("ours")
    asyncio.run(write.undo(*as_journal(intent)))
    assert everything(tmp_path / "a") == {f"{tmp_path}/a/b": None, f"{tmp_path}/a/b/other": b"theirs"}


def test_undo_takes_only_the_bytes_that_were_kept(opened: Toolset, tmp_path: Path) -> None:
    write = tool(opened, "files_write")
    (tmp_path / "file").write_text("before")
    intent = intend(write, path="file", text="after")
    asyncio.run(write.call({"path": "file", "text": "after"}, intent))
    assert write.undo
    with pytest.raises(ToolFault, match="not what it held"):
        asyncio.run(write.undo(intent.record, lambda name: b"forged"))
    assert (tmp_path / "file").read_text() == "after"


def test_what_was_begun_is_settled_by_what_is_there(opened: Toolset, tmp_path: Path) -> None:
    write = tool(opened, "files_write")
    assert write.settled
    for before in (None, b"before"):
        path = tmp_path / f"file-{before!r}"
        if before is not None:
            path.write_bytes(before)
        intent = intend(write, path=path.name, text="after")
        record, _ = as_journal(intent)
        (tmp_path / record["part"]).write_bytes(b"half")  # what a killed write left
        assert asyncio.run(write.settled(record)) is None
        assert not (tmp_path / record["part"]).exists()
        result = asyncio.run(write.call({"path": path.name, "text": "after"}, intent))
        assert asyncio.run(write.settled(record)) == result
        path.write_bytes(b"by somebody")
        with pytest.raises(ToolFault, match="somebody else"):
            asyncio.run(write.settled(record))


def test_a_record_of_another_folder_is_not_used(opened: Toolset, tmp_path: Path) -> None:
    write = tool(opened, "files_write")
    record, kept = as_journal(intend(write, path="file", text="x"))
    assert write.settled
    assert write.undo
    for made in (write.settled({**record, "root": "/elsewhere"}), write.undo({**record, "root": "/elsewhere"}, kept)):
        with pytest.raises(ToolFault, match="below /elsewhere"):
            asyncio.run(made)


def test_a_record_removes_no_file_but_its_own_part(opened: Toolset, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    write = tool(opened, "files_write")
    record, _ = as_journal(intend(write, path="file", text="x"))
    assert write.settled
    asyncio.run(write.settled({**record, "part": "precious"}))
    assert (tmp_path / "precious").exists()


# --- editing


@settings(max_examples=150)
@given(
    st.lists(st.one_of(st.binary(max_size=5), st.sampled_from([b"ab", b"a", b"\xff\xfe", b"\n", b"aab"])), max_size=12),
    st.text(alphabet="ab\né", min_size=1, max_size=3),
    st.text(alphabet="xy\n", max_size=3),
)
@example([b"aaa"], "aa", "x")
@example([b"a\xffa"], "a", "")
def test_an_edit_changes_its_piece_and_no_other_byte(parts: list[bytes], old: str, new: str) -> None:
    """Against the plain definition, on any bytes: exactly one place, counting overlaps."""
    data = b"".join(parts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(data)
        opened = asyncio.run(files.open_toolset(folder))
        wanted = old.encode()
        places = [at for at in range(len(data)) if data.startswith(wanted, at)]
        crlf = b"\r\n" in data and b"\n" not in data.replace(b"\r\n", b"")
        try:
            call(tool(opened, "files_edit"), path="file", old=old, new=new)
            changed = True
        except ToolFault:
            changed = False
        asyncio.run(opened.aclose())
        if crlf:
            return  # the next test's matter
        assert changed is (len(places) == 1 and old != new)
        if changed:
            (at,) = places
            assert path.read_bytes() == data[:at] + new.encode() + data[at + len(wanted) :]
        else:
            assert path.read_bytes() == data


def test_lines_that_end_with_cr_lf_stay_so(opened: Toolset, tmp_path: Path) -> None:
    path = tmp_path / "dos.txt"
    path.write_bytes(b"one\r\ntwo\r\nthree\r\n")
    call(tool(opened, "files_edit"), path="dos.txt", old="one\ntwo\n", new="1\n2\n2b\n")
    assert path.read_bytes() == b"1\r\n2\r\n2b\r\nthree\r\n"
    call(tool(opened, "files_write"), path="dos.txt", text="a\nb\n")
    assert path.read_bytes() == b"a\r\nb\r\n"
    path.write_bytes(b"mixed\r\nlines\n")
    call(tool(opened, "files_edit"), path="dos.txt", old="lines\n", new="ends\n")
    assert path.read_bytes() == b"mixed\r\nends\n"


def test_a_fault_says_what_to_do(opened: Toolset, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("one two\nthree\nthree\n<think> K\xe4se".encode("latin-1"))
    edit = tool(opened, "files_edit")
    for old, told in {
        "three": "more than once, in lines 2 and 3: give more around it",
        "one  two": "its spaces or line breaks are others",
        "one two\nfour": "its first line does, in line 1",
        "‹think> K": "may be < or",
        "K\ufffdse": "no text and cannot be replaced",
        "nothing": "read the file again",
        "": "old is empty",
    }.items():
        with pytest.raises(ToolFault, match=told):
            call(edit, path="file", old=old, new="new")
    with pytest.raises(ToolFault, match="files_write makes"):
        call(edit, path="none", old="x", new="y")
    with pytest.raises(ToolFault, match="nothing would change"):
        call(edit, path="file", old="one", new="one")
    with pytest.raises(ToolFault, match="surrogate"):
        call(edit, path="file", old="one", new="\ud800")
    call(edit, path="file", old="three", new="four", every=True)
    assert (tmp_path / "file").read_bytes() == "one two\nfour\nfour\n<think> K\xe4se".encode("latin-1")


def test_what_is_written_is_bounded(opened: Toolset, tmp_path: Path) -> None:
    with pytest.raises(ToolFault, match="more than a file may hold"):
        call(tool(opened, "files_write"), path="file", text="x" * (editing.MAX_WRITTEN + 1))
    (tmp_path / "file").write_text("a" * 100_000)
    with pytest.raises(ToolFault, match="more than a file may hold"):
        call(tool(opened, "files_edit"), path="file", old="a", new="b" * 100, every=True)
    assert (tmp_path / "file").read_text() == "a" * 100_000


# --- the diff


@settings(max_examples=60)
@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12), st.booleans())
def test_a_diff_makes_the_one_of_the_other(old: list[str], new: list[str], long: bool) -> None:
    """A reader of unified diffs, written here, gets from the old lines to the new ones; `long` takes the other road."""
    padding = [str(at) for at in range(1001)] if long else []
    before, after = [*padding, *old], [*padding, *new]
    text = diff("f", "".join(f"{line}\n" for line in before).encode(), "".join(f"{line}\n" for line in after).encode())
    made, at = [], 0
    for line in text.split("\n")[2:] if text else []:
        if line.startswith("@@"):
            start, _, count = line.split()[1].removeprefix("-").partition(",")
            until = int(start) - (0 if count == "0" and not long else 1)
            made += before[at:until]
            at = until
        elif line[0] in " -":
            assert before[at] == line[1:]
            at += 1
        if line[0] in " +":
            made.append(line[1:])
    assert made + before[at:] == after
    fresh, gone = counts("\n".join(before).encode(), "\n".join(after).encode())
    assert fresh - gone == len(after) - len(before)


def test_a_diff_of_much_text_is_quick_and_bounded() -> None:
    rng = random.Random(0)
    old, new = (b"\n".join(b"%d" % rng.randrange(500) for _ in range(200_000)) for _ in range(2))
    began = time.monotonic()
    assert len(diff("f", old, new)) < 21_000
    assert time.monotonic() - began < 10


# --- a kill at any moment

WRITER = """
import asyncio, sys
from thinksmith.agent.tools import files

async def main():
    opened = await files.open_toolset(sys.argv[1])
    write = next(tool for tool in opened.tools if tool.name == "files_write")
    print("ready", flush=True)
    for at in range(10**6):
        arguments = {"path": "a/file", "text": f"{at}\\n" * 20_000}
        await write.call(arguments, await write.intend(arguments))

asyncio.run(main())
"""


def test_a_kill_leaves_a_whole_file(tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if (tmp_path / "a" / "file").exists():
            lines = (tmp_path / "a" / "file").read_text().splitlines()
            assert len(lines) == 20_000
            assert len(set(lines)) == 1


def test_intents_are_plain_data(opened: Toolset) -> None:
    """The journal writes them down."""
    import json

    intent: Intent = intend(tool(opened, "files_write"), path="new/file", text="x")
    assert json.loads(json.dumps(dict(intent.record))) == intent.record
    record: dict[str, Any] = dict(intent.record)
    assert record["folders"] == ["new"]
    assert "kept" not in record, "the journal's own key"
