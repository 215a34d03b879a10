"""Who thinks. `contract.py` says what an engine is; `local/` runs a policy in this process."""

from __future__ import annotations

from typing import Any

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError

REMOTE = ("ollama", "vllm", "nim", "openai", "llamacpp", "replay")


def open_engine(name: str, **options: Any) -> Engine:
    """The engine that a model's name stands for: `tiny`, `tiny-base`, a folder or a hub id run in this process.

    `options`: `device` and `dtype` as `load_policy` takes them, `slots` as `LocalEngine` does. Raises UserError.
    """
    kind = name.split("/", 1)[0]
    if kind in REMOTE and "/" in name:
        raise UserError(f"{kind}/… is not in this version yet; use tiny, a folder or a hub id")
    from thinksmith.engines.local.engine import LocalEngine
    from thinksmith.policy.load import load_policy

    slots = options.pop("slots", None)
    return LocalEngine(load_policy(name, **options), slots=slots)
