"""Finds a model's shape by name: one of the catalogue, an embedded one, a folder, a file, or a hub id.

Of a hub repository nothing but its config.json is downloaded.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from thinksmith import models
from thinksmith.errors import UserError, one_line
from thinksmith.fit.shapes.configs import shape_of
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.shapes.stored import stored_bytes

MOST_CONFIG = 16 << 20  # bytes of a config.json: real ones have a few thousand


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue. `params`: its published number of parameters; `names`: what else it is called."""

    id: str
    names: tuple[str, ...]
    params: int
    source: str
    config: Mapping[str, Any] = field(repr=False)

    @property
    def shape(self) -> Shape:
        return shape_of(self.config, self.id, self.source)


def find_shape(name: str) -> Shape:
    """The shape of a model.

    `name`: an id or another name of the catalogue (`qwq`, `deepseek-r1:7b`; of an id the last part is enough), `tiny`
    or `tiny-base`, a folder with a config.json, a path to one, a `*.gguf` file, or else a hub id `owner/name`, whose
    config.json is taken from the local cache or downloaded. A model that lies here comes before the catalogue. Raises
    UserError for what is not found, with the nearest names.
    """
    if not name.strip() or "\0" in name or len(name) > 4096:
        raise UserError("a model needs a name: one of the catalogue, a folder, a *.gguf file, or a hub id owner/name")
    if name in models.EMBEDDED:
        return _of_folder(models.path(name), name)
    path = _here(name)
    found = _by_name().get(name.casefold())
    if found and not (path and (path.is_file() or (path / "config.json").is_file())):
        return catalogue()[found].shape
    if path is not None:
        return _of_path(path, name)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(f"no model {name[:80]!r}: it is neither in the catalogue nor a folder here; {_nearest(name)}")
    return shape_of(_read(_from_hub(name), name), name, f"https://huggingface.co/{name}/blob/main/config.json")


@cache
def catalogue() -> Mapping[str, Entry]:
    """The models that are built in, by hub id."""
    said = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: _entry(name, said) for name in said})


def _entry(name: str, said: Mapping[str, Mapping[str, Any]]) -> Entry:
    """One model, with what it takes from the one that it is like."""
    fields = dict(said[name])
    base = _entry(fields.pop("like"), said) if "like" in fields else None
    names = tuple(fields.pop("names", ()))
    params = fields.pop("params", base.params if base else 0)
    source = fields.pop("source", f"https://huggingface.co/{name}/blob/main/config.json")
    return Entry(name, names, params, source, {**(base.config if base else {}), **fields})


@cache
def _by_name() -> Mapping[str, str]:
    """Ids by every name in small letters."""
    called = {entry.id: (entry.id, entry.id.rpartition("/")[2], *entry.names) for entry in catalogue().values()}
    return {name.casefold(): id for id, names in called.items() for name in names}


def _here(name: str) -> Path | None:
    """The folder or file of this name, None if there is none."""
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() or path.is_file() else None
    except (OSError, RuntimeError):  # too long a name, or the home of nobody
        return None


def _of_path(path: Path, name: str) -> Shape:
    """The model of a folder or of a file."""
    if path.suffix.casefold() == ".gguf" and path.is_file():
        from thinksmith.fit.formats.gguf import gguf_shape

        return gguf_shape(path)
    if path.is_dir():
        return _of_folder(path, name)
    if path.suffix != ".json":
        raise UserError(f"{name} is no model: name a folder, a config.json or a *.gguf file")
    return shape_of(_read(path, name), path.absolute().parent.name, str(path))


def _of_folder(folder: Path, name: str) -> Shape:
    """A folder in Hugging Face format; with weights in it, their bytes are counted."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(f"folder {name} holds an adapter and no model: name the model it is for")
        if found := sorted(folder.glob("*.gguf")):
            raise UserError(f"folder {name} holds no config.json, but {found[0].name}: name that file")
        raise UserError(f"folder {name} holds no config.json: name a folder in Hugging Face format")
    path = folder / "config.json"
    called = name if name in models.EMBEDDED else folder.absolute().name
    return replace(shape_of(_read(path, name), called, str(path)), stored=stored_bytes(folder))


def _read(path: Path, name: str) -> Mapping[str, Any]:
    """A config.json. Raises UserError if it cannot be read."""
    try:
        if path.stat().st_size > MOST_CONFIG:
            raise UserError(f"model {name}: its {path.name} has more than {MOST_CONFIG >> 20} MiB, so it is no config")
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"model {name}: {path} cannot be read: {one_line(error)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"model {name}: its {path.name} is malformed ({one_line(error)}); copy it again") from None
    if not isinstance(config, Mapping):
        raise UserError(f"model {name}: its {path.name} is no object with fields; copy it again")
    return config


def _from_hub(name: str) -> Path:
    """The repository's config.json in the local cache, or downloaded."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    with _told(name):
        try:
            return Path(huggingface_hub.hf_hub_download(name, "config.json", local_files_only=True))
        except LocalEntryNotFoundError:
            _check_online(name)
            return Path(huggingface_hub.hf_hub_download(name, "config.json"))


def _check_online(name: str) -> None:
    """One short look, because the hub's client retries for half a minute."""
    import httpx
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE", "") not in ("", "0")
    if not offline:
        try:
            httpx.head(constants.ENDPOINT, timeout=5.0)
            return
        except httpx.HTTPError:
            pass
    where = "downloads are switched off" if offline else f"{constants.ENDPOINT} cannot be reached"
    raise UserError(f"model {name!r} is neither built in nor here, and {where}; {_nearest(name)}")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Says in one line what the hub answered."""
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalEntryNotFoundError:
        reason = "it could not be reached; try again"
    except errors.GatedRepoError:
        reason = "it is given only to those who asked for it: ask on its page, then log in (hf auth login)"
    except errors.RepositoryNotFoundError:
        reason = f"there is no such public repository; {_nearest(name)}"
    except errors.EntryNotFoundError:
        reason = "it holds no config.json"
    except errors.HFValidationError:
        reason = f"that is no name of a repository; {_nearest(name)}"
    except (errors.HfHubHTTPError, OSError) as error:
        reason = one_line(error)
    else:
        return
    raise UserError(f"model {name!r} is not here, and the hub says: {reason}")


def _nearest(name: str) -> str:
    """The names that look like this one, for a message."""
    known = {**_by_name(), **{each: each for each in models.EMBEDDED}}
    close = difflib.get_close_matches(name.casefold()[:80], known, n=3, cutoff=0.5)
    near = list(dict.fromkeys(known[each] for each in close))
    return f"did you mean {', '.join(near)}?" if near else "use a built-in model, a folder, or a hub id owner/name"
