"""The trackers, read back with their own readers: the same run goes on after a stop, and none of them can end a run."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thinksmith.errors import UserError
from thinksmith.training import track
from thinksmith.training.track import Trackers, check_trackers, open_trackers

CONFIG = {"model": "tiny-base", "training": {"lr": 5e-5}}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every connection that leaves the machine is written down and refused."""
    reached: list[Any] = []
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_UNIX or str(address[0]) in ("127.0.0.1", "::1", "localhost"):
            return connect(self, address)
        reached.append(address)
        raise OSError(f"no way to {address}")

    def no_names(host: Any, *rest: Any, **more: Any) -> Any:
        reached.append(host)
        raise OSError(f"no address of {host}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    yield reached
    assert reached == []


def rows(first: int, last: int, scale: float = 1.0) -> list[tuple[int, dict[str, float]]]:
    return [
        (step, {"step": step, "reward": scale * step / 10, "reward/correctness": 0.5})
        for step in range(first, last + 1)
    ]


def log_all(names: tuple[str, ...], folder: Path, given: list[tuple[int, dict[str, float]]]) -> None:
    with open_trackers(names, folder, CONFIG, "quickstart-1") as trackers:
        for step, row in given:
            trackers.log(step, row)
        assert trackers.names == names


def tensorboard_rewards(folder: Path, tag: str = "reward") -> list[tuple[int, float]]:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulators.EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return [(event.step, pytest.approx(event.value, abs=1e-6)) for event in read.Scalars(tag)]


def test_tensorboard_goes_on_where_the_run_does(tmp_path: Path, no_network: list[Any]) -> None:
    log_all(("tensorboard",), tmp_path, rows(1, 6))
    log_all(("tensorboard",), tmp_path, rows(4, 8, scale=2.0))  # resumed from the checkpoint of step 3
    wanted = [(step, 0.1 * step) for step in (1, 2, 3)] + [(step, 0.2 * step) for step in range(4, 9)]
    assert tensorboard_rewards(tmp_path) == wanted
    assert len(tensorboard_rewards(tmp_path, "reward/correctness")) == 8
    assert not [path for path in (tmp_path / "tensorboard").iterdir() if socket.gethostname() in path.name]


def test_a_row_of_tensorboard_is_on_disk_at_once(tmp_path: Path) -> None:
    trackers = open_trackers(("tensorboard",), tmp_path, CONFIG, "r")
    trackers.log(1, {"reward": 0.5})
    assert tensorboard_rewards(tmp_path) == [(1, 0.5)]
    trackers.__exit__(None, None, None)


@pytest.fixture
def trackio_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("trackio")
    folder = tmp_path / "trackio"
    for module in ("trackio.utils", "trackio.sqlite_storage"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", folder)
    return folder


def test_trackio_keeps_one_run_with_each_step_once(
    tmp_path: Path, trackio_folder: Path, no_network: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    log_all(("trackio",), tmp_path, rows(1, 4))
    log_all(("trackio",), tmp_path, rows(3, 6))
    assert (trackio_folder / "thinksmith.db").exists()
    (name,) = SQLiteStorage.get_runs("thinksmith")
    assert name.startswith("quickstart-1-")
    logs = SQLiteStorage.get_logs("thinksmith", name)
    assert [(log["step"], log["reward"]) for log in logs] == [(step, step / 10) for step in range(1, 7)]
    assert SQLiteStorage.get_run_config("thinksmith", name)["training"] == {"lr": 5e-5}
    assert capsys.readouterr() == ("", "")

    (tmp_path / "other").mkdir()
    log_all(("trackio",), tmp_path / "other", rows(1, 1))  # the same name in another folder is another run
    assert len(SQLiteStorage.get_runs("thinksmith")) == 2


WANDB = """
import sys
from pathlib import Path
from thinksmith.training.track import open_trackers
first, last = map(int, sys.argv[2:])
with open_trackers(("wandb",), Path(sys.argv[1]), {"lr": 5e-5}, "quickstart-1") as trackers:
    for step in range(first, last + 1):
        trackers.log(step, {"step": step, "reward": step / 10})
    assert trackers.names == ("wandb",)
"""


def test_wandb_stays_offline_and_silent_and_goes_on_under_the_same_id(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "https_proxy": "http://127.0.0.1:9"}
    for first, last in (("1", "3"), ("3", "5")):
        command = [sys.executable, "-c", WANDB, str(tmp_path), first, last]
        done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    identity = json.loads((tmp_path / "tracking.json").read_text())["id"]
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-{identity}.wandb"] * 2
    assert [wandb_steps(path) for path in files] == [[(1, 0.1), (2, 0.2), (3, 0.3)], [(3, 0.3), (4, 0.4), (5, 0.5)]]


def wandb_steps(path: Path) -> list[tuple[int, float]]:
    """The history in a .wandb file: protobuf records in the log format of LevelDB (blocks of 32 KiB, in which a record
    has a checksum, a length and a type: whole, first, middle or last), after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, part, found = path.read_bytes(), 7, b"", []
    while position + 7 <= len(data):
        if 32_768 - position % 32_768 < 7:
            position += 32_768 - position % 32_768  # the rest of a block that no record fits in
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record, part = Record.FromString(part), b""
            row = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            found += [(int(row["_step"]), float(row["reward"]))] if row else []
    return found


def test_wandb_online_without_a_login_is_refused_and_never_asks(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "WANDB_MODE": "online"}
    home |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", WANDB, str(tmp_path), "1", "1"]
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert "UserError: WANDB_MODE=online needs a login" in done.stderr


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["tensorbord"], "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        (["tensorboard", "mlflow"], "unknown tracker 'mlflow'; known are tensorboard, wandb, trackio"),
    ],
)
def test_an_unknown_tracker_is_named_with_the_nearest(names: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        open_trackers(names, tmp_path, {}, "r")
    assert str(error.value) == said
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"wandb needs its package: pip install 'thinksmith\[track\]'"):
        check_trackers(["wandb"])
    check_trackers([])


def test_one_that_cannot_be_opened_is_told_before_the_run_and_closes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    fine = track._Tracker("trackio", lambda step, row: None, lambda: closed.append("trackio"))
    monkeypatch.setitem(track._OPENERS, "trackio", lambda run: fine)
    (tmp_path / "tensorboard").write_text("a file where a folder belongs")
    with pytest.raises(UserError, match=r"cannot track with tensorboard: .*exists"):
        open_trackers(["trackio", "tensorboard"], tmp_path, {}, "r")
    assert closed == ["trackio"]


def test_one_that_fails_is_left_out_with_one_warning_and_the_others_go_on() -> None:
    seen: list[int] = []
    closed: list[str] = []

    def fails(step: int, row: Any) -> None:
        if step == 2:
            raise OSError("No space left on device")

    def cannot_close() -> None:
        closed.append("full")
        raise OSError("again")

    trackers = Trackers(
        [
            track._Tracker("full", fails, cannot_close),
            track._Tracker("fine", lambda step, row: seen.append(step), lambda: closed.append("fine")),
        ]
    )
    with warnings.catch_warnings(record=True) as told, trackers:
        warnings.simplefilter("always")
        for step in (1, 2, 3):
            trackers.log(step, {"step": float(step), "reward": 1.0})
    assert [str(warning.message) for warning in told] == [
        "full failed at step 2 and is left out from here on: No space left on device"
    ]
    assert (seen, closed) == ([1, 2, 3], ["full", "fine"])


def test_rows_are_logged_without_their_step_and_a_failing_close_is_told() -> None:
    seen: list[Any] = []

    def cannot_close() -> None:
        raise OSError("no space")

    with (
        pytest.warns(RuntimeWarning, match="one could not be closed, so its last rows may be missing: no space"),
        Trackers([track._Tracker("one", lambda step, row: seen.append((step, dict(row))), cannot_close)]) as trackers,
    ):
        trackers.log(7, {"step": 7.0, "loss": float("nan")})
    assert seen[0][0] == 7
    assert list(seen[0][1]) == ["loss"]


def test_all_at_once_and_none(tmp_path: Path) -> None:
    with open_trackers([], tmp_path, {}, "r") as trackers:
        trackers.log(1, {"reward": 1.0})
    assert list(tmp_path.iterdir()) == []
    with open_trackers(["tensorboard", "tensorboard"], tmp_path, {}, "r") as trackers:
        assert trackers.names == ("tensorboard",)
