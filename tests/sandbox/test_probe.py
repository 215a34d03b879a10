"""Which sandbox is opened on which machine, and what is said where there is none."""

from __future__ import annotations

import pytest

from thinksmith.errors import UserError
from thinksmith.sandbox import LAYERS, Host, Layer, Limits, Sandbox, bubblewrap, landlock, open_sandbox, probe


def machine(*active: str) -> Host:
    def layer(name: str) -> Layer:
        return Layer(name, True) if name in active else Layer(name, False, "refused", f"get {name}")

    return Host(tuple(map(layer, LAYERS)), "user")


@pytest.fixture
def on(monkeypatch):
    """`on("landlock", …)`: this process believes to be on a machine with these layers."""
    monkeypatch.delenv("THINKSMITH_UNSAFE_CODE", raising=False)

    def believe(*active: str) -> None:
        monkeypatch.setattr(probe, "_probe", lambda: machine(*active))

    return believe


@pytest.mark.parametrize(
    ("active", "isolates"),
    [
        (LAYERS, True),
        (("namespaces", "limits"), True),
        (("landlock", "seccomp", "limits"), True),
        (("landlock", "limits"), False),
        (("seccomp", "limits"), False),
        (("limits",), False),
    ],
)
def test_untrusted_code_only_where_files_and_network_are_kept(on, monkeypatch, active, isolates):
    on(*active)
    if isolates:
        assert open_sandbox() == Sandbox(active, "user")
    else:
        with pytest.raises(UserError, match=r"not run.*get .*--unsafe-code") as told:
            open_sandbox()
        assert "\n" not in str(told.value)
        assert open_sandbox(unsafe=True).layers == active
        monkeypatch.setenv("THINKSMITH_UNSAFE_CODE", "1")
        assert not open_sandbox().isolates
        monkeypatch.setenv("THINKSMITH_UNSAFE_CODE", "0")
        with pytest.raises(UserError):
            open_sandbox()


def test_only_some_layers_or_a_clear_word(on):
    on("landlock", "limits")
    assert open_sandbox(only=["limits"]).layers == ("limits",)
    with pytest.raises(UserError, match="no sandbox layer namespaces, seccomp here"):
        open_sandbox(only=("seccomp", "namespaces", "limits"))


def test_not_on_linux(monkeypatch):
    monkeypatch.setattr(probe.sys, "platform", "darwin")
    monkeypatch.setattr(probe, "_probe", probe._probe.__wrapped__)
    with pytest.raises(UserError, match="Linux only"):
        open_sandbox(unsafe=True)


def test_a_layer_that_does_not_stop_the_attempt_does_not_count(monkeypatch):
    """Landlock that is there and keeps nothing, a filter that lets everything through."""
    from thinksmith.sandbox import sandbox, seccomp

    monkeypatch.setattr(sandbox.landlock, "rules", lambda *_: None)
    monkeypatch.setattr(seccomp, "build", lambda *_, **__: b"\x06\0\0\0\0\0\xff\x7f")
    monkeypatch.setattr(bubblewrap, "found", lambda: None)
    found = {layer.name: layer for layer in probe._probe.__wrapped__().layers}
    assert (found["namespaces"].reason, found["namespaces"].remedy) == (
        "bubblewrap is not installed",
        "install bubblewrap",
    )
    if landlock.abi() >= landlock.LEAST_ABI:
        assert found["landlock"].reason == "does not keep away files"
    assert found["seccomp"].reason == "does not keep away network"
    assert found["limits"].active


def test_an_old_landlock_is_none(monkeypatch):
    monkeypatch.setattr(landlock, "abi", lambda: 2)
    found = {layer.name: layer for layer in probe._probe.__wrapped__().layers}
    assert found["landlock"].reason == "the kernel has Landlock ABI 2"
    assert "6.2" in found["landlock"].remedy


def test_the_guest_starts_in_time_or_it_is_an_error(monkeypatch):
    from thinksmith.sandbox import keeper

    monkeypatch.setattr(keeper, "START_SECONDS", 0.0)
    result = Sandbox(()).run("print('ran')", limits=Limits(seconds=5))
    assert (result.status, result.stdout, result.exit_code) == ("error", b"", None)
    assert "did not start" in result.reason
