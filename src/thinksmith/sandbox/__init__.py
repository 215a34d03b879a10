"""Runs code that nobody trusts: `open_sandbox().run(source)`. See docs/sandbox.md for what keeps it in."""

from thinksmith.sandbox.guest import Guest
from thinksmith.sandbox.limits import Limits, Result, Status
from thinksmith.sandbox.probe import Host, Layer, host, open_sandbox
from thinksmith.sandbox.sandbox import LAYERS, Sandbox

__all__ = ["LAYERS", "Guest", "Host", "Layer", "Limits", "Result", "Sandbox", "Status", "host", "open_sandbox"]
