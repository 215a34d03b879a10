"""Who thinks. `contract.py` says what an engine is; `local/` runs a policy in this process, `remote/` asks a server."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError


def open_engine(name: str, **options: Any) -> Engine:
    """The engine that a model's name stands for: `tiny`, `tiny-base`, a folder or a hub id run in this process;
    `ollama/MODEL`, `vllm/MODEL@URL` and so on (`remote/names.py`) are asked over HTTP; `replay/RUN` gives out what was
    recorded (`replay.py`).

    `options`, of models in this process: `device`, `dtype` and `quantize` as `load_policy` takes them, `slots`,
    `native` and `graphs` as `LocalEngine` does. Raises UserError.
    """
    if name.startswith("replay/"):
        from thinksmith.engines.replay import open_replay

        return open_replay(name, os.environ)
    if is_remote(name):
        from thinksmith.engines.remote.engine import open_remote

        if options:
            raise UserError(f"{', '.join(options)}: only for models in this process, and {name} is asked over HTTP")
        return open_remote(name)
    with _no_collection():
        from thinksmith.engines.local.engine import LocalEngine
        from thinksmith.policy.load import load_policy

        own = {key: options.pop(key) for key in ("slots", "native", "graphs") if key in options}
        return LocalEngine(load_policy(name, **options), **own)


def is_remote(name: str) -> bool:
    """Does a model's name mean an endpoint? A folder of that name goes first."""
    if "/" not in name or os.path.exists(name):
        return False
    from thinksmith.engines.remote import names, settings

    return names.is_remote(name, settings.load(os.environ))


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
