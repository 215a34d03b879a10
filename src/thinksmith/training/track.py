"""Metrics into the trackers that people use: TensorBoard, Weights & Biases (wandb), trackio.

Nothing leaves the machine unless the user says so: TensorBoard writes files into the run folder, trackio into its local
database, and wandb is offline unless WANDB_MODE says otherwise. All three are optional packages (thinksmith[track]) and
are imported when they are asked for. What a resumed run logs goes on in the same run of the tracker.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from thinksmith.errors import UserError, one_line
from thinksmith.training.run_folder import write_json

PROJECT = "thinksmith"
"""The project under which wandb and trackio file the runs."""

Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Tracker:
    name: str
    log: Callable[[int, Row], None]
    close: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Run:
    """What a tracker is told of the run. `id` stays the same when the run is resumed."""

    id: str
    name: str
    folder: Path
    config: Mapping[str, Any]


class Trackers:
    """The open trackers of a run, a context manager. One that fails while the run goes is left out with a warning:
    training does not end for it."""

    def __init__(self, trackers: Sequence[_Tracker]) -> None:
        self._open = list(trackers)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that still work."""
        return tuple(tracker.name for tracker in self._open)

    def log(self, step: int, metrics: Row) -> None:
        """A row of a finished step (from 1) to each of them. `step` may stand in the row too; there it is left out."""
        row = {key: value for key, value in metrics.items() if key != "step"}
        for tracker in tuple(self._open):
            try:
                tracker.log(step, row)
            except Exception as error:  # whatever it is: the run is worth more than its picture
                self._open.remove(tracker)
                _warn(f"{tracker.name} failed at step {step} and is left out from here on: {one_line(error)}")
                _close(tracker, tell=False)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._open:
            _close(self._open.pop(), tell=True)


def check_trackers(names: Sequence[str]) -> None:
    """UserError for a tracker that is not known, with the nearest that is, or whose package is not installed."""
    for name in names:
        if name not in _OPENERS:
            near = difflib.get_close_matches(name, _OPENERS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_OPENERS)}"
            raise UserError(f"unknown tracker {name!r}; {hint}")
        if find_spec(name) is None:
            raise UserError(f"tracking with {name} needs its package: pip install 'thinksmith[track]'")


def open_trackers(names: Sequence[str], folder: Path, config: Mapping[str, Any], run_name: str) -> Trackers:
    """Open each named tracker for the run in `folder`, which must exist; no names, no trackers.

    `config` is plain JSON data, such as a recipe's `model_dump(mode="json")`. A folder whose run is resumed has its
    identity in `tracking.json`, so that the trackers go on with what they have. Raises UserError as `check_trackers`
    does, and where a tracker cannot be opened.
    """
    check_trackers(names)
    opened: list[_Tracker] = []
    for name in dict.fromkeys(names):
        try:
            run = _Run(_identity(folder), run_name, folder, config)
            opened.append(_OPENERS[name](run))
        except Exception as error:
            for tracker in opened:
                _close(tracker, tell=False)
            if isinstance(error, UserError):
                raise
            raise UserError(f"cannot track with {name}: {one_line(error)}; mend that or leave it out") from error
    return Trackers(opened)


def _identity(folder: Path) -> str:
    """Eight characters that name the run in `folder`. Not the path: a folder may be moved, or made anew."""
    path = folder / "tracking.json"
    if path.exists():
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    made = secrets.token_hex(4)
    write_json(path, {"id": made})
    return made


def _tensorboard(run: _Run) -> _Tracker:
    """Event files in the run folder; each row is on disk when `log` returns.

    They are written here and not by torch's SummaryWriter, which does it in a thread: there a full disk is a traceback
    on the screen and an error some steps later.
    """
    protos = importlib.import_module("tensorboard.compat.proto.event_pb2")
    summaries = importlib.import_module("tensorboard.compat.proto.summary_pb2")
    folder = run.folder / "tensorboard"
    folder.mkdir(exist_ok=True)
    # Read in the order of their names; of the host, which is usual in them, nothing is told.
    file = (folder / f"events.out.tfevents.{time.time():017.6f}.thinksmith").open("wb")
    records = importlib.import_module("tensorboard.summary.writer.record_writer").RecordWriter(file)
    first = True

    def write(**event: Any) -> None:
        records.write(protos.Event(wall_time=time.time(), **event).SerializeToString())

    def log(step: int, row: Row) -> None:
        nonlocal first
        if first:  # steps from here on that an earlier file has were not saved: they are void, and readers drop them
            write(file_version="brain.Event:2")
            write(step=step, session_log=protos.SessionLog(status=protos.SessionLog.START))
            first = False
        values = [summaries.Summary.Value(tag=key, simple_value=value) for key, value in row.items()]
        write(step=step, summary=summaries.Summary(value=values))
        file.flush()

    return _Tracker("tensorboard", log, file.close)


def _wandb(run: _Run) -> _Tracker:
    """Offline, into the run folder, from where `wandb sync` sends it; online with WANDB_MODE=online and a login."""
    mode = os.environ.get("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it sends its own errors home, also when offline
    wandb = importlib.import_module("wandb")
    if mode == "online" and not wandb.login(prompt=False):
        raise UserError("WANDB_MODE=online needs a login: run `wandb login`, or unset WANDB_MODE to keep it on disk")
    made = wandb.init(
        project=PROJECT,
        id=run.id,
        name=run.name,
        config=dict(run.config),
        dir=str(run.folder),
        mode=mode,
        resume=None if mode == "offline" else "allow",  # offline every start is a file, and the id joins them
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off"),
    )
    # Of a step that it has already it drops what comes again; that is the same, for a resumed run repeats itself.
    return _Tracker("wandb", lambda step, row: made.log(dict(row), step=step, commit=True), made.finish)


def _trackio(run: _Run) -> _Tracker:
    """Straight into the local database that `trackio show` reads.

    `trackio.init` asks the Hugging Face hub for the user's name, and so reaches out; this does not.
    """
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    name = f"{run.name}-{run.id}"
    config: dict[str, Any] | None = {**run.config, "_Created": datetime.now(UTC).isoformat()}
    storage.init_db(PROJECT)

    def log(step: int, row: Row) -> None:
        nonlocal config
        # A step that the database has already keeps its row, by its log id: a resumed run repeats itself.
        ids = [f"{run.id}:{step}"]
        storage.bulk_log(PROJECT, name, [dict(row)], steps=[step], config=config, log_ids=ids, run_id=run.id)
        config = None  # told once

    return _Tracker("trackio", log, lambda: None)


_OPENERS: dict[str, Callable[[_Run], _Tracker]] = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}


def _close(tracker: _Tracker, *, tell: bool) -> None:
    try:
        tracker.close()
    except Exception as error:
        if tell:
            _warn(f"{tracker.name} could not be closed, so its last rows may be missing: {one_line(error)}")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)
