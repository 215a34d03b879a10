"""schemathesis holds the server against its description: a sample; bench/serve_fuzz.py has the 5,000 cases."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="the extra test installs it")


def test_right_and_wrong_requests_are_answered_as_described(tiny_server: Any) -> None:
    path = Path(__file__).resolve().parents[2] / "bench" / "serve_fuzz.py"
    spec = importlib.util.spec_from_file_location("serve_fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = bench
    spec.loader.exec_module(bench)
    found = bench.fuzz(tiny_server.url, 72, seed=1)
    figures = bench.summary(found)
    assert not found["wrong"], "\n".join(f"{what}\n{how}" for what, how in found["wrong"].items())
    assert figures["server_errors"] == 0
    assert figures["cases"] >= 72
