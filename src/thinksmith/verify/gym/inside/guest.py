"""Inside the sandbox: one scorer of reasoning-gym on one answer. Stands alone; imports nothing of thinksmith.

The package imports sympy, matplotlib and more where it begins, which takes seconds. Here its packages are replaced by
empty ones, so that only the data set's own module and what that needs are loaded (about a tenth of a second).
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Read the request on stdin, write `SECRET SCORE` as the last line."""
    request = json.load(sys.stdin)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # numpy would take memory for every core
    sys.stdout = io.StringIO()
    score = float(_scorer(request)(request["answer"], request["entry"]))
    os.write(1, f"\n{request['secret']} {score!r}\n".encode())


def _scorer(request: dict[str, Any]) -> Callable[[str, dict[str, Any]], float]:
    """`score_answer` of a data set."""
    module = request["module"]
    spec = importlib.util.find_spec("reasoning_gym")
    assert spec is not None
    root = (spec.submodule_search_locations or [""])[0]
    _empty("reasoning_gym", root)
    _empty(module.rpartition(".")[0], os.path.join(root, module.split(".")[1]))
    coaching = _empty("reasoning_gym.coaching", os.path.join(root, "coaching"))
    for part in ("attributes", "base_curriculum"):
        found = vars(importlib.import_module(f"reasoning_gym.coaching.{part}"))
        vars(coaching).update({key: value for key, value in found.items() if not key.startswith("_")})
    importlib.import_module(module)
    dataset, config = importlib.import_module("reasoning_gym.factory").DATASETS[request["name"]]
    score: Callable[[str, dict[str, Any]], float] = dataset(
        config=config(seed=0, size=1, **request["settings"])
    ).score_answer
    return score


def _empty(name: str, folder: str) -> types.ModuleType:
    """A package of this name whose parts are found but whose own code is not run."""
    package = types.ModuleType(name)
    package.__path__ = [folder]
    sys.modules[name] = package
    return package
