"""The layers of the sandbox, and whether they suffice for programs that nobody trusts."""

from __future__ import annotations

from thinksmith.health.finding import Finding, plain
from thinksmith.sandbox import Host


def findings(host: Host) -> list[Finding]:
    """A layer that is missing is a problem only where the others do not isolate without it."""
    layers = [
        Finding("sandbox", layer.name, "active")
        if layer.active
        else Finding("sandbox", layer.name, f"missing: {plain(layer.reason)}", "note", layer.remedy)
        for layer in host.layers
    ]
    kept = [
        Finding("sandbox", what, f"kept by {', '.join(names)}" if names else "kept by nothing")
        for what, names in host.keepers().items()
    ]
    return [*layers, *kept, _verdict(host)]


def _verdict(host: Host) -> Finding:
    if host.isolates:
        return Finding("sandbox", "untrusted code", "can be run")
    value = "is not run: nothing keeps it from your files and network"
    remedy = next((layer.remedy for layer in host.layers if layer.remedy), "use Linux")
    return Finding("sandbox", "untrusted code", value, "problem", remedy)
