"""Nothing leaves the root: not by a path, not by a link, not by a swap between look and use."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thinksmith.agent.contract import ToolFault
from thinksmith.agent.tools import rooted
from thinksmith.agent.tools.rooted import Root, names_of
from thinksmith.errors import UserError

SECRET = b"CANARY: what lies outside"
LARGE = 1_000_000


def build(top: Path) -> Path:
    """A root with honest files and with every kind of way out, beside what must not be reached."""
    outside, root = top / "outside", top / "base"
    for folder in (outside / "deep", root / "a" / "b", root / "Case", top / "base-evil"):
        folder.mkdir(parents=True)
    for path in (outside / "secret", outside / "deep" / "secret", outside / "twin", top / "base-evil" / "secret"):
        path.write_bytes(SECRET)
    for path in ("plain", "a/plain", "a/b/plain", "Case/plain", "é", ".hidden"):
        (root / path).write_bytes(f"honest {path}".encode())
    for name, to in {
        "link": outside / "secret",
        "folder-link": outside,
        "up-link": Path(".."),
        "a/climb": Path("../../outside"),
        "inner-link": Path("plain"),
        "inner-folder": Path("a"),
        "loop": Path("loop"),
        "dangling": outside / "not-yet",
        "chain": Path("folder-link"),
        "proc-link": Path("/proc/self/root"),
        "null": Path("/dev/null"),
    }.items():
        (root / name).symlink_to(to)
    os.link(outside / "twin", root / "hard")
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("rooted"))


@pytest.fixture(scope="module")
def root(place: Path) -> Root:
    return Root(str(place))


# --- the law: a path is opened if, and only if, its real path is itself, below the root

NAMES = [
    "plain", "a", "b", "Case", "case", "é", "e\u0301", ".hidden", "link", "folder-link", "up-link", "climb", "secret",
    "inner-link", "inner-folder", "loop", "dangling", "chain", "proc-link", "hard", "fifo", "null", "outside", "base",
    "base-evil", "deep", "twin", "proc", "self", "etc", "..", ".", "", "...", "..\\", "~", "%2e%2e", "\uff0e\uff0e",
    "//",
]  # fmt: skip
paths = st.one_of(
    st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), min_size=1, max_size=6).map("/".join),
    st.text(max_size=30),
)


def allowed(root: Path, path: str) -> bool:
    """The independent oracle, by os.path.realpath: whether `path` names a file of the root, and does so plainly."""
    if not path.strip() or path.startswith("/") or ".." in path.split("/") or not path.isprintable():
        return False
    try:
        real = os.path.realpath(root / path, strict=True)
        plain = os.path.normpath(os.path.join(os.path.realpath(root), path))
        state = os.lstat(plain)
    except (OSError, ValueError):
        return False
    return real == plain and os.path.isfile(plain) and state.st_nlink == 1


@given(paths)
@example("folder-link/secret")
@example("inner-folder/plain")
@example("a/../plain")
@example("a/b/./plain")
@example("hard")
@example("a//plain")
def test_what_is_opened_is_what_the_real_path_allows(root: Root, place: Path, path: str) -> None:
    if not path.isprintable() and not any(ord(sign) < 32 for sign in path):
        return  # what cannot be printed is refused by our own, narrower rule
    try:
        found = root.content(path, LARGE)
        data = found.data if found else None
    except ToolFault:
        data = None
    assert (data is not None) is allowed(place, path)
    if data is not None:
        assert data == (place / path).read_bytes()
        assert data.startswith(b"honest")


@given(paths)
def test_a_path_is_refused_with_a_line_that_can_be_shown(path: str) -> None:
    try:
        names = names_of(path)
    except ToolFault as fault:
        told = str(fault)
        assert len(told) < 400
        assert not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in told)
        assert not set(told) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
    else:
        assert ".." not in names
        assert "" not in names
        assert not any("/" in name or "\0" in name for name in names)


# --- the list: ways out, each with every operation

ESCAPES = [
    "..", "../outside/secret", "../base-evil/secret", "a/../../outside/secret", "./../outside/secret",
    "a/b/../../../outside/secret", "/etc/passwd", "//etc/passwd", "/", "/proc/self/environ", "link",
    "folder-link/secret", "folder-link/deep/secret", "folder-link", "up-link/outside/secret", "a/climb/secret",
    "inner-link", "inner-folder/plain", "inner-folder/../../outside/secret", "loop", "loop/x", "dangling",
    "chain/secret", "chain/../secret", "proc-link/etc/passwd", "proc-link", "null", "hard", "fifo", "fifo/x",
    "plain/x", "plain/../../outside/secret", "plain\0", "\0", "../outside/secret\0.txt", "a\nb", "x" * 300,
    "/".join("x" * 70), "y/" * 3000 + "z", "", " ", ".", "a/..", "\ud800", "a/\u202etxt.exe",
    "folder-link/../outside/secret", "up-link", "up-link/base-evil/secret", "{top}/outside/secret",
    "{top}/base/../outside/secret", "{top}/base-evil/secret", "file:///etc/passwd/../../x",
]  # fmt: skip


def snapshot(folder: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for above, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(above, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                found[path] = Path(path).read_bytes()
    return found


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_way_out(tmp_path: Path, escape: str) -> None:
    place = build(tmp_path)
    path = escape.replace("{top}", str(tmp_path))
    root, before = Root(str(place)), snapshot(tmp_path)
    operations: list[Callable[[], object]] = [
        lambda: root.content(path, LARGE),
        lambda: root.replace(path, b"written", before=None, part=".part"),
        lambda: root.replace(path, b"written", before=SECRET, part=".part"),
        lambda: root.remove(path, SECRET),
    ]
    if escape not in (".", "a/.."):
        operations.append(lambda: root.entries(path, 100))
    for operation in operations:
        try:
            found = operation()
        except ToolFault:
            continue
        assert found is None or (isinstance(found, list) and not any("secret" in entry.name for entry in found))
    if _leads_down(path):
        root.remove_folder(path)
    after = snapshot(tmp_path)
    assert {key: value for key, value in after.items() if "/base/" not in key} == {
        key: value for key, value in before.items() if "/base/" not in key
    }
    assert not any(value == b"written" for key, value in after.items() if key in before)
    root.close()


def _leads_down(path: str) -> bool:
    try:
        return bool(names_of(path))
    except ToolFault:
        return False


def test_a_device_a_pipe_and_a_socket_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        root = Root(".")
        for name in ("fifo", "socket"):
            began = time.monotonic()
            with pytest.raises(ToolFault, match="not a file"):
                root.content(name, LARGE)
            with pytest.raises(ToolFault), root.file(name):
                pass
            assert time.monotonic() - began < 5  # a pipe without a writer would be waited for
        assert {entry.kind for entry in root.entries(".", 10)} == {"other"}


def test_the_system_s_own_files_are_out_of_reach() -> None:
    with pytest.raises(UserError, match="system's own"):
        Root("/proc")
    root = Root("/")
    for path in ("proc/self/environ", "proc/self/cwd/etc/hostname", "sys/kernel/mm/transparent_hugepage/enabled"):
        with pytest.raises(ToolFault):
            root.content(path, LARGE)
    for path in ("proc", "proc/self", "sys"):
        with pytest.raises(ToolFault):
            root.entries(path, 10)


def test_the_root_may_be_a_link_and_is_resolved_once(tmp_path: Path) -> None:
    place = build(tmp_path)
    link = tmp_path / "by-link"
    link.symlink_to(place)
    root = Root(str(link))
    link.unlink()
    link.symlink_to(tmp_path / "outside")
    found = root.content("plain", LARGE)
    assert found is not None
    assert found.data == b"honest plain"
    assert root.content("secret", LARGE) is None


def test_a_closed_root_opens_nothing_even_where_its_number_is_used_again(tmp_path: Path) -> None:
    place = build(tmp_path)
    root = Root(str(place))
    root.close()
    again = os.open(tmp_path / "outside", os.O_RDONLY)  # likely of the same number
    try:
        with pytest.raises(ToolFault, match="closed"):
            root.content("secret", LARGE)
    finally:
        os.close(again)


def test_what_is_no_folder_is_the_user_s_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "none", "\0", "x" * 5000):
        with pytest.raises(UserError, match="cannot open the folder"):
            Root(str(path))


# --- the race: folders and files are swapped for links while they are used


def _swapping(path: Path, link: Path, stop: threading.Event) -> threading.Thread:
    """`path` and `link` change places, in one moment each time (RENAME_EXCHANGE), without end."""

    def swap() -> None:
        exchange, here = rooted._rename_new, -100  # AT_FDCWD
        while not stop.is_set():
            assert exchange(here, os.fsencode(path), here, os.fsencode(link), 2) == 0
            time.sleep(0)

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    return thread


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="two names change places on Linux only")
@pytest.mark.parametrize("swapped", ["a", "a/plain"])
def test_a_swap_between_look_and_use_leads_nowhere(tmp_path: Path, swapped: str) -> None:
    place = build(tmp_path)
    outside, link = tmp_path / "outside", tmp_path / "spare"
    (outside / "a").mkdir()
    (outside / "a" / "plain").write_bytes(SECRET)
    link.symlink_to(outside / swapped)
    root, stop = Root(str(place)), threading.Event()
    before = snapshot(outside)
    thread = _swapping(place / swapped, link, stop)
    began, reads, refused = time.monotonic(), 0, 0
    try:  # on a busy machine the threads may take long turns
        while (passed := time.monotonic() - began) < 0.7 or (min(reads, refused) == 0 and passed < 20):
            try:
                found = root.content("a/plain", LARGE)
                assert found is not None
                assert b"CANARY" not in found.data
                reads += 1
                root.replace("a/plain", b"honest: %d" % reads, before=found.data, part=f".thinksmith-{reads}.part")
            except ToolFault:
                refused += 1
    finally:
        stop.set()
        thread.join()
    assert snapshot(outside) == before
    assert min(reads, refused) > 0, "the race was not one"


class _Moments:
    """Calls a function at the moments before system calls that Python audits (open, mkdir, rename, unlink, scandir).
    An audit hook stays for ever, so there is one."""

    hooked = False
    at: Callable[[str, tuple[object, ...]], None] | None = None

    @classmethod
    def hear(cls, event: str, arguments: tuple[object, ...]) -> None:
        if cls.at is not None and event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir"):
            cls.at(event, arguments)

    def __init__(self, at: Callable[[str, tuple[object, ...]], None]) -> None:
        self._at = at
        if not _Moments.hooked:
            sys.addaudithook(_Moments.hear)
            _Moments.hooked = True

    def __enter__(self) -> None:
        _Moments.at = self._at

    def __exit__(self, *_: object) -> None:
        _Moments.at = None


OPERATIONS: dict[str, Callable[[Root], object]] = {
    "read": lambda root: root.content("a/plain", LARGE),
    "open": lambda root: _read(root, "a/plain"),
    "write": lambda root: root.replace("a/plain", b"written", before=b"honest a/plain", part=".part"),
    "make": lambda root: root.replace("a/new/new", b"written", before=None, part=".part"),
    "remove": lambda root: root.remove("a/plain", b"honest a/plain"),
    "list": lambda root: root.entries("a/b", 100),
    "rmdir": lambda root: root.remove_folder("a/empty"),
    "discard": lambda root: root.discard("a/plain", "left"),
}


def _read(root: Root, path: str) -> bytes:
    with root.file(path) as file:
        return os.read(file, LARGE)


@pytest.mark.parametrize("swapped", ["a", "a/plain", "a/b", "a/new"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_swap_at_any_moment_leads_nowhere(tmp_path: Path, operation: str, swapped: str) -> None:
    """For each moment of an operation: just then, what it is about to use becomes a link to the like of it outside."""
    for moment in range(40):
        top = tmp_path / str(moment)
        place = build(top)
        shutil.copytree(place / "a", top / "outside" / "a", symlinks=True)
        (top / "outside" / "a" / "plain").write_bytes(SECRET)
        (top / "outside" / "a" / "b" / "secret").write_bytes(SECRET)
        for folder in (place / "a", top / "outside" / "a"):
            (folder / "empty").mkdir()
            (folder / "left").write_bytes(b"left")
        (top / "outside" / "a" / "new").mkdir()
        happened = 0

        def swap(event: str, arguments: tuple[object, ...], place: Path = place, moment: int = moment) -> None:
            nonlocal happened
            happened += 1
            if happened - 1 == moment:
                path = str(place / swapped)
                _Moments.at = None
                with suppress(OSError):
                    os.rename(path, f"{path}-aside")
                with suppress(OSError):
                    os.symlink(place.parent / "outside" / swapped, path)

        root, before = Root(str(place)), snapshot(top / "outside")
        found: object = None
        with _Moments(swap), suppress(ToolFault):
            found = OPERATIONS[operation](root)
        assert snapshot(top / "outside") == before
        assert (top / "outside" / "a" / "empty").is_dir()
        assert b"CANARY" not in str(found).encode()
        assert "secret" not in str(found)
        root.close()
        if happened <= moment:
            break
    assert 0 < moment < 39


def test_what_somebody_writes_while_we_do_stays(tmp_path: Path) -> None:
    """Whatever becomes of the file while the new text is written beside it, it is noticed before it is put in place."""
    root = Root(str(tmp_path))
    for before in (b"old", None):
        path = tmp_path / f"file-{before!r}"
        if before is not None:
            path.write_bytes(before)

        def meanwhile(event: str, arguments: tuple[object, ...], path: Path = path) -> None:
            if event == "open" and arguments[0] == ".part":
                path.write_bytes(b"theirs")

        with _Moments(meanwhile), pytest.raises(ToolFault, match="changed meanwhile"):
            root.replace(path.name, b"ours", before=before, part=".part")
        assert path.read_bytes() == b"theirs"
        assert not (tmp_path / ".part").exists()


def test_a_new_file_takes_no_place_that_was_taken_in_the_last_moment(tmp_path: Path) -> None:
    """Between the last look and the renaming only the system can keep it: by renameat2."""
    (tmp_path / "part").write_bytes(b"ours")
    (tmp_path / "file").write_bytes(b"theirs")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileExistsError):
            rooted._move(folder, "part", "file", new=True)
        assert (tmp_path / "file").read_bytes() == b"theirs"
        rooted._move(folder, "part", "file", new=False)
        assert (tmp_path / "file").read_bytes() == b"ours"
    finally:
        os.close(folder)


# --- writing


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """A reader that looks all the time sees the old text or the new one, and never a part or nothing."""
    old, new = b"o" * 300_000, b"n" * 300_000
    path = tmp_path / "file"
    path.write_bytes(old)
    root, stop, seen = Root(str(tmp_path)), threading.Event(), set[bytes]()

    def look() -> None:
        while not stop.is_set():
            data = path.read_bytes()
            seen.add(data[:1] if data in (old, new) else b"torn")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for at in range(10):
            before, after = (old, new) if at % 2 == 0 else (new, old)
            root.replace("file", after, before=before, part=".part")
    finally:
        stop.set()
        thread.join()
    assert seen <= {b"o", b"n"}
    assert os.listdir(tmp_path) == ["file"]


def test_what_somebody_else_wrote_meanwhile_stays(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    (tmp_path / "file").write_bytes(b"theirs")
    for before in (None, b"ours", b"theirs and more"):
        with pytest.raises(ToolFault, match="changed meanwhile"):
            root.replace("file", b"new", before=before, part=".part")
    with pytest.raises(ToolFault, match="changed meanwhile"):
        root.replace("gone", b"new", before=b"was there", part=".part")
    assert (tmp_path / "file").read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o640])
def test_permissions_stay(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(mode)
    Root(str(tmp_path)).replace("file", b"y", before=b"x", part=".part")
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_bytes() == b"y"


def test_a_write_protected_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o444)
    with pytest.raises(ToolFault, match="write-protected"):
        Root(str(tmp_path)).replace("file", b"y", before=b"x", part=".part")
    assert path.read_bytes() == b"x"


def test_nothing_stays_open(tmp_path: Path) -> None:
    place = build(tmp_path)
    root = Root(str(place))
    before = len(os.listdir("/proc/self/fd"))
    for path in ("plain", "link", "fifo", "a/climb/secret", "none/none", "hard", "plain/x", "../x"):
        with suppress(ToolFault):
            root.content(path, 3)
        with suppress(ToolFault):
            root.replace(path, b"x", before=b"?", part=".part")
    assert len(os.listdir("/proc/self/fd")) == before
    shutil.rmtree(tmp_path)
    with suppress(ToolFault):
        root.replace("new/file", b"x", before=None, part=".part")
    assert len(os.listdir("/proc/self/fd")) == before
