"""The set on the disk: a folder that appears whole, or not at all.

    data.jsonl          the samples (or data.parquet)
    dropped.jsonl       every trace that is not in it: id, model, where it stands, reason, detail
    contamination.jsonl every problem of an evaluation that was found in a trace
    funnel.json         the figures, the options, the sources, the hash
    card.md             what this is, for people
    report.html         the funnel as a page

All of it is written beside its place under another name, synced, and then renamed. So a disk that is full, a kill and
Ctrl-C leave what was there before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from thinksmith import __version__
from thinksmith.distill.curate.card import card
from thinksmith.distill.curate.funnel import Funnel
from thinksmith.distill.curate.options import Curation
from thinksmith.distill.curate.page import page
from thinksmith.distill.curate.passes import Chosen, Fetch, Processes
from thinksmith.distill.formats.parts import Source
from thinksmith.distill.formats.write import Form, explained, json_line, rows, sample_line, writer_of
from thinksmith.distill.sample import Sample
from thinksmith.errors import UserError
from thinksmith.training.durable import sync

_MARK = "funnel.json"
"""A folder with this file is a set of ours, and may be replaced."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where the set goes, in which form and kind of file."""

    folder: Path
    form: Form = "messages"
    file: Literal["jsonl", "parquet"] = "jsonl"


def check_place(folder: Path) -> None:
    """UserError where a set cannot be put here: a file, or a folder with something else in it."""
    _restore(folder)
    if folder.is_file():
        raise UserError(f"{folder} is a file; name a folder for the set")
    if folder.is_dir() and not (folder / _MARK).exists() and any(folder.iterdir()):
        raise UserError(f"{folder} holds something that is no set; name another folder")


def write_set(
    output: Output,
    pool: Processes,
    chosen: Sequence[Chosen],
    funnel: Funnel,
    options: Curation,
    sources: Sequence[Source],
    dropped: Iterable[dict[str, str]],
    on_progress: Callable[[str, int, int], None],
) -> str:
    """Write the set, in place of the one that was there; its hash. Raises UserError where that fails."""
    digest = sha256()

    def samples() -> Iterator[Sample]:
        for done, some in enumerate(pool.run(Fetch(), chosen), 1):
            for sample in some:
                digest.update(sample_line(sample))
                yield sample
            on_progress("writing", done, len(chosen))

    with _folder(output.folder) as folder:
        name = f"data.{output.file}"
        with _synced(folder / name) as file:
            writer_of(name, file)(rows(samples(), output.form))
        _write_lines(folder / "dropped.jsonl", dropped)
        hits = ({"where": each.where, "id": each.id} | {"hit": asdict(each.hit)} for each in funnel.hits)
        _write_lines(folder / "contamination.jsonl", hits)
        record = {
            "hash": digest.hexdigest(),
            "data": name,
            "form": output.form,
            "funnel": funnel.to_dict(),
            "options": options.model_dump(mode="json"),
            "sources": [{"name": source.name, "about": source.about} for source in sources],
            "thinksmith": __version__,
        }
        _write(folder / "card.md", card(output.folder.name, record, funnel, options))
        _write(folder / "report.html", page(output.folder.name, record, funnel, options))
        _write(folder / _MARK, json.dumps(record, indent=2, ensure_ascii=True) + "\n")
    return digest.hexdigest()


@contextmanager
def _folder(place: Path) -> Iterator[Path]:
    """A new folder that takes the place of another when it is whole."""
    place = place.expanduser().absolute()
    part, old = place.with_name(f".{place.name}.{os.getpid()}.part"), _old(place)
    try:
        with explained(place):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            yield part
            sync(part)
            if place.exists():
                shutil.rmtree(old, ignore_errors=True)
                place.rename(old)
            part.rename(place)
            sync(place.parent)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        _restore(place)


def _old(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


def _restore(place: Path) -> None:
    """Bring back a set that was being replaced when the process was killed between the two renames."""
    place = place.expanduser().absolute()
    if not place.exists() and (_old(place) / _MARK).exists():
        _old(place).rename(place)


@contextmanager
def _synced(path: Path) -> Iterator[Any]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, text: str) -> None:
    with _synced(path) as file:
        file.write(text.encode("utf-8", "replace"))


def _write_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    with _synced(path) as file:
        for each in values:
            file.write(json_line(each))
