"""Servers that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve installs it")
pytest.importorskip("uvicorn", reason="the extra serve installs it")

from serve_parts import Scripted, Serving, serving  # type: ignore[import-not-found]

from thinksmith.engines import open_engine


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def scripted_app(scripted: Scripted) -> Any:
    from thinksmith.serve.answering import Limits
    from thinksmith.serve.app import create_app
    from thinksmith.serve.models import Base, Shelf

    base = Base.of("scripted", scripted, places=2, queue=1)
    limits = Limits(body=100_000, body_seconds=1.0, n=8, write_seconds=1.0)
    return create_app(Shelf([base]), limits=limits)


@pytest.fixture
def scripted_server(scripted_app: Any) -> Iterator[Serving]:
    with serving(scripted_app) as found:
        yield found


@pytest.fixture(scope="session")
def tiny_server() -> Iterator[Serving]:
    """The real `tiny`, and a vote over it, behind a real server."""
    from thinksmith.serve.app import create_app
    from thinksmith.serve.models import Base, Shelf
    from thinksmith.strategies.names import strategy

    base = Base.of("tiny", open_engine("tiny"), places=16, queue=64)
    with serving(create_app(Shelf([base], {"tiny:vote@4": (base, strategy("vote@4"))}))) as found:
        yield found
