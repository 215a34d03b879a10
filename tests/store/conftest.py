"""The `store` fixture: an empty one in SQLite, and one in PostgreSQL where THINKSMITH_TEST_POSTGRES names a database.

That database is emptied by the tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from thinksmith.store import schema
from thinksmith.store.store import Store


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    url = os.environ.get("THINKSMITH_TEST_POSTGRES")
    if url is None:
        pytest.skip("THINKSMITH_TEST_POSTGRES names no database to test with")
    pytest.importorskip("psycopg")
    from sqlalchemy import create_engine

    engine = create_engine(url)
    schema.tables.drop_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with Store.open(store_url) as opened:
        yield opened
