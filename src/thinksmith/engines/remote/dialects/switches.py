"""How each server is told to think or not, how hard, and for how many tokens at most.

Sources: docs.ollama.com/capabilities/thinking (`think`); docs.vllm.ai, reasoning outputs (`chat_template_kwargs`,
`thinking_token_budget`); docs.sglang.io and llama.cpp's server (`chat_template_kwargs`);
platform.openai.com/docs/guides/reasoning (`reasoning.effort`); api-docs.deepseek.com/guides/thinking_mode
(`thinking.type`, `reasoning_effort`); openrouter.ai/docs/use-cases/reasoning-tokens (`reasoning`). Looked up in
November 2026.
"""

from __future__ import annotations

from typing import Any

from thinksmith.engines.remote.dialects.piece import Ask
from thinksmith.errors import UserError


def switches(ask: Ask) -> dict[str, Any]:
    """Fields of the request. Raises UserError where the server has no such switch."""
    endpoint, effort = ask.endpoint, ask.endpoint.effort
    preset = endpoint.preset
    body: dict[str, Any] = {}
    if ask.budget is not None:
        outer, _, inner = preset.budget.partition(".")
        body[outer] = {inner: ask.budget} if inner else ask.budget
    if ask.think is None:
        return body
    if preset.switch == "think":
        body["think"] = effort or ask.think
    elif preset.switch == "enable_thinking":
        body["chat_template_kwargs"] = {"enable_thinking": ask.think}
        if effort:
            body["reasoning_effort"] = effort
    elif preset.switch == "thinking_type":
        body["thinking"] = {"type": "enabled" if ask.think else "disabled"}
        if effort:
            body["reasoning_effort"] = effort
    elif preset.switch == "reasoning":
        wanted = {"effort": effort} if effort else {"enabled": ask.think}
        body["reasoning"] = body.get("reasoning") or wanted
    elif preset.switch == "reasoning_effort":
        if not ask.think or effort:
            body["reasoning_effort"] = effort or "none"
    else:
        raise UserError(
            f"{endpoint.kind} has no switch for thinking: leave out think=, or give the model's own words in a prompt"
        )
    return body
