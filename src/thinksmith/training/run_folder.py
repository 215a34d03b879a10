"""The folder of a training run: what was asked, with which versions, and what came of it."""

from __future__ import annotations

import json
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thinksmith import __version__
from thinksmith.errors import UserError
from thinksmith.recipes.load import to_toml
from thinksmith.training.durable import replacing

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")


def versions() -> dict[str, str]:
    """What the figures of a run depend on beside its recipe."""
    found = {"thinksmith": __version__, "python": platform.python_version()}
    return found | {name: version(name) for name in LIBRARIES} | {"machine": platform.machine()}


def new_folder(name: str) -> Path:
    """A folder for a new run below ./runs, named for the recipe and the time."""
    return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def folder_for(recipe: Path, out: Path | None, name: str = "") -> Path:
    """Where a run of a recipe's file goes: `out`; else the file's own folder where that is a run's, which is gone on
    with; else a new one, named `name` or as the file is."""
    if out:
        return out
    return recipe.parent if recipe.name == "recipe.toml" else new_folder(name or recipe.stem)


def open_folder(folder: Path, recipe: BaseModel, facts: dict[str, Any]) -> None:
    """Create the folder, or check that the run in it is of the same recipe and began from the same weights. Raises
    UserError where it is not, or where the folder cannot be written."""
    text = to_toml(recipe)
    path = folder / "recipe.toml"
    try:
        if path.exists():
            if path.read_bytes() != text.encode():
                raise UserError(f"{folder} holds a run of another recipe; name another folder, or resume it as it was")
            if read_facts(folder).get("weights_hash", facts.get("weights_hash")) != facts.get("weights_hash"):
                model = facts.get("model", "the model")
                raise UserError(
                    f"{folder} holds a run that began from other weights than {model} has now; name another"
                )
            return
        folder.mkdir(parents=True, exist_ok=True)
        # The recipe last: a folder that has one is whole.
        write_json(folder / "facts.json", {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **facts})
        write_whole(path, text)
    except OSError as error:
        raise UserError(f"cannot write the run folder {folder}: {error.strerror}; name another with --out") from None


def read_facts(folder: Path) -> dict[str, Any]:
    """What `open_folder` noted when the run began; nothing where that cannot be read."""
    return read_json(folder / "facts.json")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of the run folder; nothing where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, data: Any) -> None:
    write_whole(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Replace the file: a process that is killed leaves the old one or the new one."""
    with replacing(path) as file:
        file.write(text.encode())
