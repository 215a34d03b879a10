"""The `store` fixture: an empty one in SQLite, and one in PostgreSQL, of a server that is started for the tests.

THINKSMITH_TEST_POSTGRES names another database, which the tests empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import serving
from thinksmith.store import schema
from thinksmith.store.store import Store


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    if named := os.environ.get("THINKSMITH_TEST_POSTGRES"):
        yield named
        return
    with serving() as place:
        yield f"postgresql://boss:bosspw@{place}/postgres"


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    pytest.importorskip("psycopg")
    url = str(request.getfixturevalue("postgres_url"))
    from sqlalchemy import create_engine

    engine = create_engine(url)
    schema.tables.drop_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with Store.open(store_url) as opened:
        yield opened
