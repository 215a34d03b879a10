"""The sets of layers that a machine may have: all that work here, and those without user namespaces."""

from __future__ import annotations

import pytest

from thinksmith.sandbox import Sandbox, host, open_sandbox

WITHOUT_NAMESPACES = ("landlock", "seccomp", "limits")


@pytest.fixture(scope="session", params=["all", "without namespaces"])
def sandbox(request) -> Sandbox:
    active = host().active
    if request.param == "all":
        return open_sandbox(only=active)
    if lacking := set(WITHOUT_NAMESPACES) - set(active):
        pytest.skip(f"no {', '.join(sorted(lacking))} here")
    return open_sandbox(only=WITHOUT_NAMESPACES)
