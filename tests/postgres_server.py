"""A PostgreSQL server of the tests alone, from the programs of the system's package, on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0]))
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return Path(named).resolve().parent if named else None


def _user() -> dict[str, Any]:
    """As whom it runs: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return {"user": "postgres"}


@contextmanager
def serving() -> Iterator[str]:
    """host:port of a fresh server, which is stopped at the end; its superuser is `boss` (password `bosspw`). Skips the
    test where it is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    user = _user()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pw").write_text("bosspw\n")
        (folder / "pw").chmod(0o644)
        folder.chmod(0o755)
        (folder / "data").mkdir(0o700)
        if user:
            for path in (folder, folder / "data"):
                shutil.chown(path, "postgres")
        make = [programs / "initdb", "-D", folder / "data", "-A", "scram-sha-256", "-U", "boss"]
        make += [f"--pwfile={folder / 'pw'}", "-N", "-E", "UTF8"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve = [programs / "postgres", "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"]
        process = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **user)
        try:
            _wait(f"127.0.0.1:{port}")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _wait(place: str) -> None:
    psycopg = pytest.importorskip("psycopg")
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(f"postgresql://boss:bosspw@{place}/postgres").close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
