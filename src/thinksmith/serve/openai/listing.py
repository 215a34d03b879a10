"""`/v1/models`: what is served, as OpenAI lists it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thinksmith.serve.dialect import About


def models(listed: Sequence[About]) -> dict[str, Any]:
    """All of it. `max_model_len` is as vLLM has it; `strategies` can be named behind a model's name."""
    return {"object": "list", "data": [model(about) for about in listed]}


def model(about: About) -> dict[str, Any]:
    """One of it."""
    found: dict[str, Any] = {"id": about.name, "object": "model", "created": about.created, "owned_by": "thinksmith"}
    if about.context_length:
        found["max_model_len"] = about.context_length
    if about.strategy:
        found |= {"base": about.base, "strategy": about.strategy}
    if about.strategies:
        found["strategies"] = [{"spec": spec, "about": about_it} for spec, about_it in about.strategies]
    return found
