"""Raw completions of a prompt as it stands: how a turn is continued where the template is known."""

from __future__ import annotations

from typing import Any

from thinksmith.engines.remote.dialects.chat import framing, sampling_fields
from thinksmith.engines.remote.dialects.piece import Ask, Call


def call(ask: Ask) -> Call:
    """POST …/completions. The prompt has its special tokens already, so none are to be added."""
    preset = ask.endpoint.preset
    prompt = list(ask.prompt) if isinstance(ask.prompt, tuple) else ask.prompt
    body: dict[str, Any] = {"model": ask.endpoint.model, "prompt": prompt, "stream": ask.streamed}
    body["max_tokens"] = ask.max_tokens
    if ask.streamed and preset.kind != "llamacpp":
        body["stream_options"] = {"include_usage": True}
    if preset.kind in ("vllm", "nim", "sglang") and isinstance(prompt, str):
        body["add_special_tokens"] = False
    settings, notes = sampling_fields(ask)
    if settings.pop("logprobs", None):
        settings["logprobs"] = settings.pop("top_logprobs")
    return Call(f"{preset.path}/completions", body | settings, framing(ask), notes)
