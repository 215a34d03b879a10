"""The store, looked at without opening it for writing: nothing is made or upgraded."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit

from thinksmith.health.disk import existing
from thinksmith.health.finding import Finding, plain
from thinksmith.store.schema import SCHEMA_VERSION

_ANOTHER = "name another store with THINKSMITH_STORE"


def place(url: str) -> Path | None:
    """The SQLite file that a store's name names; None for a database on a server, or what is no store's name."""
    name = url.removeprefix("sqlite:///")
    if "://" in name or name in ("", ":memory:") or "\0" in name:
        return None
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError:  # the home of a user who is not there
        return None


def findings(url: str) -> list[Finding]:
    """What is to be said of the store of this name."""
    if (path := place(url)) is None:
        return [_server(url)]
    shown = plain(str(path))
    if path.is_dir():
        return [_bad(shown, "is a folder", f"name a file in it: THINKSMITH_STORE={shown}/store.db")]
    folder = existing(path.parent)
    if not os.access(folder, os.W_OK | os.X_OK):
        return [_bad(shown, "its folder cannot be written to", f"make {plain(str(folder))} writable, or {_ANOTHER}")]
    if not path.exists():
        return [Finding("store", "file", f"{shown} (made by the first run)")]
    if not os.access(path, os.R_OK | os.W_OK):
        return [_bad(shown, "cannot be read and written", f"change the file's permissions, or {_ANOTHER}")]
    return _inside(path, shown)


def _inside(path: Path, shown: str) -> list[Finding]:
    try:
        with path.open("rb") as file:
            if file.read(16) not in (b"", b"SQLite format 3\0"):
                return [_bad(shown, "is not a database", _ANOTHER)]
        with closing(_connect(path)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "thinksmith_meta" not in names:
                if names:
                    return [_bad(shown, f"belongs to another program (it has a table {plain(min(names))!r})", _ANOTHER)]
                return [Finding("store", "file", f"{shown} (empty)")]
            version = connection.execute("SELECT value FROM thinksmith_meta WHERE key = 'schema_version'").fetchone()
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    except OSError as error:
        return [_bad(shown, str(error.strerror), _ANOTHER)]
    except (sqlite3.Error, UnicodeDecodeError, TypeError) as error:
        remedy = f"move it away (`sqlite3 FILE .recover` saves what it can), or {_ANOTHER}"
        return [_bad(shown, f"cannot be read ({plain(str(error), 80)})", remedy)]
    read = _version(str(version[0]) if version else "?")
    return [Finding("store", "file", shown), read, Finding("store", "runs", f"{runs:,}")]


def _connect(path: Path) -> sqlite3.Connection:
    """Read-only. Without a write-ahead log nobody is writing, and then SQLite need not make one to read."""
    log = path.with_name(path.name + "-wal")
    options = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, timeout=1.0)


def _version(version: str) -> Finding:
    if not version.isdecimal() or not 1 <= int(version[:9]) <= SCHEMA_VERSION:
        remedy = f"upgrade thinksmith, or {_ANOTHER}"
        value = f"{plain(version, 20)}, and this thinksmith reads up to {SCHEMA_VERSION}"
        return Finding("store", "version", value, "problem", remedy)
    older = "" if int(version) == SCHEMA_VERSION else f" ({SCHEMA_VERSION} when it is opened next)"
    return Finding("store", "version", version + older)


def _server(url: str) -> Finding:
    """A database on a server is not asked: it may be far away. Nothing of its password is shown."""
    if not url.startswith(("postgresql", "postgres:")) or "://" not in url:
        return _bad("THINKSMITH_STORE", "names no store", "set it to a file or a postgresql:// URL")
    try:
        parts = urlsplit(url)
        shown = plain(f"postgresql://{parts.hostname or ''}{parts.path}")
    except ValueError:
        return _bad("THINKSMITH_STORE", "does not parse", "write postgresql://user:password@host:5432/database")
    if find_spec("psycopg") is None:
        return _bad(shown, "needs psycopg", "pip install 'thinksmith[postgres]'")
    return Finding("store", "server", f"{shown} (not asked; `thinksmith runs` opens it)")


def _bad(shown: str, reason: str, remedy: str) -> Finding:
    return Finding("store", "file", f"{shown} {reason}", "problem", remedy)
