"""What each kind of server is like: where it is, which API it speaks, what it can do beyond it.

Facts as of November 2026, from: docs.ollama.com/openapi.yaml and capabilities/thinking; docs.vllm.ai (reasoning
outputs, `thinking_token_budget`; OpenAI-compatible server, `/tokenize`); docs.sglang.io (thinking budget);
llama.cpp's tools/server/README.md (`/apply-template`, `chat_template_kwargs`); lmstudio.ai/docs/developer;
platform.openai.com/docs/guides/reasoning; api-docs.deepseek.com/guides/thinking_mode;
openrouter.ai/docs/use-cases/reasoning-tokens; docs.nvidia.com/nim (an own release of vLLM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["chat", "ollama", "responses"]
History = Literal["none", "tool_loop", "all"]
Switch = Literal["", "think", "enable_thinking", "reasoning_effort", "reasoning", "thinking_type"]
Continues = Literal["", "continue_final_message", "thinking"]
Renders = Literal["", "tokenize", "apply-template"]

EVERYTHING = frozenset({"top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop", "stop_ids", "logprobs"})


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of server.

    `key_variable` names the environment variable of its key; `needs_key`: nothing works without. `history` is what of
    earlier thinking it is sent by default. `switch` turns thinking on and off. `budget` is the request's field that
    bounds the thinking. `continues` is how the chat goes on with an assistant's turn; `thinking`: as Ollama does,
    whose templates close a thinking that is handed in, so that only an answer can be continued. `completions`: there
    are raw ones, and `renders` says who puts a conversation into the model's template for them. `samplers` are the
    settings of `Sampling` that it takes, besides the temperature and the number of tokens.
    """

    kind: str
    url: str
    key_variable: str = ""
    needs_key: bool = False
    dialect: Dialect = "chat"
    path: str = "/v1"
    history: History = "none"
    switch: Switch = ""
    budget: str = ""
    continues: Continues = ""
    completions: bool = False
    renders: Renders = ""
    samplers: frozenset[str] = EVERYTHING
    most_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    schemas: bool = True
    """Does it take a JSON schema for the answer?"""
    chooses: bool = True
    """Can it be told that a tool must be called?"""
    returns: str = "reasoning_content"
    """The field of a message in which earlier thinking is sent back; "" where only tags in the content carry it."""


PRESETS = {
    preset.kind: preset
    for preset in (
        Preset(
            "ollama",
            "http://127.0.0.1:11434",
            "OLLAMA_API_KEY",
            dialect="ollama",
            path="/api",
            switch="think",
            continues="thinking",
            samplers=EVERYTHING - {"stop_ids"},
            chooses=False,
            returns="thinking",
        ),
        Preset(
            "vllm",
            "http://127.0.0.1:8000",
            "VLLM_API_KEY",
            switch="enable_thinking",
            budget="thinking_token_budget",
            continues="continue_final_message",
            completions=True,
            renders="tokenize",
            returns="reasoning",
        ),
        Preset(
            "nim",
            "http://127.0.0.1:8000",
            "NVIDIA_API_KEY",
            switch="enable_thinking",
            continues="continue_final_message",
            completions=True,
            samplers=EVERYTHING - {"stop_ids"},
        ),
        Preset(
            "sglang",
            "http://127.0.0.1:30000",
            "SGLANG_API_KEY",
            switch="enable_thinking",
            continues="continue_final_message",
            completions=True,
        ),
        Preset(
            "llamacpp",
            "http://127.0.0.1:8080",
            "LLAMA_API_KEY",
            switch="enable_thinking",
            completions=True,
            renders="apply-template",
            samplers=EVERYTHING - {"stop_ids"},
        ),
        Preset(
            "lmstudio",
            "http://127.0.0.1:1234",
            completions=True,
            samplers=EVERYTHING - {"stop_ids", "logprobs"},
            returns="",
        ),
        Preset(
            "openai",
            "https://api.openai.com",
            "OPENAI_API_KEY",
            needs_key=True,
            dialect="responses",
            switch="reasoning_effort",
            samplers=frozenset({"top_p"}),
            returns="",
        ),
        Preset(
            "deepseek",
            "https://api.deepseek.com",
            "DEEPSEEK_API_KEY",
            needs_key=True,
            path="",
            history="tool_loop",
            switch="thinking_type",
            samplers=frozenset({"top_p", "stop", "logprobs"}),
            schemas=False,
        ),
        Preset(
            "openrouter",
            "https://openrouter.ai",
            "OPENROUTER_API_KEY",
            needs_key=True,
            path="/api/v1",
            history="tool_loop",
            switch="reasoning",
            budget="reasoning.max_tokens",
            samplers=EVERYTHING - {"stop_ids"},
            returns="reasoning",
        ),
        Preset(
            "endpoint",  # any other that speaks OpenAI's chat completions; its address is always given
            "",
            "THINKSMITH_API_KEY",
            completions=True,
            samplers=frozenset({"top_p", "seed", "stop"}),
        ),
    )
}
