"""Who thinks. `contract.py` says what an engine is; `local/` runs a policy in this process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError

REMOTE = ("ollama", "vllm", "nim", "openai", "llamacpp", "replay")


def open_engine(name: str, **options: Any) -> Engine:
    """The engine that a model's name stands for: `tiny`, `tiny-base`, a folder or a hub id run in this process.

    `options`: `device`, `dtype` and `quantize` as `load_policy` takes them, `slots`, `native` and `graphs` as
    `LocalEngine` does. Raises UserError.
    """
    kind = name.split("/", 1)[0]
    if kind in REMOTE and "/" in name:
        raise UserError(f"{kind}/… is not in this version yet; use tiny, a folder or a hub id")
    with _no_collection():
        from thinksmith.engines.local.engine import LocalEngine
        from thinksmith.policy.load import load_policy

        own = {key: options.pop(key) for key in ("slots", "native", "graphs") if key in options}
        return LocalEngine(load_policy(name, **options), **own)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection meanwhile: importing torch and transformers makes a million objects and hardly any garbage,
    and looking for it again and again takes a sixth of the time until the first token."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
