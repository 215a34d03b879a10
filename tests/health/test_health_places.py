"""Disks, the store, programs and the sandbox: what is wrong with a place, and that looking at it changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.health import disk, isolation, programs, store
from thinksmith.health.command import ask
from thinksmith.health.disk import Place
from thinksmith.health.finding import Finding, memory_size, plain, problems, size
from thinksmith.sandbox import LAYERS, Host, Layer
from thinksmith.store.schema import SCHEMA_VERSION
from thinksmith.store.store import Store


def one(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


# Disks


def test_a_place_with_room(tmp_path):
    found = one(disk.findings([Place("runs", tmp_path, "--out", least=1)]))
    assert (found.status, found.remedy) == ("ok", "")
    free = shutil.disk_usage(tmp_path)
    assert found.value == f"{tmp_path}: {size(free.free)} of {size(free.total)} free"


def test_a_full_disk_is_a_problem_that_names_the_remedy(tmp_path):
    found = one(disk.findings([Place("downloads", tmp_path, "export HF_HOME=…", least=2**80)]))
    assert (found.status, found.remedy) == ("problem", "export HF_HOME=…")
    assert ", less than " in found.value


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above(tmp_path):
    place = Place("store", tmp_path / "a/b/c", "")
    before = one(disk.findings([Place("store", tmp_path, "", least=1)])).value
    assert one(disk.findings([Place("store", place.folder, "", least=1)])).value == before.replace(
        str(tmp_path), str(place.folder)
    )
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_way_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("x")
    found = one(disk.findings([Place("runs", tmp_path / "file/runs", "--out", least=1)]))
    assert found.status == "problem"
    assert "is no folder" in found.value


def test_a_link_that_leads_nowhere_is_a_problem(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert one(disk.findings([Place("runs", tmp_path / "link", "--out", least=1)])).status == "problem"


def test_a_folder_that_cannot_be_written_to_is_a_problem(tmp_path):
    if os.getuid() == 0:  # to root all folders are open, but for those that the kernel keeps
        folder = Path("/proc/self")
    else:
        folder = tmp_path
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    found = one(disk.findings([Place("runs", folder, "--out", least=0)]))
    folder is tmp_path and folder.chmod(0o700)
    assert found.status == "problem"


def test_what_was_downloaded_is_counted_once(tmp_path):
    blobs = tmp_path / "models--a--b/blobs"
    links = tmp_path / "models--a--b/snapshots/main"
    (tmp_path / "models--c--d").mkdir(parents=True)
    blobs.mkdir(parents=True)
    links.mkdir(parents=True)
    (blobs / "one").write_bytes(bytes(1500))
    (links / "model.safetensors").symlink_to(blobs / "one")
    (links / "round").symlink_to(tmp_path)
    found = disk.findings([], tmp_path, seconds=30)
    assert one(found) == Finding("disk", "downloaded", "1.5 kB, 2 models")
    assert one(disk.findings([], tmp_path, seconds=-1)).value.startswith("more than 0 bytes")
    assert disk.findings([], tmp_path / "none") == []


def test_the_places_are_those_that_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    found = {place.name: place for place in disk.places(tmp_path / "data/store.db")}
    assert found["store"].folder == tmp_path / "data"
    assert "THINKSMITH_STORE" in found["store"].remedy
    assert found["runs"].folder == tmp_path
    assert found["compiled"].folder == tmp_path / "cache/thinksmith"
    assert "HF_HOME" in found["downloads"].remedy
    assert "store" not in {place.name for place in disk.places(None)}


# The store


@pytest.fixture
def filled(tmp_path):
    path = tmp_path / "store.db"
    with Store.open(path) as made:
        for number in range(3):
            made.start_run("eval", str(number), "tiny")
    return path


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def test_a_store_is_read_and_left_as_it_was(filled):
    before = snapshot(filled.parent)
    assert store.findings(str(filled)) == [
        Finding("store", "file", str(filled)),
        Finding("store", "version", str(SCHEMA_VERSION)),
        Finding("store", "runs", "3"),
    ]
    assert snapshot(filled.parent) == before


def test_a_store_that_is_in_use_is_read_with_what_is_in_its_log(filled):
    with Store.open(filled) as other:
        other.start_run("eval", "one more", "tiny")
        assert filled.with_name("store.db-wal").exists()
        assert store.findings(f"sqlite:///{filled}")[-1] == Finding("store", "runs", "4")


def test_a_store_that_is_locked_for_writing_is_read_all_the_same(filled):
    writer = sqlite3.connect(filled, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert store.findings(str(filled))[-1].value == "3"
    writer.close()


def test_no_store_is_made(tmp_path):
    found = one(store.findings(str(tmp_path / "new/store.db")))
    assert (found.status, found.value) == ("ok", f"{tmp_path}/new/store.db (made by the first run)")
    assert list(tmp_path.iterdir()) == []


def change(path: Path, command: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(command)
    connection.commit()
    connection.close()


def test_a_newer_store_and_an_older_one(filled):
    change(filled, "UPDATE thinksmith_meta SET value = '99'")
    (problem,) = problems(store.findings(str(filled)))
    assert problem.remedy.startswith("upgrade thinksmith")
    change(filled, "UPDATE thinksmith_meta SET value = '1'")
    assert store.findings(str(filled))[1].value == f"1 ({SCHEMA_VERSION} when it is opened next)"
    change(filled, f"UPDATE thinksmith_meta SET value = '{'9' * 6000}'")
    assert problems(store.findings(str(filled)))
    change(filled, "DELETE FROM thinksmith_meta")
    assert problems(store.findings(str(filled)))
    change(filled, "DROP TABLE runs")
    assert problems(store.findings(str(filled)))


def test_what_is_no_store_is_a_problem(tmp_path):
    text, other, folder, empty = (tmp_path / name for name in ("text", "other.db", "folder", "empty.db"))
    text.write_text("not a database")
    change(other, "CREATE TABLE songs (name)")
    folder.mkdir()
    empty.touch()
    assert "not a database" in one(store.findings(str(text))).value
    assert "'songs'" in one(store.findings(str(other))).value
    assert "name a file in it" in one(store.findings(str(folder))).remedy
    assert one(store.findings(str(empty))) == Finding("store", "file", f"{empty} (empty)")
    assert all(problems(store.findings(str(path))) for path in (text, other, folder))


def test_a_damaged_store_is_a_problem(filled):
    damaged = bytearray(filled.read_bytes())
    damaged[100:] = os.urandom(len(damaged) - 100)
    filled.write_bytes(damaged)
    assert "cannot be read" in one(problems(store.findings(str(filled)))).value


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@db.example:5432/thoughts",
        "postgresql+psycopg://me:secret@[::1]/thoughts?password=secret",
        "postgres://me:secret@db.example/x",
        "postgresql://[broken:secret@x",
    ],
)
def test_a_server_is_not_asked_and_its_password_not_shown(url):
    found = one(store.findings(url))
    assert "secret" not in found.value + found.remedy
    assert store.place(url) is None


@pytest.mark.parametrize("url", ["mysql://me:secret@x/y", ":memory:", "", "sqlite:///", "a\0b", "~nobody-at-all/x.db"])
def test_what_names_no_store_is_a_problem(url):
    found = one(store.findings(url))
    assert found.status == "problem"
    assert "secret" not in found.value + found.remedy


# Programs


def test_the_compiler(tmp_path, monkeypatch):
    monkeypatch.delenv("THINKSMITH_NATIVE", raising=False)
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'cannot find crt1.o' >&2\nexit 3\n")
    broken.chmod(0o755)
    good = tmp_path / "good-cc"
    good.write_text("#!/bin/sh\necho 'good-cc 1.2'\necho 'and more'\n")
    good.chmod(0o755)
    assert programs.compiler(str(good)) == Finding("programs", "C compiler", f"{good}: good-cc 1.2")
    ill = programs.compiler(f"{broken} -m64")
    assert ill.status == "note"
    assert "exit code 3: cannot find crt1.o" in ill.value
    for missing in ("no-such-compiler", "", "'unclosed"):
        found = programs.compiler(missing)
        assert (found.status, "apt install gcc" in found.remedy or "xcode" in found.remedy) == ("note", True)
    monkeypatch.setenv("THINKSMITH_NATIVE", "0")
    assert programs.compiler(str(good)).remedy == "unset THINKSMITH_NATIVE"


def test_no_bubblewrap_is_noted_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding for finding in programs.findings()}
    if sys.platform.startswith("linux"):
        assert "install bubblewrap" in found["bubblewrap"].remedy


def test_a_program_that_hangs_is_left_in_time():
    began = time.monotonic()
    assert ask(["sleep", "10"], seconds=0.2).trouble == "no answer within 0.2 s"
    assert time.monotonic() - began < 5
    assert ask(["no-such-program"]).trouble == "not found"
    assert ask(["/"]).trouble
    assert ask(["a\0b"]).trouble


# The sandbox


@pytest.mark.parametrize(
    ("active", "ill"),
    [(LAYERS, False), (("landlock", "seccomp", "limits"), False), (("seccomp", "limits"), True), ((), True)],
)
def test_a_layer_is_missed_only_where_the_others_do_not_suffice(active, ill):
    layers = tuple(Layer(n, True) if n in active else Layer(n, False, "refused", f"get {n}") for n in LAYERS)
    found = {finding.name: finding for finding in isolation.findings(Host(layers, "user"))}
    assert [finding.name for finding in problems(found.values())] == (["untrusted code"] if ill else [])
    for name in LAYERS:
        missing = name not in active
        assert found[name].status == ("note" if missing else "ok")
        assert found[name].remedy == (f"get {name}" if missing else "")
    if ill:
        assert found["untrusted code"].remedy == next(f"get {name}" for name in LAYERS if name not in active)
    assert found["files"].value == {
        LAYERS: "kept by namespaces, landlock",
        ("seccomp", "limits"): "kept by nothing",
    }.get(active, found["files"].value)


# Words


@given(st.text())
def test_what_others_wrote_becomes_one_line(text):
    line = plain(text)
    assert line.isprintable()
    assert len(line) <= 201
    line.encode("utf-8")


def test_sizes():
    assert [size(n) for n in (0, 999, 1000, 5 * 10**9, 2 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "5.0 GB",
        "2,000.0 TB",
    ]
    assert memory_size(3 * 2**29) == "1.5 GiB"
