"""The schemas of what is asked: the same bounds as the dialects' `read`, which the tests hold against them.

Only lengths of thousands are left out: such bodies are refused with 400 or 413.
"""

from __future__ import annotations

from typing import Any

from thinksmith.serve.fields import IDS, SEEDS
from thinksmith.serve.ollama.asking import DURATION, LEVELS, LONGEST
from thinksmith.serve.openai.chat import EFFORTS
from thinksmith.serve.openapi.words import (
    ANYTHING,
    FLAG,
    MAYBE_TABLE,
    NAME,
    TEXT,
    Schema,
    array,
    ignored,
    maybe,
    number,
    off,
    one_of,
    ref,
    said,
    table,
    texts,
    whole,
)

IDS_SCHEMA: Schema = array({"type": "integer", "minimum": 0, "maximum": IDS - 1})
TOOL_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"}
ARGUMENTS: Schema = {
    "anyOf": [{"type": "string", "contentMediaType": "application/json"}, {"type": "object"}, {"type": "null"}],
    "description": "the text of a JSON object, or the object",
}


def _sampling() -> dict[str, Schema]:
    """The fields of sampling that OpenAI's dialects share."""
    return {
        "temperature": number(0, 100, "0 is greedy"),
        "top_p": number(0, 1),
        "top_k": whole(-1, about="0 and -1 are off"),
        "min_p": number(0, 1),
        "repetition_penalty": number(0.01, 100, "1 is off"),
        "seed": whole(-SEEDS, SEEDS - 1, "the same seed gives the same answer, whatever else is asked for meanwhile"),
        "stop": texts(16),
        "stop_token_ids": maybe(IDS_SCHEMA),
        "min_thinking_tokens": whole(0),
        "presence_penalty": off(),
        "frequency_penalty": off(),
        "logit_bias": off(),
    }


def _part() -> Schema:
    """A part of a message's content."""
    text = table(
        {"type": {"enum": ["text", "input_text", "output_text"]}, "text": {"type": "string"}}, ["type", "text"]
    )
    refusal = table({"type": {"const": "refusal"}, "refusal": {"type": "string"}}, ["type", "refusal"])
    return {"anyOf": [text, refusal]}


def _content(part: Schema) -> Schema:
    return {"anyOf": [{"type": "string"}, array(part), {"type": "null"}]}


def _message() -> Schema:
    call = table(
        {
            "id": TEXT,
            "type": ANYTHING,
            "function": table({"name": {"type": "string"}, "arguments": ARGUMENTS}, ["name"]),
        },
        ["function"],
    )
    content = {"content": _content(ref("Part"))}
    assistant = {
        "role": {"const": "assistant"},
        "reasoning_content": said(TEXT, "what it thought; the model's template decides whether it is told again"),
        "reasoning": TEXT,
        "tool_calls": maybe(array(call)),
    }
    tool = {"role": {"enum": ["tool", "function"]}, "tool_call_id": ANYTHING, "name": TEXT}
    return {
        "anyOf": [
            table({"role": {"enum": ["system", "developer", "user"]}} | content, ["role"]),
            table(assistant | content, ["role"]),
            table(tool | {"tool_call_id": TEXT} | content, ["role"]),
        ]
    }


def _function() -> Schema:
    return table(
        {"name": TOOL_NAME, "description": ANYTHING, "parameters": MAYBE_TABLE, "strict": ANYTHING},
        ["name"],
    )


def _tool() -> Schema:
    return table({"type": {"const": "function"}, "function": _function()}, ["type", "function"])


def _tool_choice() -> Schema:
    named = table({"type": {"const": "function"}, "function": table({"name": {"type": "string"}}, ["name"])})
    named["required"] = ["type", "function"]
    return {"anyOf": [{"enum": ["auto", "none", "required", None]}, named]}


def _response_format() -> Schema:
    free = table({"type": one_of("text", "json_object")})
    schema = table({"schema": {"type": "object"}}, ["schema"])
    bound = table({"type": {"const": "json_schema"}, "json_schema": schema}, ["type", "json_schema"])
    return {"anyOf": [free, bound, {"type": "null"}]}


def chat(model: Schema) -> Schema:
    """`POST /v1/chat/completions`."""
    efforts = tuple(EFFORTS)
    reasoning = table({"effort": one_of(*efforts), "max_tokens": whole(0), "enabled": FLAG})
    template = table({"enable_thinking": FLAG, "thinking": FLAG})
    return table(
        {
            "model": model,
            "messages": array(ref("Message"), 1),
            "n": whole(1, 128),
            "stream": FLAG,
            "stream_options": maybe(table({"include_usage": FLAG})),
            **_sampling(),
            "max_completion_tokens": whole(1, about="thinking included"),
            "max_tokens": whole(1, about="the older name of max_completion_tokens"),
            "reasoning_effort": one_of(*efforts, about="`none` answers without thinking"),
            "thinking_token_budget": whole(0, about="the most tokens of thinking; then its end is forced"),
            "reasoning": maybe(reasoning),
            "chat_template_kwargs": maybe(template),
            "prefill": said(TEXT, "the text with which the answer begins"),
            "continue_final_message": said(FLAG, "the last message is the assistant's, and is gone on with"),
            "tools": maybe(array(ref("Tool"), high=512)),
            "tool_choice": _tool_choice(),
            "response_format": _response_format(),
            "logprobs": FLAG,
            "top_logprobs": whole(0, 20, "needs logprobs"),
            "traces": said(FLAG, "also what a strategy looked at"),
            "chat_template": off("refused: templates are the model's own"),
            "functions": off("refused: these became tools"),
            "function_call": off("refused: this became tool_choice"),
            **{name: ignored() for name in ("user", "store", "metadata", "service_tier", "parallel_tool_calls")},
        },
        ["model", "messages"],
    )


def completions(model: Schema) -> Schema:
    """`POST /v1/completions`."""
    ids = {**IDS_SCHEMA, "minItems": 1}
    return table(
        {
            "model": model,
            "prompt": {"anyOf": [NAME, array(NAME, 1, 256), ids, array(ids, 1, 256)]},
            "n": whole(1, 128),
            "best_of": whole(1, 128, "n or more; the likeliest n are told"),
            "echo": said(FLAG, "the prompt before each completion"),
            "logprobs": whole(0, 20, "so many of the likeliest tokens at each place, and the token itself"),
            "max_tokens": whole(0, about="16 if missing; 0 with echo only scores the prompt"),
            "stream": FLAG,
            "stream_options": maybe(table({"include_usage": FLAG})),
            **_sampling(),
            "suffix": off(),
            "user": ignored(),
        },
        ["model", "prompt"],
    )


def _items() -> Schema:
    """The input of a response."""
    part = {
        "anyOf": [_part()["anyOf"][1], table({"type": {"enum": _TEXTS}, "text": {"type": "string"}}, ["type", "text"])]
    }
    content = _content(part)
    role = {"enum": ["user", "assistant", "system", "developer"]}
    message = table({"type": {"enum": ["message", None, ""]}, "role": role, "content": content}, ["role"])
    reasoning = table({"type": {"const": "reasoning"}, "content": content, "summary": content}, ["type"])
    call = table(
        {
            "type": {"const": "function_call"},
            "name": {"type": "string"},
            "arguments": {"type": ["string", "null"], "contentMediaType": "application/json"},
            "call_id": TEXT,
        },
        ["type", "name"],
    )
    output = table({"type": {"const": "function_call_output"}, "call_id": TEXT, "output": content}, ["type"])
    return {"anyOf": [{"type": "string"}, array({"anyOf": [message, reasoning, call, output]}, 1)]}


_TEXTS = ["input_text", "output_text", "text", "summary_text", "reasoning_text"]


def _response_tool_choice() -> Schema:
    named = table({"type": {"const": "function"}, "name": {"type": "string"}}, ["type", "name"])
    each = table({"name": {"type": "string"}}, ["name"])
    allowed = table(
        {"type": {"const": "allowed_tools"}, "mode": one_of("auto", "required"), "tools": maybe(array(each, high=512))},
        ["type"],
    )
    return {"anyOf": [{"enum": ["auto", "none", "required", None]}, named, allowed]}


def _text_format() -> Schema:
    free = table({"type": one_of("text", "json_object")})
    bound = table({"type": {"const": "json_schema"}, "schema": {"type": "object"}}, ["type", "schema"])
    return maybe(table({"format": {"anyOf": [free, bound, {"type": "null"}]}, "verbosity": ignored()}))


def responses(model: Schema) -> Schema:
    """`POST /v1/responses`."""
    summaries = one_of("auto", "concise", "detailed", about="the thinking stands in `summary`, whole, not in `content`")
    tool = table(
        {
            "type": {"const": "function"},
            "name": TOOL_NAME,
            "description": TEXT,
            "parameters": MAYBE_TABLE,
            "strict": FLAG,
        },
        ["type", "name"],
    )
    sampling = {name: schema for name, schema in _sampling().items() if name not in ("logprobs",)}
    passed = (
        *("store", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("stream_options", "max_tool_calls", "truncation"),
    )
    return table(
        {
            "model": model,
            "input": _items(),
            "instructions": TEXT,
            "stream": FLAG,
            **sampling,
            "max_output_tokens": whole(1, about="thinking included"),
            "reasoning": maybe(
                table({"effort": one_of(*EFFORTS), "summary": summaries, "generate_summary": summaries})
            ),
            "thinking_token_budget": whole(0),
            "tools": maybe(array(tool, high=512)),
            "tool_choice": _response_tool_choice(),
            "text": _text_format(),
            "include": texts(32),
            "top_logprobs": whole(0, 20),
            "metadata": MAYBE_TABLE,
            "user": TEXT,
            **{name: ignored() for name in passed},
            "parallel_tool_calls": said(FLAG, "false: at most one call is told"),
            **{name: off("refused: nothing is kept here") for name in ("previous_response_id", "conversation")},
            **{name: off() for name in ("background", "prompt", "moderation", "context_management")},
        },
        ["model", "input"],
    )


def _ollama(model: Schema) -> dict[str, Schema]:
    options = {
        "temperature": number(0, 100),
        "top_p": number(0, 1),
        "top_k": whole(about="0 and below are off"),
        "min_p": number(0, 1),
        "repeat_penalty": number(0.01, 100),
        "seed": whole(-SEEDS, SEEDS - 1),
        "stop": texts(16),
        "num_predict": whole(-2, about="-1, -2 and 0: as many as there is room for"),
        **{name: off() for name in ("presence_penalty", "frequency_penalty", "mirostat")},
        **{name: one_of(1, about="others than 1 are refused") for name in ("typical_p", "tfs_z")},
    }
    duration = {"type": "string", "pattern": f"^({DURATION})$"}
    keep: dict[str, Any] = {"anyOf": [duration, number(-LONGEST, LONGEST)]}
    return {
        "model": model,
        "stream": said(FLAG, "true if missing"),
        "options": maybe(table(options)),
        "think": {"enum": [True, False, *LEVELS, None]},
        "thinking_token_budget": whole(0, about="the most tokens of thinking; ours, not Ollama's"),
        "format": {"anyOf": [{"enum": ["", "json", None]}, {"type": "object"}]},
        "keep_alive": said(keep, "passed over: models stay as long as the server"),
        "logprobs": FLAG,
        "top_logprobs": whole(0, 20),
        "template": off("refused: templates are the model's own"),
        "images": off(),
    }


def ollama_chat(model: Schema) -> Schema:
    """`POST /api/chat`."""
    call = table(
        {"id": TEXT, "function": table({"name": {"type": "string"}, "arguments": MAYBE_TABLE}, ["name"])}, ["function"]
    )
    shared: dict[str, Schema] = {"content": TEXT, "images": off()}
    assistant: dict[str, Schema] = {"role": {"const": "assistant"}, "thinking": TEXT, "tool_calls": maybe(array(call))}
    tool: dict[str, Schema] = {"role": {"const": "tool"}, "tool_name": TEXT, "name": TEXT, "tool_call_id": TEXT}
    message: Schema = {
        "anyOf": [
            table({"role": {"enum": ["system", "user"]}} | shared, ["role"]),
            table(assistant | shared, ["role"]),
            table(tool | shared, ["role"]),
        ]
    }
    described = table({"type": one_of("function"), "function": _function()}, ["function"])
    return table(
        {
            **_ollama(model),
            "messages": maybe(array(message)),
            "tools": maybe(array(described, high=512)),
        },
        ["model"],
    )


def ollama_generate(model: Schema) -> Schema:
    """`POST /api/generate`."""
    refused = ("context", "suffix", "width", "height", "steps")
    return table(
        {
            **_ollama(model),
            "prompt": said(TEXT, "none loads the model"),
            "system": said(TEXT, "not with raw"),
            "raw": said(FLAG, "the prompt as it stands, without the model's template"),
            **{name: off() for name in refused},
        },
        ["model"],
    )


def show(model: Schema) -> Schema:
    """`POST /api/show`."""
    return table({"model": model, "name": said(ANYTHING, "the older name of `model`"), "verbose": ignored()}, ["model"])


def audit() -> Schema:
    """`POST /audit`."""
    some = [{"required": [name], "properties": {name: {"type": "string", "pattern": r"\S"}}} for name in _AUDITED]
    counts = {name: whole(0, 2**31) for name in ("thinking_tokens", "answer_tokens")}
    return {**table(dict.fromkeys(_AUDITED, TEXT) | counts), "anyOf": some}


_AUDITED = ("thinking", "answer")


def shared() -> dict[str, Schema]:
    """The schemas that stand by themselves."""
    return {"Part": _part(), "Message": _message(), "Tool": _tool()}
