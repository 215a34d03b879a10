"""What there is, as Ollama lists it: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from thinksmith import __version__
from thinksmith.serve.dialect import About

SPEAKS = "0.12.11"
"""The version of Ollama whose API this is; clients look there whether a server knows a field."""
_FOREVER = timedelta(days=36_500)  # a model stays as long as the server


def tags(listed: Sequence[About]) -> dict[str, Any]:
    """`GET /api/tags`: all models that are served."""
    return {"models": [_model(about) for about in listed]}


def ps(listed: Sequence[About]) -> dict[str, Any]:
    """`GET /api/ps`: those in memory, which are all of them."""
    until = _time(datetime.now(UTC) + _FOREVER)
    more = ({"expires_at": until, "size_vram": 0, "context_length": about.context_length} for about in listed)
    return {"models": [_model(about) | each for about, each in zip(listed, more, strict=True)]}


def show(about: About) -> dict[str, Any]:
    """`POST /api/show`: one of them."""
    family = about.architecture or "unknown"
    info: dict[str, Any] = {"general.architecture": family, "general.basename": about.model}
    if about.parameters:
        info["general.parameter_count"] = about.parameters
    if about.context_length:
        info[f"{family}.context_length"] = about.context_length
    return {
        "license": "",
        "modelfile": f"FROM {about.model}\n",
        "parameters": "",
        "template": "",
        "details": _details(about),
        "model_info": info,
        "capabilities": ["completion", "tools", *(["thinking"] if about.tags else [])],
        "modified_at": _time(datetime.fromtimestamp(about.created, UTC)),
    }


def version() -> dict[str, Any]:
    """`GET /api/version`."""
    return {"version": SPEAKS, "thinksmith": __version__}


def _model(about: About) -> dict[str, Any]:
    name = about.name if ":" in about.name else f"{about.name}:latest"
    return {
        "name": name,
        "model": name,
        "modified_at": _time(datetime.fromtimestamp(about.created, UTC)),
        "size": about.size,
        "digest": about.digest,
        "details": _details(about),
    }


def _details(about: About) -> dict[str, Any]:
    return {
        "parent_model": about.model if about.strategy else "",
        "format": "safetensors",
        "family": about.architecture,
        "families": [about.architecture] if about.architecture else [],
        "parameter_size": _counted(about.parameters),
        "quantization_level": _level(about.dtype),
    }


def _counted(parameters: int) -> str:
    """2.8M, 7.6B; "" where nobody says."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= size:
            return f"{parameters / size:.1f}{unit}"
    return str(parameters) if parameters else ""


def _level(dtype: str) -> str:
    return {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}.get(dtype, dtype.upper())


def _time(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
